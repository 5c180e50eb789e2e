"""A weight file that is open once, so that all reads see one file."""

import contextlib
import io
import os
import pathlib
import time

import numpy as np

from keras_mixers import arguments

# A file system may round the time of a change by this much.
TIME_STEP = 0.02  # seconds


class Source:
    """An open weight file.

    All data comes from one descriptor by plain reads. A file that another process replaces stays
    readable, and a file that shrinks gives an error. A memory map would end the process.

    Attributes:
        path: the path.
        file: the open file.

    Raises:
        FileNotFoundError: if the path is not a file.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"`source` must be a file. Received: source='{path}'")
        self._stack = contextlib.ExitStack()
        self.file = self._stack.enter_context(self.path.open("rb"))
        if time.time() - os.fstat(self.file.fileno()).st_mtime < TIME_STEP:
            time.sleep(TIME_STEP)  # because another change so soon can have the same time
        self._before = identity(os.fstat(self.file.fileno()))
        self._neighbours = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.close()

    @property
    def size(self):
        """The size in bytes when the file was opened."""
        return self._before[2]

    def keep(self, resource):
        """Close a reader together with the file, and return the reader."""
        return self._stack.enter_context(resource)

    def neighbour(self, name):
        """The `Source` of another file in the folder; it is closed and checked with this one.

        Raises:
            FileNotFoundError: if the folder does not have the file.
        """
        path = self.path.with_name(name)
        if not path.is_file():
            raise FileNotFoundError(
                f"`source` needs the file {name!r} in its folder. Received: source='{self.path}'"
            )
        self._neighbours.append(self.keep(Source(path)))
        return self._neighbours[-1]

    def read(self, start, size):
        """`size` bytes from `start` as an array of uint8.

        Raises:
            EOFError: if the file ends earlier.
        """
        if not 0 <= start <= start + size <= self.size:
            raise EOFError(f"{size} bytes at {start} in a file of {self.size} bytes")
        array = np.empty(size, "uint8")
        self.file.seek(start)
        fill(self.file, array)
        return array

    def check_unchanged(self):
        """Raise a ValueError if the file, or the file at the path, is not the one that was opened.

        Call it after the last read and before the values are used. It checks neighbours too.
        """
        try:
            now = identity(os.fstat(self.file.fileno())), identity(self.path.stat())
        except OSError:
            now = None
        if now != (self._before, self._before):
            raise ValueError(
                f"`source` must not change while it is read. Received: '{self.path}', which another"
                " program wrote or replaced; load it again"
            )
        for neighbour in self._neighbours:
            neighbour.check_unchanged()


class Window(io.RawIOBase):
    """A part of an open file as a file, for readers that seek."""

    def __init__(self, file, start, size):
        super().__init__()
        self._file, self._start, self._size, self._position = file, start, size, 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def tell(self):
        return self._position

    def seek(self, offset, whence=os.SEEK_SET):
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer):
        count = max(0, min(len(buffer), self._size - self._position))
        self._file.seek(self._start + self._position)
        fill(self._file, memoryview(buffer)[:count])
        self._position += count
        return count


def fill(file, buffer):
    """Read from a file until a buffer of bytes is full.

    Raises:
        EOFError: if the file ends earlier.
    """
    view, position = memoryview(buffer), 0
    while position < len(view):
        count = file.readinto(view[position : position + 2**24])
        if not count:
            raise EOFError(f"the data ends after {position} of {len(view)} bytes")
        position += count


def identity(stat):
    """What changes when a file is written or replaced, even by a program that sets its time."""
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


class Damaged(ValueError):
    """The error of `reading`."""


@contextlib.contextmanager
def reading(source, key=None):
    """Turn any error of a reader into a ValueError that names the file and the key."""
    try:
        yield
    except Damaged:
        raise
    except Exception as error:
        at = f" at {arguments.shown(key)}" if key else ""
        raise Damaged(
            f"`source` is damaged or cut short{at}: {type(error).__name__}:"
            f" {arguments.reason(error)}: '{source.path}'"
        ) from error
