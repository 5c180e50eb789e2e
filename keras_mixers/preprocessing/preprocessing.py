"""Preprocessing as a function for tf.data, and its layer."""

import dataclasses

from keras_mixers.preprocessing import resample
from keras_mixers.preprocessing.layer import PreprocessImages
from keras_mixers.preprocessing.specification import Specification


@dataclasses.dataclass(frozen=True)
class Preprocessing(Specification):
    """What a checkpoint expects of an image: `(central crop of resize(image) / 255 - mean) / std`.

    The image is resized until `size / crop_fraction` just fits into it, its aspect kept, and the
    centre is cut out: timm's evaluation transform. The resize is Pillow's, antialiased and rounded
    to bytes after each axis. Two forms give the same numbers: `layer()` goes into a model, the
    object itself is a function for `dataset.map`.

    Shapes: `(H, W, C) -> (*size, C)` and `(N, H, W, C) -> (N, *size, C)`, from bytes or floats in
    0..255 to float32.

    Args:
        size: (height, width) of the result, or an int for a square.
        crop_fraction: side of the crop over side of the resized image, above 0 and at most 1.
        interpolation: `"bicubic"` or `"bilinear"`. timm's own transform for a size that is not
            square forgets the checkpoint's choice and takes `"bilinear"`; here it is as said.
        mean: subtracted from the image in 0..1; a number for each channel, or one for all.
        std: what the difference is divided by, likewise.

    Raises:
        ValueError: `mean` or `std` does not have one number for each channel of the image.

    Example:
        >>> import numpy as np
        >>> preprocessing = Preprocessing(224, crop_fraction=0.9)
        >>> preprocessing
        Preprocessing(size=(224, 224), crop_fraction=0.9, interpolation='bicubic', \
mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        >>> preprocessing.layer()(keras.Input((None, None, 3), dtype="uint8")).shape
        (None, 224, 224, 3)
        >>> image, label = preprocessing(np.zeros((480, 640, 3), "uint8"), 1)
        >>> image.shape
        TensorShape([224, 224, 3])

    Source: timm, `timm/data/transforms_factory.py`, `transforms_imagenet_eval`.
    """

    def __call__(self, image, *rest):
        """The image, preprocessed, and whatever came with it, untouched: for `dataset.map`."""
        image = self.normalize(self.resize(image))
        return (image, *rest) if rest else image

    def resize(self, image):
        """The first half, in bytes: the central crop of the resized image."""
        import tensorflow as tf  # which tf.data is on every backend

        image = tf.convert_to_tensor(image)
        if image.shape.rank not in (3, 4):
            raise ValueError(
                "`image` must have shape (H, W, C) or (N, H, W, C). Received: image of shape"
                f" {image.shape}"
            )
        self.check_channels(image.shape[-1])
        single = image.shape.rank == 3
        images = image[None] if single else image
        sides = [known or tf.shape(images)[i] for i, known in enumerate(images.shape)]
        images = tf.cast(
            resample.resized(self, images, *sides[1:3], resample.tensorflow()), "uint8"
        )
        return images[0] if single else images

    def normalize(self, image):
        """The second half: bytes, or floats in 0..255, to float32 about 0."""
        import tensorflow as tf

        self.check_channels(image.shape[-1])
        return resample.normalized(self, tf.cast(image, "float32"))

    def layer(self, name: str = "preprocessing"):
        """The layer that does this inside a model."""
        return PreprocessImages(**self.get_config(), name=name)
