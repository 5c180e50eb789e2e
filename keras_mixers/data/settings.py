"""The arguments that all functions which load batches share, each checked."""

import dataclasses
import functools
import math
from typing import Any

from keras_mixers import arguments
from keras_mixers.arguments import CheckedDataclass, checked
from keras_mixers.data.augmentation import Augmentation
from keras_mixers.data.shard import check_shard, replicas
from keras_mixers.preprocessing import Preprocessing


def _fraction(name, value):
    if not arguments.rate(name, value):
        raise ValueError(f"`{name}` must be None or above 0. Received: {name}=0")
    return float(value)


def _start(name, value):
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"`{name}` must be (epoch, batch). {arguments.received(**{name: value})}")
    return tuple(arguments.integer(name, number, 0) for number in value)


def _instance(kind):
    def check(name, value):
        if not isinstance(value, kind):
            expected = f"`{name}` must be {kind.__name__}(...) or None"
            raise TypeError(f"{expected}. {arguments.received(**{name: value})}")
        return value

    return check


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(CheckedDataclass):
    """How to make batches of images; `load` describes each argument.

    The check of `class_weight` is in `class_weights`, because it needs the names of the classes.
    """

    image_size: tuple[int, int] | None = checked(arguments.pair, None)
    batch_size: int = checked(arguments.integer)
    preprocessing: Preprocessing | None = checked(_instance(Preprocessing), None)
    augmentation: Augmentation | None = checked(_instance(Augmentation), None)
    validation_fraction: float | None = checked(_fraction, None)
    class_weight: Any = checked(lambda name, value: value, None)
    drop_remainder: bool = checked(arguments.flag)
    seed: int = checked(functools.partial(arguments.integer, minimum=0, maximum=2**31 - 1))
    start: tuple[int, int] = checked(_start)
    shard: tuple[int, int] = checked(check_shard)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.preprocessing and self.image_size not in (None, self.preprocessing.size):
            raise ValueError(
                "`image_size` must be None or the size of `preprocessing`. Received:"
                f" image_size={self.image_size} and {self.preprocessing}"
            )

    @property
    def size_is_known(self):
        """Whether the arguments determine the size of the images."""
        return self.preprocessing is not None or self.image_size is not None

    def preprocessing_of(self, shape):
        """The preprocessing of images of a shape, in [-1, 1] by default."""
        return self.preprocessing or Preprocessing(
            self.image_size or shape[:2],
            crop_fraction=1.0,
            interpolation="bilinear",
            mean=0.5,
            std=0.5,
        )

    def check_order(self, order):
        """Raise a ValueError if batches in this order do not suit the other arguments."""
        parts = math.lcm(self.shard[1], replicas())
        if order.batch_size % parts:
            raise ValueError(
                f"`batch_size` must be a multiple of {parts}, because each batch is divided into"
                f" {parts} equal parts. Received: batch_size={order.batch_size}"
            )
        if order.remainder % parts:
            raise ValueError(
                f"`drop_remainder` must be True, because each batch is divided into {parts} equal"
                " parts. Received: drop_remainder=False, and a last batch of"
                f" {order.remainder} images"
            )
        if not order.num_batches:
            raise ValueError(
                "`batch_size` must be at most the number of training images if"
                f" drop_remainder=True. Received: batch_size={order.batch_size} for"
                f" {order.num_images} images"
            )
        if self.start[1] >= order.num_batches:
            raise ValueError(
                "`start` must be (epoch, batch) with a batch from 0 to"
                f" {order.num_batches - 1}, because an epoch has {order.num_batches} batches."
                f" Received: start={self.start}"
            )
        if self.augmentation and (self.augmentation.mixup or self.augmentation.cutmix):
            check_pairs(order)


def check_pairs(order):
    """Raise a ValueError if shares would mix other pairs of images than one process does."""
    size = 2 * order.shard[1]
    if order.shard[1] > 1 and (order.batch_size % size or order.remainder % size):
        raise ValueError(
            f"`batch_size` must be a multiple of {size}, because MixUp and CutMix mix pairs of"
            f" images in each of {order.shard[1]} shares. Received: batch_size={order.batch_size},"
            f" and a last batch of {order.remainder or order.batch_size} images"
        )
