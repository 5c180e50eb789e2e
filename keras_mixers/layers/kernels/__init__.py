"""The one place where a layer asks what it runs on, and whether a faster form may stand in."""

import contextlib
import contextvars
import math
import os
import platform

import keras

_plain = contextvars.ContextVar("plain", default=False)


@contextlib.contextmanager
def reference_kernels():
    """While this lasts every layer computes in its plain form, as for a file that others read."""
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def on_tensorflow_cpu():
    """Whether TensorFlow computes, and on CPUs alone."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return all(device.device_type == "CPU" for device in tf.config.get_visible_devices())


def fused_kernels(x):
    """The module of faster forms where they may compute x, else None.

    They are for float32 in a graph of TensorFlow on CPUs: XLA fuses what the plain forms spell out
    on GPUs and on JAX by itself.
    """
    if _plain.get() or x.dtype != "float32" or keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    if tf.executing_eagerly() or not on_tensorflow_cpu():
        return None
    from keras_mixers.layers.kernels import tensorflow_cpu

    return tensorflow_cpu


def activate(function, x, training):
    """`function(x)`, by the fast kernel where there is one."""
    fast = fused_kernels(x)
    kernel = fast and fast.ACTIVATIONS.get(function)
    if not kernel:
        return function(x)
    return kernel.training(x) if training else kernel.inference(x)


def fused_elementwise(x, training):
    """A scope whose elementwise operators are one loop over memory, where that must be said."""
    fast = fused_kernels(x)
    gains = fast and not training and not is_small(x)
    return fast.fused_elementwise() if gains else contextlib.nullcontext()


def is_small(x):
    """Whether x is known to be so small that a fused kernel takes longer to start than it saves."""
    return None not in x.shape and math.prod(x.shape) <= 2**15


def has_onednn():
    """Whether TensorFlow's kernels are oneDNN's, which fuse what they are given."""
    x86 = platform.machine() in ("x86_64", "AMD64")
    return x86 and os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1") != "0"
