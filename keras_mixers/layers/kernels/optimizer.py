"""Choose between the fused update of an optimizer and Keras's."""

import contextlib

import keras

from keras_mixers.layers.kernels import on_tensorflow_cpu


@contextlib.contextmanager
def fused_adam(optimizer, method="update_step"):
    """Within this context, Keras's Adam and AdamW update each weight by one kernel.

    Optimizers that have no such kernel are unchanged. The kernel rounds `1 - beta` after `beta`,
    and Keras rounds only the difference. So an update may differ by about 1e-5 of its size.

    Args:
        optimizer: any optimizer, or None.
        method: the name of its method that computes Adam's `update_step`.
    """
    if not has_fused_adam(optimizer, method):
        yield
        return
    from keras_mixers.layers.kernels.tensorflow_cpu.adam import adam_step, decay_weights

    fused = {method: adam_step(optimizer), "_apply_weight_decay": decay_weights(optimizer)}
    vars(optimizer).update(fused)
    try:
        yield
    finally:
        for name in fused:
            del vars(optimizer)[name]


def has_fused_adam(optimizer, method):
    """Whether a kernel computes the same as a method of the optimizer."""
    if not isinstance(optimizer, keras.optimizers.Adam) or optimizer.amsgrad:
        return False
    update_step = keras.optimizers.Adam.update_step
    overridden = method == "update_step" and type(optimizer).update_step is not update_step
    if overridden or method in vars(optimizer) or not on_tensorflow_cpu():
        return False
    import tensorflow as tf

    return not tf.distribute.has_strategy()  # because a weight then has a copy on each replica
