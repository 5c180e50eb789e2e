"""Check the images, labels and weights of a user; errors name `data` or `validation`."""

import numpy as np

from keras_mixers import arguments
from keras_mixers.data.random_access import CHUNK, from_arrays
from keras_mixers.preprocessing.scale import LARGEST_NORMALIZED

LOWEST, HIGHEST = -256, 511  # because a resize may leave values somewhat outside of 0..255


def images_of_arrays(name, value, multi_label):
    """`Images` of a tuple (images, labels) or (images, labels, weights)."""
    pixels, labels, *weights = value
    pixels = array_of(name, "images", pixels)
    if pixels.ndim == 3:  # grey images without an axis of channels
        pixels = pixels[..., None]
    if pixels.ndim != 4 or not pixels.size:
        raise ValueError(
            f"The images of `{name}` must have the shape (N, H, W, C) or (N, H, W). Received: shape"
            f" {pixels.shape}"
        )
    labels = checked_labels(name, labels, len(pixels), multi_label)
    weights = [checked_weights(name, each, len(pixels)) for each in weights]
    return from_arrays(as_bytes(name, pixels), labels, *weights)


def array_of(name, part, value):
    """A part of the data as an array of numbers."""
    try:
        array = np.asarray(value)
    except Exception as error:  # lists of unequal lengths, for example
        raise ValueError(
            f"The {part} of `{name}` must be an array. {arguments.received(**{part: value})}:"
            f" {arguments.reason(error)}"
        ) from None
    if array.dtype.kind not in "uif":
        raise TypeError(
            f"The {part} of `{name}` must be an array of numbers. Received: an array of"
            f" {array.dtype}"
        )
    return array


def as_bytes(name, pixels):
    """Images with values in 0..255 as bytes: rounded half up and clipped, as a resize does."""
    if pixels.dtype == np.uint8:
        return pixels
    converted = np.empty(pixels.shape, "uint8")
    for begin in range(0, len(pixels), CHUNK):
        part = pixels[begin : begin + CHUNK]
        if not (part.min() >= LOWEST and part.max() <= HIGHEST):  # true for NaN too
            raise scale_error(name, f"from {part.min():.3g} to {part.max():.3g}")
        converted[begin : begin + CHUNK] = np.clip(np.floor(part.astype("float32") + 0.5), 0, 255)
    check_scale(name, converted.max(), pixels.dtype)
    return converted


def check_scale(name, highest, dtype):
    """Raise a ValueError if the highest byte is that of floats in 0..1, or of normalized ones."""
    if dtype.kind == "f" and 0 < highest <= LARGEST_NORMALIZED:
        raise scale_error(name, f"at most {highest}")


def scale_error(name, values):
    """The error about images that are not in 0..255."""
    return ValueError(
        f"The images of `{name}` must be bytes, or floats in 0..255. Received: values {values}"
    )


def checked_labels(name, labels, count, multi_label):
    """Class numbers, int64 `(N,)`; with `multi_label`, 0 and 1 as float32 `(N, num_classes)`."""
    labels = array_of(name, "labels", labels)
    if multi_label:
        if labels.ndim != 2 or len(labels) != count or not labels.shape[1]:
            raise ValueError(
                f"The labels of `{name}` must have the shape ({count}, num_classes) with"
                f" multi_label=True. Received: shape {labels.shape}"
            )
        if not np.isin(labels, (0, 1)).all():
            raise ValueError(
                f"The labels of `{name}` must be 0 or 1 with multi_label=True. Received: values"
                f" from {labels.min()} to {labels.max()}"
            )
        return labels.astype("float32")

    if labels.shape == (count, 1):
        labels = labels[:, 0]
    if labels.ndim == 2 and len(labels) == count:
        return numbers_of_one_hot(name, labels)
    if labels.shape != (count,):
        raise ValueError(
            f"The labels of `{name}` must have the shape ({count},) or ({count}, num_classes) for"
            f" {count} images. Received: shape {labels.shape}"
        )
    most = arguments.LARGEST_INTEGER
    is_valid = (labels >= 0) & (labels < most) & (labels == np.floor(labels))
    if not is_valid.all():
        raise ValueError(
            f"The labels of `{name}` must be class numbers, integers from 0 to {most - 1}."
            f" Received: {labels[~is_valid][0]}"
        )
    return labels.astype("int64")


def numbers_of_one_hot(name, labels):
    """The class numbers of one-hot labels."""
    is_one_hot = (np.count_nonzero(labels, axis=1) == 1) & (labels.max(axis=1) == 1)
    if not is_one_hot.all():
        raise ValueError(
            f"The labels of `{name}` must be class numbers (N,), or one-hot (N, num_classes). If an"
            " image may have several labels or none, pass multi_label=True. Received:"
            f" {arguments.shown(labels[~is_one_hot][0].tolist())}"
        )
    return labels.argmax(axis=1).astype("int64")


def checked_weights(name, weights, count):
    """The weights of the images, float32 `(N,)`."""
    weights = array_of(name, "weights", weights)
    if weights.shape not in ((count,), (count, 1)):
        raise ValueError(
            f"The weights of `{name}` must have the shape ({count},) for {count} images. Received:"
            f" shape {weights.shape}"
        )
    if not (weights.min() >= 0 and 0 < weights.max() <= arguments.LARGEST_REAL):
        raise ValueError(
            f"The weights of `{name}` must be at least 0 and finite, and one above 0. Received:"
            f" values from {weights.min():.3g} to {weights.max():.3g}"
        )
    return weights.reshape(count).astype("float32")
