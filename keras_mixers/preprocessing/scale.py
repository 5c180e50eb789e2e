"""Warn about images whose values are not in 0..255."""

import keras
import numpy as np

from keras_mixers import arguments

# A resize may leave bytes slightly below 0 or above 255, so these limits are wide.
LARGEST_NORMALIZED, SMALLEST_16_BIT = 10, 512


def warn_of_scale(images):
    """Issue a UserWarning if the values of images are known, and are not in 0..255."""
    values = known_values(images)
    if values is None or not values.size:
        return
    lowest, highest = float(values.min()), float(values.max())
    is_float = "float" in keras.backend.standardize_dtype(images.dtype)
    in_unit_range = -1 <= lowest and highest <= 1 and (lowest, highest) != (0, 0)
    normalized = lowest < 0 and highest <= LARGEST_NORMALIZED
    scaled = is_float and (in_unit_range or normalized)
    if scaled or highest >= SMALLEST_16_BIT or not np.isfinite(lowest + highest):
        arguments.warn(
            "Preprocessing expects images with values in 0..255. Received:"
            f" {values.dtype} values from {lowest:.3g} to {highest:.3g}"
        )


def known_values(images):
    """The values as a NumPy array; None while a graph is traced, and for tensors of torch.

    Keras does not trace on torch, so each step of a training would wait for the values.
    """
    if type(images).__module__.startswith("tensorflow"):
        import tensorflow as tf

        return None if tf.is_symbolic_tensor(images) else images.numpy()
    if type(images).__module__.startswith("torch"):
        return None
    try:
        return keras.ops.convert_to_numpy(images)
    except (NotImplementedError, TypeError, ValueError):
        return None
