"""Choose between the fused update of an optimizer and Keras's."""

import contextlib

import keras

from keras_mixers.layers.kernels import on_tensorflow_cpu


@contextlib.contextmanager
def fused_adam(optimizer, method="update_step"):
    """Within this context, Adam and AdamW of Keras update each weight by one kernel, if they can.

    Other optimizers are unchanged. The kernel divides by `1 - beta`, rounded to float32, where Keras
    rounds after the subtraction. So an update may differ by 1e-5 of its size.

    Args:
        method: the name of the optimizer's method that is Keras's `Adam.update_step`.
    """
    if not has_fused_adam(optimizer, method):
        yield
        return
    from keras_mixers.layers.kernels import tensorflow_cpu

    vars(optimizer)[method] = tensorflow_cpu.adam_step(optimizer)
    try:
        yield
    finally:
        del vars(optimizer)[method]


def has_fused_adam(optimizer, method):
    """Whether a kernel computes the optimizer's `method`."""
    if not (isinstance(optimizer, keras.optimizers.Adam) and on_tensorflow_cpu()):
        return False
    import tensorflow as tf

    own = getattr(type(optimizer), method)
    changed = method == "update_step" and own is not keras.optimizers.Adam.update_step
    # With several replicas, a variable stands for one array on each of them.
    return not (
        changed or method in vars(optimizer) or optimizer.amsgrad or tf.distribute.has_strategy()
    )
