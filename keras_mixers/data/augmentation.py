"""Augmentation of training images, as data."""

import dataclasses

from keras_mixers import arguments
from keras_mixers.arguments import CheckedDataclass, checked, non_negative
from keras_mixers.serialization import ConfigFromSignature


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

    The input pipeline applies the changes in the order of the arguments. The first four work on
    values in 0..255, the others on preprocessed images. Each image has its own random numbers. With
    `mixup` or `cutmix`, pairs of neighbours in a batch are mixed, and the labels become soft
    labels, `(N, num_classes)`.

    Args:
        crop_scale: (lowest, highest) fraction of the image's area that a random crop keeps. The
            crop has an aspect ratio from 3:4 to 4:3 and is resized. `None` for the central crop of
            the preprocessing.
        flip: whether to mirror half of the images left to right.
        translation: largest shift, as a fraction of the height and width. The border pixels are
            repeated.
        rand_augment: (transformations per image, magnitude from 0 to 10), or `None`. The
            transformations are the paper's without the identity. `Color` is drawn only for RGB
            images.
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
