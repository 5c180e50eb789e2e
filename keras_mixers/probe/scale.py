"""Warn about images on another scale than the model expects."""

import contextlib
import contextvars

import keras
import numpy as np

from keras_mixers import arguments
from keras_mixers.graph import layer_calls
from keras_mixers.layers import PatchEmbed

LARGEST_NORMALIZED = 10  # above all values of preprocessed images, and below most bytes
SCALE_CHECKED = contextvars.ContextVar("scale_checked", default=False)
FIRST_LAYERS = (PatchEmbed, keras.layers.Conv2D, keras.layers.Dense)
# Layers and operations that may come before these and keep the scale of images.
KEEP_SCALE = {
    *("Cast", "CenterCrop", "Cropping2D", "Dropout", "Flatten", "Identity", "Permute", "Reshape"),
    *("Resizing", "Transpose", "ZeroPadding2D"),
}


def warn_of_bytes(model, images):
    """Issue a UserWarning for images in bytes if the model does not rescale them."""
    values = keras.ops.convert_to_numpy(images)
    largest = float(np.abs(values.astype("float32")).max())
    is_bytes = largest > (1 if values.dtype.kind in "iu" else LARGEST_NORMALIZED)
    if is_bytes and not SCALE_CHECKED.get() and not rescales(model):
        arguments.warn(
            f"Model '{model.name}' expects preprocessed images, for example with values in [-1, 1];"
            f" see `value_range` of its `Preprocessing`. Received: {values.dtype} images with"
            f" values up to {largest:.4g}"
        )


@contextlib.contextmanager
def scale_checked():
    """Inside the `with` statement, `warn_of_bytes` does nothing, because it was called before."""
    token = SCALE_CHECKED.set(True)
    try:
        yield
    finally:
        SCALE_CHECKED.reset(token)


def rescales(model):
    """Whether a model may rescale its images before it uses weights."""
    for node in layer_calls(model).values():
        kind = type(node.operation).__name__
        if isinstance(node.operation, FIRST_LAYERS):
            return False
        if not kind.startswith("Random") and kind not in KEEP_SCALE:
            return True
    return False
