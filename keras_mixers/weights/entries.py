"""The arrays of a file by name, shape and dtype, to read their data only after checks."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

FLOATS = ("float16", "bfloat16", "float32", "float64")
# No weight has more dimensions. A header that declares more is damaged or hostile.
MOST_AXES = 8
MOST_ARRAYS = 50_000  # in a file; more than in any published one
MOST_NUMBERS = 2**50  # far below the sizes at which NumPy's arithmetic of shapes overflows


@dataclasses.dataclass(frozen=True)
class Entry:
    """An array of a file whose data is not yet read.

    Attributes:
        key: the array's name in the file.
        shape: the array's shape as the file declares it.
        dtype: the name of the array's dtype, such as `"float32"`.
        read: () -> the array.
    """

    key: str
    shape: tuple
    dtype: str
    read: Callable

    def part(self, index):
        """The entry of `array[index]`."""
        shape = np.broadcast_to(np.int8(0), self.shape)[index].shape  # takes no memory
        return Entry(self.key, shape, self.dtype, lambda: self.read()[index])

    def with_axes(self, count):
        """The entry with axes of length 1 in front, so that it has at least `count` axes."""
        return self.part((None,) * (count - len(self.shape)) + (...,))

    def squeezed(self):
        """The entry without the axes of length 1."""
        shape = tuple(side for side in self.shape if side != 1)
        return Entry(self.key, shape, self.dtype, lambda: self.read().reshape(shape))


def is_shape(value):
    """Whether a value from a file's header can be the shape of a weight."""
    return (
        isinstance(value, (list, tuple))
        and len(value) <= MOST_AXES
        and all(type(side) is int and side >= 0 for side in value)
        and math.prod(value) <= MOST_NUMBERS
    )
