"""Read the images of any kind of item, each in the size of the model."""

import numpy as np

from keras_mixers import arguments
from keras_mixers.data.decoded import decoded
from keras_mixers.data.image_files import from_files
from keras_mixers.data.readable import NOT_AN_IMAGE, decoders_of
from keras_mixers.predicting.items import is_pillow
from keras_mixers.preprocessing.decode import CHANNELS, MAX_SIDE
from keras_mixers.preprocessing.header import PILLOW, TENSORFLOW
from keras_mixers.preprocessing.pillow import eight_bits, open_image
from keras_mixers.preprocessing.pixels import to_channels
from keras_mixers.probe.images import check_finite

READABLE = "`files` must be readable images"


def read(items, preprocessing, channels):
    """Yield the bytes `(h, w, C)` of each item after the first step of the preprocessing.

    Raises:
        ValueError, TypeError: if an item is not a readable image; the message names it.
    """
    paths = [item for item in items if isinstance(item, str)]
    if paths or any(map(is_pillow, items)):
        check_channels(channels)
    decoders = dict(zip(paths, decoders_of(paths), strict=True))
    for path, decoder in decoders.items():  # before the first batch is classified
        if decoder not in (TENSORFLOW, PILLOW):
            raise ValueError(f"{READABLE}. Received: {path!r}: {decoder or NOT_AN_IMAGE}")
    for_tensorflow = [path for path in paths if decoders[path] == TENSORFLOW]
    files = file_pixels(for_tensorflow, preprocessing, channels)
    for index, item in enumerate(items):
        decoder = decoders[item] if isinstance(item, str) else None
        if decoder == TENSORFLOW:
            yield next(files)
        elif decoder == PILLOW or is_pillow(item):
            yield preprocessing.resize(pillow_pixels(index, item, channels)).numpy()
        else:
            yield preprocessing.resize(array_pixels(index, item, channels)).numpy()


def file_pixels(paths, preprocessing, channels):
    """Yield the resized bytes of each file; threads read the next ones while the caller works."""
    import tensorflow as tf

    if not paths:
        return
    images = from_files([(path, 0) for path in paths], channels).resized(preprocessing)
    found = iter(images.dataset())
    for path in paths:
        try:
            yield next(found)[0].numpy()
        except tf.errors.OpError as error:
            _, problems = decoded([path], {})
            problem = problems.get(path, arguments.reason(error))
            raise ValueError(f"{READABLE}. Received: {path!r}: {problem}") from None


def check_channels(channels):
    """Raise a ValueError if files and PIL images cannot have this number of channels."""
    if channels not in CHANNELS:
        raise ValueError(
            f"`files` must be arrays of shape (H, W, {channels}) for a model of {channels}"
            " channels, because image files have 1, 3 or 4. Received: a file or a PIL image"
        )


def pillow_pixels(index, item, channels):
    """The pixels of a PIL image, or of a file that Pillow decodes: upright, and over white."""
    is_path = isinstance(item, str)
    try:
        image = open_image(item) if is_path else eight_bits(item)
    except (OSError, ValueError, SyntaxError) as error:
        name = repr(item) if is_path else f"image {index}, {item!r}"
        raise ValueError(f"{READABLE}. Received: {name}: {arguments.reason(error)}") from None
    return to_channels(np.atleast_3d(image), channels)


def array_pixels(index, image, channels):
    """An array `(H, W, C)` as bytes, or as float32."""
    pixels = check_finite("files", image)
    if pixels.ndim != 3 or pixels.shape[-1] != channels or 0 in pixels.shape:
        raise ValueError(
            f"`files` must hold arrays of shape (H, W, {channels}), to fit the model. Received:"
            f" image {index} of shape {pixels.shape}"
        )
    if max(pixels.shape[:2]) > MAX_SIDE:
        raise ValueError(
            f"`files` must hold arrays of at most {MAX_SIDE} pixels on one side. Received: image"
            f" {index} of shape {pixels.shape}; make it smaller"
        )
    return pixels if pixels.dtype == np.uint8 else pixels.astype("float32")
