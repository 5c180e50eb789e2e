"""Choose between a fused kernel and its reference implementation.

The layers are written in `keras.ops`: that is the reference implementation. A fused kernel computes
the same values and gradients faster on one backend. A layer asks `fused_kernels(x)` in its `call`,
or `fused_kernel(name, x)` for a kernel that JAX has too. It uses the reference implementation if
the answer is None.

`km.export` and Keras's `model.export` use the reference implementation.
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

_reference_only = contextvars.ContextVar("reference_only", default=False)


@contextlib.contextmanager
def reference_kernels():
    """Within this context every layer computes by its reference implementation.

    Exports use this context, because other programs read the operators in their files.
    """
    token = _reference_only.set(True)
    try:
        yield
    finally:
        _reference_only.reset(token)


def on_tensorflow_cpu():
    """Whether the backend is TensorFlow and sees no device other than CPUs."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return all(device.device_type == "CPU" for device in tf.config.get_visible_devices())


def fused_kernels(x, dtypes=("float32", "bfloat16")):
    """The module of fused kernels that can compute x, or None.

    There are fused kernels for float32 and bfloat16 in TensorFlow graphs on CPUs. Those for
    bfloat16 need a processor with bfloat16 instructions. On GPUs and on JAX, XLA fuses the
    reference implementation by itself. The few kernels for JAX on CPUs are in `fused_kernel`.

    Args:
        x: a tensor in the dtype of the computation.
        dtypes: those that the wanted kernel can compute.
    """
    _warn_of_slow_dtype(x)
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    if tf.executing_eagerly():
        return None
    from keras_mixers.layers.kernels.tensorflow_cpu import gradients

    # Here, because each layer that may use a kernel calls this function while it is traced.
    gradients.trace_in(tf.compat.v1.get_default_graph())
    if _reference_only.get() or x.dtype not in dtypes or not on_tensorflow_cpu():
        return None
    if in_keras_export():
        return None
    if x.dtype == "bfloat16" and not has_fast_bfloat16():
        return None
    from keras_mixers.layers.kernels import tensorflow_cpu

    return tensorflow_cpu


def fused_kernel(name, x, dtypes=("float32", "bfloat16")):
    """The fused kernel of this name that can compute x, or None: on TensorFlow or on JAX.

    Those for JAX can compute every dtype; `dtypes` is for TensorFlow.
    """
    return getattr(fused_kernels(x, dtypes) or _jax_kernels(), name, None)


def _jax_kernels():
    """The module of fused kernels if the backend is JAX and computes on CPUs, else None."""
    if keras.backend.backend() != "jax" or _reference_only.get():
        return None
    import jax

    if jax.default_backend() != "cpu" or in_keras_export():
        return None
    from keras_mixers.layers.kernels import jax_cpu

    return jax_cpu


def _warn_of_slow_dtype(x):
    """Warn once if x is computed in a dtype that is slow on its device."""
    if _reference_only.get() or infers_shapes():
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


def activate(function, x, training):
    """`function(x)`, computed by a fused kernel if the function has one."""
    if function is keras.activations.gelu and not training and in_keras_export():
        return 0.5 * x * (1 + ops.erf(x * 2**-0.5))  # because ONNX has no operator for `erfc`
    fused = fused_kernels(x)
    if jax_kernels := _jax_kernels():
        return jax_kernels.ACTIVATIONS.get(function, function)(x)
    kernel = fused and fused.ACTIVATIONS.get(function)
    if not kernel:
        return function(x)
    return kernel.training(x) if training else kernel.inference(x)


def activate_separately(function, x, training):
    """`function(x)` where no product comes before it, with which oneDNN could fuse it."""
    fused = fused_kernels(x)
    kernel = fused and fused.ACTIVATIONS.get(function)
    if kernel and not training and not is_small(x):
        return kernel.forward(x)
    return activate(function, x, training)


def is_small(x):
    """Whether x is so small that a fused kernel takes longer to start than it saves."""
    return None not in x.shape and math.prod(x.shape) <= 2**15


def has_onednn():
    """Whether TensorFlow computes with oneDNN, which replaces known patterns by fused kernels."""
    x86 = platform.machine() in ("x86_64", "AMD64")
    return x86 and os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1") != "0"


def has_fast_bfloat16():
    """Whether TensorFlow computes products in bfloat16 faster than in float32 on this CPU."""
    return has_onednn() and processor.has_bfloat16()
