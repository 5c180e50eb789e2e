"""Choose between the fused update of an optimizer and Keras's."""

import contextlib

import keras

from keras_mixers.graph import decay_method
from keras_mixers.layers.kernels import on_tensorflow_cpu


@contextlib.contextmanager
def fused_adam(optimizer, step=keras.optimizers.Adam.update_step):
    """Within this context, Keras's Adam and AdamW update and decay each weight by one kernel.

    Optimizers that have no such kernel are unchanged, and so are methods that a user overrides.
    The kernel rounds `1 - beta` after `beta`, and Keras rounds only the difference. So an update
    may differ by about 1e-5 of its size.

    Args:
        optimizer: any optimizer, or None.
        step: the method that computes Adam's `update_step`.
    """
    if not has_kernels(optimizer):
        yield
        return
    from keras_mixers.layers.kernels.tensorflow_cpu.adam import adam_step, decay_weights

    kernels = {step: adam_step, decay_method(keras.optimizers.Adam): decay_weights}
    fused = {
        method.__name__: kernel(optimizer)
        for method, kernel in kernels.items()
        if getattr(getattr(optimizer, method.__name__), "__func__", None) is method
    }
    vars(optimizer).update(fused)
    try:
        yield
    finally:
        for name in fused:
            del vars(optimizer)[name]


def has_kernels(optimizer):
    """Whether there are kernels for an optimizer on this device."""
    if not isinstance(optimizer, keras.optimizers.Adam) or optimizer.amsgrad:
        return False
    if not on_tensorflow_cpu():
        return False
    import tensorflow as tf

    return not tf.distribute.has_strategy()  # because a weight then has a copy on each replica
