"""Rotary positions: rotate queries and keys by angles that depend on their place on the grid."""

import dataclasses
import functools

import keras
import numpy as np
from keras import ops

from keras_mixers import arguments
from keras_mixers.arguments import CheckedDataclass, checked, one_of
from keras_mixers.serialization import ConfigFromSignature, registered

COORDINATES = ("centred", "index", "learned")


def check_rotary(name, value):
    """Check a `Rotary` or None."""
    if value is not None and not isinstance(value, Rotary):
        raise TypeError(
            f"`{name}` must be a keras_mixers.layers.Rotary or None."
            f" {arguments.received(**{name: value})}"
        )
    return value


def positive(name, value):
    """Check a number that is at least 1."""
    return arguments.real(name, value, 1.0)


def finite(name, value):
    """Check a finite number."""
    return arguments.real(name, value, -arguments.LARGEST_REAL)


@registered
@dataclasses.dataclass(frozen=True)
class Rotary(ConfigFromSignature, CheckedDataclass):
    """How attention rotates queries and keys by their places on the grid of patches.

    The channels of a head form pairs. The angle of pair j at a patch is `coordinate * f_j`: the
    first half of the pairs uses one axis of the grid, the second half the other axis. The product
    of a rotated query and a rotated key then depends on the difference of their places. Prefix
    tokens are not rotated.

    The default is DINOv3's. `Rotary("index", base=10_000, reference=16, interleaved=True)` is
    EVA-02's.

    Args:
        coordinates: `"centred"`: from -1 to 1 over the image, in turns (DINOv3). `"index"`: the
            number of the row or column. `"learned"`: like `"index"`, and each head of each block
            learns two frequencies for each pair, one for each axis.
        base: the frequencies fall from 1 to nearly 1 / base.
        reference: (rows, columns) of the grid in pre-training, or an int for a square. With
            `"index"`, coordinates are scaled as if the grid had this size. `None` for no scaling,
            and for `"centred"`, whose coordinates do not depend on the size of the grid.
        offset: added to the numbers of rows and columns, before they are scaled.
        columns_first: whether the first half of the pairs uses the columns instead of the rows.
        interleaved: whether neighbouring channels form a pair. If False, channel j and channel
            j + d / 2 do.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it.

    Example:
        >>> from keras_mixers.layers import MultiHeadSelfAttention
        >>> attention = MultiHeadSelfAttention(3, rotary=Rotary(), grid=(2, 3), num_prefix=1)
        >>> attention(keras.Input((7, 48))).shape
        (None, 7, 48)

    Source: "RoFormer: Enhanced Transformer with Rotary Position Embedding", arXiv 2104.09864. On
    grids: "EVA-02", arXiv 2303.11331; "Rotary Position Embedding for Vision Transformer", arXiv
    2403.13298 (`"learned"`); "DINOv3", arXiv 2508.10104.
    """

    coordinates: str = checked(one_of(*COORDINATES), "centred")
    base: float = checked(positive, 100.0)
    reference: tuple[int, int] | int | None = checked(arguments.pair, None)
    offset: float = checked(finite, 0.0)
    columns_first: bool = checked(arguments.flag, False)
    interleaved: bool = checked(arguments.flag, False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.coordinates == "centred" and self.reference:
            raise ValueError(
                "`reference` must be None with coordinates='centred'."
                f" {arguments.received(reference=self.reference)}"
            )

    @property
    def learned(self) -> bool:
        """Whether the frequencies are weights."""
        return self.coordinates == "learned"


def places(rotary, grid):
    """The two coordinates of each patch: `(rows * columns, 2)`, in the order of the pairs."""
    axes = []
    for axis, side in enumerate(grid):
        place = np.arange(side) + rotary.offset
        if rotary.coordinates == "centred":
            place = 2 * (place + 0.5) / side - 1
        elif rotary.reference:
            place = place / side * rotary.reference[axis]
        axes.append(place)
    pairs = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    return pairs[:, ::-1] if rotary.columns_first else pairs


def frequencies(rotary, head_dim):
    """The frequencies of the pairs that use one axis: `(d / 4,)`, in radians a unit."""
    count = head_dim // 4
    unit = 2 * np.pi if rotary.coordinates == "centred" else 1.0
    return unit / rotary.base ** (np.arange(count) / count)


def learned_tables(rotary, learned, grid, num_prefix):
    """`tables` for learned frequencies `(2, H, d / 2)`: `2 x (T, H, d)`."""
    precise = ops.cast(learned, keras.backend.result_type(learned.dtype, "float32"))
    place = np.pad(places(rotary, grid), ((num_prefix, 0), (0, 0)))[:, :, None, None]
    place = ops.convert_to_tensor(place, precise.dtype)
    angles = place[:, 0] * precise[0] + place[:, 1] * precise[1]
    sine, cosine = ops.sin(angles), ops.cos(angles)
    axis = -1 if rotary.interleaved else -2
    shape = (*angles.shape[:2], 2 * angles.shape[2])
    sine, cosine = ops.stack([-sine, sine], axis), ops.stack([cosine, cosine], axis)
    return ops.reshape(sine, shape), ops.reshape(cosine, shape)


def random_frequencies(rotary):
    """An initializer of frequencies `(2, H, d / 2)`: each head turns both axes by an angle."""

    def random_turn(shape, dtype=None):
        _, heads, pairs = shape
        size = ops.convert_to_tensor(frequencies(rotary, 2 * pairs), dtype)
        angle = keras.random.uniform((heads, 1), 0, 2 * np.pi, dtype=dtype)
        angles = ops.concatenate([angle, angle + np.pi / 2], axis=-1)[..., None]
        turned = ops.stack([ops.cos(angles) * size, ops.sin(angles) * size])
        return ops.reshape(turned, shape)

    return random_turn


def rotate(rotary, x, sine, cosine):
    """Rotate each pair of channels: `(N, T, H, d)`, `2 x (T, d)` or `2 x (T, H, d)`.

    In half precision the rotation is computed in float32, because the angles need it.
    """
    precise = ops.cast(x, keras.backend.result_type(x.dtype, "float32"))
    if len(sine.shape) == 2:
        sine, cosine = sine[:, None], cosine[:, None]
    sine, cosine = ops.cast(sine, precise.dtype), ops.cast(cosine, precise.dtype)
    return ops.cast(precise * cosine + swapped(rotary, precise) * sine, x.dtype)


def swapped(rotary, x):
    """Return x with the two channels of each pair exchanged."""
    if not rotary.interleaved:
        first, second = ops.split(x, 2, axis=-1)
        return ops.concatenate([second, first], axis=-1)
    *lead, width = x.shape
    lead = [-1 if side is None else side for side in lead]
    pairs = ops.reshape(x, (*lead, width // 2, 2))
    return ops.reshape(ops.flip(pairs, axis=-1), (*lead, width))


@functools.lru_cache(maxsize=32)  # because all blocks of a model use the same tables
def tables(rotary, grid, num_prefix, head_dim):
    """(sine, cosine) of each token's angles, `2 x (num_prefix + rows * columns, d)`.

    They are float64 arrays. Prefix tokens have angle 0. The first channel of a pair has the
    negative sine, so that `rotate` needs no subtraction.
    """
    angles = places(rotary, grid)[:, :, None] * frequencies(rotary, head_dim)
    angles = angles.reshape(-1, head_dim // 2)
    angles = np.pad(angles, ((num_prefix, 0), (0, 0)))
    sine, cosine = np.sin(angles), np.cos(angles)
    axis = -1 if rotary.interleaved else -2
    shape = (len(angles), head_dim)
    sine, cosine = np.stack([-sine, sine], axis), np.stack([cosine, cosine], axis)
    return sine.reshape(shape), cosine.reshape(shape)
