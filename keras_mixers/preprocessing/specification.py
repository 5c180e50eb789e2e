"""What a checkpoint expects of an image, as checked data."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_mixers import arguments
from keras_mixers.arguments import CheckedDataclass, checked, one_of
from keras_mixers.preprocessing import resample
from keras_mixers.serialization import ConfigFromSignature

# Limits of float32, because the numbers become float32. There, a smaller number would be 0, and a
# larger one infinite.
SMALLEST, LARGEST = float(np.finfo("float32").tiny), float(np.finfo("float32").max)


def _crop_fraction(name, value):
    try:
        value = arguments.real(name, value, SMALLEST)
        if value > 1:
            raise ValueError
    except (TypeError, ValueError) as error:
        expected = "a number above 0 and at most 1"
        raise type(error)(
            f"`{name}` must be {expected}. Received: {name}={arguments.shown(value)}"
        ) from None
    return value


def _per_channel(name, value, kind, minimum):
    several = isinstance(value, (tuple, list))
    try:
        each = value if several else [value]
        checked = tuple(arguments.real(name, number, minimum, LARGEST) for number in each)
        if not checked:
            raise ValueError
    except (TypeError, ValueError) as error:
        expected = f"a {kind}, or a tuple of {kind}s, one for each channel"
        raise type(error)(
            f"`{name}` must be {expected}. Received: {name}={arguments.shown(value)}"
        ) from None
    return checked if several else checked[0]


_mean = functools.partial(_per_channel, kind="finite number", minimum=-LARGEST)
_std = functools.partial(_per_channel, kind="positive finite number", minimum=SMALLEST)


@dataclasses.dataclass(frozen=True)
class Specification(CheckedDataclass, ConfigFromSignature):
    """The arguments of `Preprocessing`, each checked."""

    size: int | tuple[int, int] = checked(arguments.pair, (224, 224))
    crop_fraction: float = checked(_crop_fraction, 0.875)
    interpolation: str = checked(one_of(*resample.KERNELS), "bicubic")
    mean: float | tuple[float, ...] = checked(_mean, (0.5, 0.5, 0.5))
    std: float | tuple[float, ...] = checked(_std, (0.5, 0.5, 0.5))
    crop_mode: str = checked(one_of(*resample.CROP_MODES), "center")

    def __post_init__(self) -> None:
        super().__post_init__()
        largest = arguments.LARGEST_INTEGER
        if max(self.size) > largest * self.crop_fraction:
            raise ValueError(
                f"`crop_fraction` must be at least the longer side of `size` / {largest}."
                f" Received: crop_fraction={self.crop_fraction} and size={self.size}"
            )
        lengths = {len(value) for value in (self.mean, self.std) if isinstance(value, tuple)}
        if len(lengths) > 1:
            raise ValueError(
                "`std` must have as many numbers as `mean`. Received:"
                f" mean={arguments.shown(self.mean)}, std={arguments.shown(self.std)}"
            )

    @property
    def value_range(self) -> tuple[float, float]:
        """(lowest, highest) value of preprocessed images."""
        mean, std = np.array(self.mean), np.array(self.std)
        return float((-mean / std).min()), float(((1 - mean) / std).max())

    def check_channels(self, channels: int | None) -> None:
        """Raise a ValueError if `mean` and `std` do not fit images of `channels` channels."""
        for name in ("mean", "std"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != channels:
                raise ValueError(
                    f"`{name}` must have one number for each channel of the image, or be one"
                    f" number for all. Received: {name}={arguments.shown(value)} for an image of"
                    f" {'unknown' if channels is None else channels} channels"
                )

    def standardize(self, x: Any, array: Callable = np.array) -> Any:
        """`(x / 255 - mean) / std` for a float32 tensor; `array` makes a constant that fits x."""
        return (x / 255 - array(self.mean, "float32")) / array(self.std, "float32")
