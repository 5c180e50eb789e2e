"""Preprocessing as a function for tf.data; its layer computes the same."""

import dataclasses
from typing import Any

import keras

from keras_mixers.preprocessing.layer import PreprocessImages
from keras_mixers.preprocessing.resample import Resampler, tensorflow_ops
from keras_mixers.preprocessing.scale import warn_of_scale
from keras_mixers.preprocessing.specification import Specification
from keras_mixers.serialization import registered


@registered
@dataclasses.dataclass(frozen=True)
class Preprocessing(Specification):
    """What a checkpoint expects of an image: `(central crop of resize(image) / 255 - mean) / std`.

    This is timm's evaluation transform. It resizes the image, keeps its aspect ratio, and makes it
    just large enough to hold `size / crop_fraction`. Then it cuts out the centre. The resize is
    Pillow's: antialiased, and rounded to bytes after each axis. `crop_mode` can change the ratio.

    Two forms give the same numbers. The object is a function for `dataset.map`; `layer()` gives a
    layer for a model.

    Shapes: `(H, W, C) -> (*size, C)` and `(N, H, W, C) -> (N, *size, C)`, from bytes or floats in
    0..255 to float32 in `value_range`, which is [-1, 1] by default. Models expect the result; they
    do not expect bytes. Floats on another scale, such as 0..1, and NaN, which becomes an arbitrary
    byte, give a warning.

    Args:
        size: (height, width) of the result in pixels, or an int for a square.
        crop_fraction: side of the crop divided by side of the resized image, above 0, at most 1.
        interpolation: `"bicubic"` or `"bilinear"`. timm ignores the checkpoint's choice for a
            size that is not square, and uses `"bilinear"`. This class uses what is given.
        mean: subtracted from the image in 0..1; one number for each channel, or one for all.
        std: the difference is divided by it; one number for each channel, or one for all.
        crop_mode: `"center"` keeps the image's aspect ratio, and cuts off what does not fit.
            `"squash"` resizes the image to `size / crop_fraction` without keeping the ratio, so
            that `crop_fraction=1` keeps the whole image.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it.
        ValueError: if `mean` or `std` does not have one number for each channel of the image.

    Example:
        >>> import numpy as np
        >>> preprocessing = Preprocessing(224, crop_fraction=0.9)
        >>> preprocessing
        Preprocessing(size=(224, 224), crop_fraction=0.9, interpolation='bicubic', \
mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop_mode='center')
        >>> preprocessing.layer()(keras.Input((None, None, 3), dtype="uint8")).shape
        (None, 224, 224, 3)
        >>> image, label = preprocessing(np.zeros((480, 640, 3), "uint8"), 1)
        >>> image.shape
        TensorShape([224, 224, 3])

    Source: timm, `timm/data/transforms_factory.py`, `transforms_imagenet_eval`.
    """

    def __call__(self, image: Any, *rest: Any) -> Any:
        """Preprocess an image and pass the rest of the element through: for `dataset.map`."""
        image = self.normalize(self.resize(image))
        return (image, *rest) if rest else image

    def resize(self, image: Any) -> Any:
        """The first step: the central crop of the resized image, in bytes."""
        import tensorflow as tf  # because tf.data runs TensorFlow on every backend of Keras

        image = tf.convert_to_tensor(image)
        if image.shape.rank not in (3, 4):
            raise ValueError(
                "`image` must have shape (H, W, C) or (N, H, W, C). Received: image of shape"
                f" {image.shape}"
            )
        self.check_channels(image.shape[-1])
        warn_of_scale(image)
        single = image.shape.rank == 3
        images = image[None] if single else image
        _, *sizes = (known or tf.shape(images)[axis] for axis, known in enumerate(images.shape))
        images = Resampler(self, *sizes, tensorflow_ops())(images)
        return images[0] if single else images

    def normalize(self, image: Any) -> Any:
        """The second step, to float32: `(image / 255 - mean) / std`."""
        import tensorflow as tf

        self.check_channels(image.shape[-1])
        return self.standardize(tf.cast(image, "float32"))

    def layer(self, name: str = "preprocessing") -> keras.layers.Layer:
        """The Keras layer that computes the same inside a model."""
        return PreprocessImages(**self.get_config(), name=name)
