"""Augmentation of training images: as data, and applied to whole batches by Keras's layers."""

import dataclasses
import functools

import keras

from keras_mixers import arguments
from keras_mixers.arguments import CheckedDataclass, checked, non_negative
from keras_mixers.data.rand_augment import RandAugment, apply_layer, apply_mixer
from keras_mixers.serialization import ConfigFromSignature

# Width over height of a random crop, from "Going Deeper with Convolutions", arXiv 1409.4842.
CROP_RATIO = (3 / 4, 4 / 3)
# Fraction of the image's area that random erasing replaces, from its paper.
ERASED_AREA = (0.02, 1 / 3)


def _check_pair(name, value, expected):
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"{expected} {arguments.received(**{name: value})}")


def _crop_scale(name, value):
    expected = f"`{name}` must be None or (lowest, highest), with 0 < lowest <= highest <= 1."
    _check_pair(name, value, expected)
    lowest, highest = (non_negative(name, fraction) for fraction in value)
    if not 0 < lowest <= highest <= 1:
        raise ValueError(f"{expected} {arguments.received(**{name: value})}")
    return lowest, highest


def _rand_augment(name, value):
    expected = f"`{name}` must be None or (transformations per image, magnitude from 0 to 10)."
    _check_pair(name, value, expected)
    num_ops = arguments.integer(name, value[0], maximum=10)
    magnitude = non_negative(name, value[1])
    if magnitude > 10:
        raise ValueError(f"{expected} {arguments.received(**{name: value})}")
    return num_ops, magnitude


def _cutmix(name, value):
    if non_negative(name, value) > 1:
        raise ValueError(f"`{name}` must be from 0 to 1. {arguments.received(**{name: value})}")
    return float(value)


@dataclasses.dataclass(frozen=True)
class Augmentation(CheckedDataclass, ConfigFromSignature):
    """Random changes to training images, drawn again in every epoch.

    The input pipeline crops single images, and applies the other changes to whole batches by
    Keras's layers, in the order of the arguments. The first four work on bytes, the others on
    preprocessed images. With `mixup` or `cutmix` the labels become soft labels, `(N, num_classes)`.

    Args:
        crop_scale: (lowest, highest) fraction of the image's area that a random crop keeps. The
            crop has an aspect ratio from 3:4 to 4:3 and is resized. `None` for the central crop of
            the preprocessing.
        flip: whether to mirror half of the images left to right.
        translation: largest shift, as a fraction of the height and width. The border pixels are
            repeated.
        rand_augment: (transformations per image, magnitude from 0 to 10), or `None`. Each image has
            its transformations drawn separately, from the paper's list without the identity. The
            paper's `Color` only desaturates here, and is drawn only for RGB images.
        erasing: fraction of the images in which noise replaces a rectangle.
        mixup: alpha of the beta distribution from which mixing weights are drawn; 0 for no MixUp.
        cutmix: alpha of the beta distribution for CutMix, at most 1; 0 for no CutMix. If both are
            on, each batch gets one of the two.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it.

    Example:
        >>> Augmentation(flip=True, rand_augment=(2, 9), mixup=0.2)
        Augmentation(crop_scale=None, flip=True, translation=0.0, rand_augment=(2, 9.0), \
erasing=0.0, mixup=0.2, cutmix=0.0)

    Source: RandAugment: arXiv 1909.13719; random erasing: arXiv 1708.04896; mixup: arXiv
    1710.09412; CutMix: arXiv 1905.04899.
    """

    crop_scale: tuple[float, float] | None = checked(_crop_scale, None)
    flip: bool = checked(arguments.flag, False)
    translation: float = checked(arguments.rate, 0.0)
    rand_augment: tuple[int, float] | None = checked(_rand_augment, None)
    erasing: float = checked(arguments.rate, 0.0)
    mixup: float = checked(non_negative, 0.0)
    cutmix: float = checked(_cutmix, 0.0)


class Augmenter:
    """Apply an `Augmentation` to batches of images of one size.

    Random crops are not included, because they change the size: see `random_crop`.
    """

    def __init__(self, augmentation, preprocessing, image_shape, num_classes):
        a, layers = augmentation, keras.layers
        self.preprocessing, self.num_classes = preprocessing, num_classes
        self.on_bytes, self.on_floats, self.mixers = [], [], []
        if a.flip:
            self.on_bytes.append(layers.RandomFlip("horizontal", dtype="float32"))
        if a.translation:
            limits = (a.translation, a.translation)
            self.on_bytes.append(
                layers.RandomTranslation(*limits, fill_mode="nearest", dtype="float32")
            )
        if a.rand_augment:
            self.on_bytes.append(RandAugment(*a.rand_augment, image_shape))
        if a.erasing:
            # The noise has about the range of normalized images.
            rate = (a.erasing, a.erasing)
            self.on_floats.append(
                layers.RandomErasing(rate, scale=ERASED_AREA, value_range=(-1, 1), dtype="float32")
            )
        if a.mixup:
            self.mixers.append(layers.MixUp(a.mixup, dtype="float32"))
        if a.cutmix:
            self.mixers.append(layers.CutMix((a.cutmix, a.cutmix), dtype="float32"))

    def __call__(self, images, labels, seeds):
        """Bytes and class indices -> preprocessed float32 images, and class indices or soft labels.

        Shapes: `(N, H, W, C), (N,) -> (N, H, W, C), (N,)`; soft labels are `(N, num_classes)`.
        `seeds` is a `KeyedSeeds`.
        """
        import tensorflow as tf

        images = tf.cast(images, "float32")
        for layer in self.on_bytes:
            images = apply_layer(layer, images, seeds)
        images = self.preprocessing.normalize(images)
        for layer in self.on_floats:
            images = apply_layer(layer, images, seeds)
        if not self.mixers:
            return images, labels

        labels = tf.one_hot(labels, self.num_classes)
        chosen = tf.random.stateless_uniform(
            [], seeds.next(), maxval=len(self.mixers), dtype="int32"
        )
        return tf.switch_case(
            chosen,
            [functools.partial(apply_mixer, mixer, images, labels, seeds) for mixer in self.mixers],
        )


def random_crop(image, preprocessing, scale, seeds):
    """A random part of the image, resized to the size of the preprocessing, as bytes."""
    import tensorflow as tf

    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        tf.zeros([1, 0, 4]),
        seeds.next(),
        min_object_covered=0.0,
        aspect_ratio_range=CROP_RATIO,
        area_range=scale,
        use_image_if_no_bounding_boxes=True,
    )
    part = tf.slice(image, begin, extent)
    part = tf.image.resize(
        part, preprocessing.size, method=preprocessing.interpolation, antialias=True
    )
    return tf.saturate_cast(tf.round(part), "uint8")
