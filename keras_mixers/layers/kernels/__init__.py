"""Choose between a fused kernel and its reference implementation.

The layers are written in `keras.ops`: that is the reference implementation. A fused kernel computes
the same values and gradients faster on one backend and device. A layer asks `find(name, x)` in its
`call`, and uses its reference implementation if the answer is None.

`km.export` and Keras's `model.export` use the reference implementation. A SavedModel of `km.export`
uses kernels made of TensorFlow's own operators.
"""

import contextlib
import contextvars
import math
import os
import platform
import sys

import keras
from keras import ops

from keras_mixers.graph import infers_shapes
from keras_mixers.layers.kernels import half_precision, processor

# What a file may hold: "reference" implementations, or also "plain" kernels; None without a file.
_in_file = contextvars.ContextVar("in_file", default=None)


def reference_kernels():
    """A context in which every layer computes by its reference implementation.

    Exports use this context, because other programs read the operators in their files.
    """
    return _for_file("reference")


def plain_kernels():
    """A context in which the layers use the kernels that a SavedModel can hold.

    They are made of TensorFlow's own operators, so any machine can load them. Which machine traces
    the layers makes no difference.
    """
    return _for_file("plain")


@contextlib.contextmanager
def _for_file(kind):
    token = _in_file.set(kind)
    try:
        yield
    finally:
        _in_file.reset(token)


def on_tensorflow_cpu():
    """Whether the backend is TensorFlow and sees no device other than CPUs."""
    return keras.backend.backend() == "tensorflow" and processor.on_cpu()


def find(name, x):
    """The fused kernel of this name that can compute x, or None.

    There are fused kernels in TensorFlow graphs on CPUs for float32, and for bfloat16 if the
    processor has instructions for it. For JAX on CPUs there are a few, for every dtype. On GPUs,
    XLA fuses the reference implementation.

    Args:
        name: a name in `__all__` of the module of a backend, such as `tensorflow_cpu`.
        x: a tensor in the dtype of the computation.
    """
    _warn_of_slow_dtype(x)
    modules = {"tensorflow": _tensorflow_kernels, "jax": _jax_kernels}
    module = modules.get(keras.backend.backend(), lambda x: None)(x)
    return getattr(module, name, None)


def _tensorflow_kernels(x):
    """The module of kernels for TensorFlow that can compute x, or None."""
    import tensorflow as tf

    if tf.executing_eagerly():
        return None
    from keras_mixers.layers.kernels.tensorflow_cpu import gradients

    # Here, because each layer that may use a kernel calls this function while it is traced.
    gradients.trace_in(tf.compat.v1.get_default_graph())
    if _in_file.get() == "plain" and x.dtype == "float32":
        from keras_mixers.layers.kernels import tensorflow_plain

        return tensorflow_plain
    serves = x.dtype == "float32" or (x.dtype == "bfloat16" and has_fast_bfloat16())
    if _in_file.get() or not serves or not on_tensorflow_cpu() or in_keras_export():
        return None
    from keras_mixers.layers.kernels import tensorflow_cpu

    return tensorflow_cpu


def _jax_kernels(x):
    """The module of kernels for JAX if it computes on CPUs, else None."""
    if _in_file.get() or not processor.on_cpu() or in_keras_export():
        return None
    from keras_mixers.layers.kernels import jax_cpu

    return jax_cpu


def _warn_of_slow_dtype(x):
    """Warn once if x is computed in a dtype that is slow on its device."""
    if _in_file.get() or infers_shapes():
        return
    disadvantage = half_precision.disadvantage(x)
    if disadvantage and not in_keras_export():
        half_precision.warn_once(disadvantage)


def in_keras_export():
    """Whether Keras's `model.export` traces the model, whose converters do not know the kernels.

    Keras has no public way to ask. A look at the calling functions costs a few microseconds.
    """
    frame = sys._getframe()
    while frame and not frame.f_globals.get("__name__", "").startswith("keras.src.export"):
        frame = frame.f_back
    return frame is not None


def activation(function, x):
    """The fused kernel that computes an activation of x, or None."""
    return (find("ACTIVATIONS", x) or {}).get(function)


def activate(function, x, training):
    """`function(x)`, computed by a fused kernel if the function has one."""
    if function is keras.activations.gelu and not training and in_keras_export():
        return 0.5 * x * (1 + ops.erf(x * 2**-0.5))  # because ONNX has no operator for `erfc`
    kernel = activation(function, x)
    if not kernel:
        return function(x)
    return kernel.training(x) if training else kernel.inference(x)


def plus_bias(y, bias):
    """`y + bias`, whose gradient for the bias is exact in bfloat16.

    Keras adds a bias by `tf.nn.bias_add`. On CPUs, the gradient of that operator is summed in
    bfloat16, and so is wrong by more than half for some thousand tokens.
    """
    return y + ops.cast(bias, y.dtype)  # an operator of TensorFlow that sums in float32


def is_small(x):
    """Whether x is so small that a fused kernel takes longer to start than it saves."""
    return None not in x.shape and math.prod(x.shape) <= 2**15


def prefers_float32(x):
    """Whether x is in bfloat16 and small, so that fused kernels compute it in float32 at inference.

    A layer that calls several of them takes less time if they do not round between each other.
    """
    return bool(x.dtype == "bfloat16" and is_small(x) and find("dense_of_few_tokens", x))


def has_onednn():
    """Whether TensorFlow computes with oneDNN, which replaces known patterns by fused kernels.

    The layers in a file are for machines that have it, because the others compute the same.
    """
    if _in_file.get():
        return True
    x86 = platform.machine() in ("x86_64", "AMD64")
    return x86 and os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1") != "0"


def has_fast_bfloat16():
    """Whether TensorFlow computes products in bfloat16 faster than in float32 on this CPU."""
    return has_onednn() and processor.has_bfloat16()
