"""Read the images of any kind of item, each in the size of the model."""

import io

import numpy as np

from keras_mixers import arguments
from keras_mixers.data.check import sizes_and_problems
from keras_mixers.data.random_access import from_files
from keras_mixers.predicting.items import is_pillow
from keras_mixers.preprocessing.decode import CHANNELS, traced_decoder
from keras_mixers.probe.images import check_finite

PNG_MODES = ("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA")  # that Pillow writes as PNG
READABLE = "`files` must be readable images"


def read(items, preprocessing, channels):
    """Yield the bytes `(h, w, C)` of each item after the first step of the preprocessing.

    Raises:
        ValueError, TypeError: if an item is not a readable image; the message names it.
    """
    paths = [item for item in items if isinstance(item, str)]
    files = file_pixels(paths, preprocessing, channels)
    for index, item in enumerate(items):
        if isinstance(item, str):
            yield next(files)
        elif is_pillow(item):
            yield preprocessing.resize(pillow_pixels(index, item, channels)).numpy()
        else:
            yield preprocessing.resize(array_pixels(index, item, channels)).numpy()


def file_pixels(paths, preprocessing, channels):
    """Yield the resized bytes of each file; threads read the next ones while the caller works."""
    import tensorflow as tf

    if not paths:
        return
    check_channels(channels)
    images = from_files([(path, 0) for path in paths], channels).resized(preprocessing)
    found = iter(images.dataset())
    for path in paths:
        try:
            yield next(found)[0].numpy()
        except tf.errors.OpError as error:
            _, bad = sizes_and_problems([(path, 0)])
            problem = bad.get(path, arguments.reason(error))
            raise ValueError(f"{READABLE}. Received: {path!r}: {problem}") from None


def check_channels(channels):
    """Raise a ValueError if files and PIL images cannot have this number of channels."""
    if channels not in CHANNELS:
        raise ValueError(
            f"`files` must be arrays of shape (H, W, {channels}) for a model of {channels}"
            " channels, because image files have 1, 3 or 4. Received: a file or a PIL image"
        )


def pillow_pixels(index, image, channels):
    """The pixels of a PIL image as those of a file: upright, and over white."""
    import tensorflow as tf

    check_channels(channels)
    content = io.BytesIO()
    try:
        written = image if image.mode in PNG_MODES else image.convert("RGB")
        written.save(content, "PNG", compress_level=0, exif=image.getexif())
        pixels, problem = traced_decoder(channels)(content.getvalue())
        problem = problem.numpy().decode()
    except (OSError, ValueError, SyntaxError, tf.errors.OpError) as error:
        problem = arguments.reason(error)
    if problem:
        raise ValueError(f"{READABLE}. Received: image {index}, {image!r}: {problem}")
    return pixels


def array_pixels(index, image, channels):
    """An array `(H, W, C)` as bytes, or as float32."""
    pixels = check_finite("files", image)
    if pixels.ndim != 3 or pixels.shape[-1] != channels or 0 in pixels.shape:
        raise ValueError(
            f"`files` must hold arrays of shape (H, W, {channels}), to fit the model. Received:"
            f" image {index} of shape {pixels.shape}"
        )
    return pixels if pixels.dtype == np.uint8 else pixels.astype("float32")
