"""Change between bfloat16 and float32 inside functions that XLA compiles.

XLA's own conversions, and its arithmetic in bfloat16, are slower on CPUs than these operations on
the bits, because XLA converts number by number instead of vector by vector.
"""

import tensorflow as tf


def wide(x):
    """X in float32, if it is bfloat16; the other floats stay as they are."""
    return _wide(x) if x.dtype == tf.bfloat16 else x


def narrow(y, dtype):
    """Y in bfloat16, if that is the dtype, rounded to the nearest number, and to even in a tie.

    For other dtypes y stays as it is.
    """
    return _narrow(y) if dtype == tf.bfloat16 else y


# TensorFlow has no gradient for operations on bits. The kernels have closed-form gradients, which
# contain these functions, so second derivatives need gradients of them.


@tf.custom_gradient
def _wide(x):
    bits = tf.cast(tf.bitcast(x, tf.uint16), tf.uint32)
    return tf.bitcast(tf.bitwise.left_shift(bits, _constant(16)), tf.float32), _narrow


@tf.custom_gradient
def _narrow(y):
    bits = tf.bitcast(y, tf.uint32)
    last = tf.bitwise.bitwise_and(_upper(bits), _constant(1))
    rounded = _upper(bits + _constant(0x7FFF) + last)
    # Because the sum would make an infinity or a zero of some NaNs.
    rounded = tf.where(tf.math.is_nan(y), _constant(0x7FC0), rounded)
    return tf.bitcast(tf.cast(rounded, tf.uint16), tf.bfloat16), _wide


def _upper(bits):
    """The upper 16 of 32 bits."""
    return tf.bitwise.right_shift(bits, _constant(16))


def _constant(number):
    return tf.constant(number, tf.uint32)
