"""Check the images that a model gets: a batch `images`, or one `image`."""

import keras
import numpy as np

from keras_mixers import arguments
from keras_mixers.graph import functional


def check_images(model, images):
    """Check a finite batch `(N, H, W, C)` that fits the model's one input.

    Raises:
        ValueError, TypeError: if `images` is not such an array.
    """
    shape = input_shape(model)
    if not hasattr(images, "shape"):
        raise ValueError(
            f"`images` must be an array of shape {shape_text('N', *shape)}, to fit model"
            f" '{model.name}'. Received: a {type(images).__name__}"
        )
    given = check_finite("images", images).shape
    if len(given) != len(shape) + 1 or not fits(given[1:], shape) or not given[0]:
        hint = "; `image[None]` is a batch of one" if fits(given, shape) else ""
        raise ValueError(
            f"`images` must be an array of shape {shape_text('N', *shape)} with at least one image,"
            f" to fit model '{model.name}'. Received: shape {given}{hint}"
        )


def one_image(model, image):
    """Check one finite image `(H, W, C)` that fits the model's one input; return a batch of one.

    Raises:
        ValueError, TypeError: if `image` is not such an array.
    """
    shape = input_shape(model)
    array = check_finite("image", image)
    if not fits(array.shape, shape):
        hint = "; `images[0]` is one image of a batch" if fits(array.shape[1:], shape) else ""
        raise ValueError(
            f"`image` must be an array of shape {shape_text(*shape)}, one image, to fit model"
            f" '{model.name}'. Received: shape {array.shape}{hint}"
        )
    return array[None]


def input_shape(model):
    """The shape of one image, from the model's one input; None is a side of any size."""
    inputs = functional(model).inputs
    if len(inputs) != 1:
        raise ValueError(
            f"`model` must have one input. Received: '{model.name}', which has {len(inputs)}"
        )
    return tuple(inputs[0].shape[1:])


def shape_text(*shape):
    """A shape for an error message."""
    return f"({', '.join(str(side or 'any') for side in shape)})"


def fits(shape, expected):
    """Whether a shape has the expected sides, of which None may be any."""
    same = [e in (None, g) for e, g in zip(expected, shape, strict=False)]
    return len(shape) == len(expected) and all(same)


def check_finite(name, value):
    """An argument as an array of numbers that are finite in float32.

    Raises:
        ValueError, TypeError: if it is something else.
    """
    array = numbers_of(name, value)
    with np.errstate(over="ignore"):
        if not np.isfinite(array.astype("float32", copy=False)).all():
            raise ValueError(
                f"`{name}` must be finite. Received: NaN, infinity, or numbers beyond float32"
            )
    return array


def numbers_of(name, value):
    """An argument as a NumPy array of real numbers.

    Raises:
        TypeError: if it is something else.
    """
    try:
        array = keras.ops.convert_to_numpy(value)
        array = array if array.dtype.kind in "biuf" else array.astype("float32", casting="safe")
    except Exception:  # each backend has its own errors for values that it cannot convert
        received = arguments.received(**{name: value})
        raise TypeError(f"`{name}` must be an array of real numbers. {received}") from None
    return array
