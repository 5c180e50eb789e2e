"""The one place where a layer asks what it runs on, and whether a faster form may stand in."""

import contextlib
import contextvars
import os
import platform

import keras

_plain = contextvars.ContextVar("plain", default=False)


@contextlib.contextmanager
def plain_forms():
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

    return not tf.config.get_visible_devices("GPU")


def fast_forms(x):
    """The module of faster forms where they may compute x, else None.

    They are for float32 in a graph of TensorFlow on CPUs: XLA fuses what the plain forms spell out
    on GPUs and on JAX by itself.
    """
    if _plain.get() or not on_tensorflow_cpu():
        return None
    import tensorflow as tf

    if tf.executing_eagerly() or x.dtype != "float32":
        return None
    from keras_mixers.layers import tensorflow_cpu

    return tensorflow_cpu


def one_pass(x, training):
    """A scope whose elementwise operators are one loop over memory, where that must be said."""
    fast = fast_forms(x)
    return fast.one_pass() if fast and not training else contextlib.nullcontext()


def has_onednn():
    """Whether TensorFlow's kernels are oneDNN's, which fuse what they are given."""
    x86 = platform.machine() in ("x86_64", "AMD64")
    return x86 and os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1") != "0"
