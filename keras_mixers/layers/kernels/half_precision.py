"""Warn about dtypes that are slower than float32 on the processor."""

import functools

import keras

from keras_mixers import arguments
from keras_mixers.layers.kernels import processor


def disadvantage(x):
    """Why the dtype of x is slower than float32 on the device that computes x, or None."""
    dtype = keras.backend.standardize_dtype(x.dtype)
    if dtype == "float16" and processor.on_cpu(x):
        better = "'mixed_bfloat16' or 'float32'" if processor.has_bfloat16() else "'float32'"
        return (
            "A layer computes in float16 on a CPU, because of the dtype policy 'mixed_float16' or"
            " 'float16'. On CPUs float16 is slower than float32, and small gradients become 0."
            f" Use the dtype policy {better} on CPUs"
        )
    on_tensorflow_cpu = keras.backend.backend() == "tensorflow" and processor.on_cpu(x)
    if dtype == "bfloat16" and on_tensorflow_cpu and not processor.has_bfloat16():
        return (
            "A layer computes in bfloat16 on a CPU, because of the dtype policy 'mixed_bfloat16' or"
            " 'bfloat16'. TensorFlow finds no bfloat16 instructions in this processor, and is"
            " slower than in float32 without them. Use the dtype policy 'float32' on this CPU"
        )
    return None


@functools.cache
def warn_once(message):
    """Issue a warning, once a process."""
    arguments.warn(message)
