"""NumPy's archives of arrays, `.npz`. Pickles in them are refused."""

import functools
import json
import math
import zipfile

import ml_dtypes
import numpy as np

from keras_mixers.arguments import shown
from keras_mixers.weights.entries import MOST_ARRAYS, Entry, is_shape
from keras_mixers.weights.safetensors import GRID, stored_grid
from keras_mixers.weights.source import fill, reading

HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_entries(source):
    """(`{key: Entry}`, grid) of an npz file; reads the headers now and the data later.

    The grid is (rows, columns) of the patches if the file states them, else None.
    """
    with reading(source):
        archive = source.keep(zipfile.ZipFile(source.file))
        # The file of another program may have a comment of any form.
        is_stated = GRID.encode() in archive.comment
        grid = stored_grid(json.loads(archive.comment), source) if is_stated else None
        if len(archive.infolist()) > MOST_ARRAYS:
            raise ValueError(f"more than {MOST_ARRAYS} members")
    entries = {}
    for member in archive.infolist():
        key = member.filename.removesuffix(".npy")
        if key in entries:
            raise ValueError(f"`source` holds {shown(key)} twice: '{source.path}'")
        with reading(source, member.filename), opened(archive, member) as file:
            header = read_header(file)
        shape, _, dtype = header
        if dtype.hasobject or dtype.names or not is_shape(shape):
            raise ValueError(
                f"`source` must hold plain arrays of numbers. Received: {shown(key)} of dtype"
                f" {dtype} and shape {shape}: '{source.path}'"
            )
        # JAX writes bfloat16 as two bytes without a type.
        name = "bfloat16" if dtype == np.dtype("V2") else dtype.name
        read = functools.partial(read_array, source, archive, member, header)
        entries[key] = Entry(key, shape, name, read)
    return entries, grid


def opened(archive, member):
    """Open a member of a zip file.

    Raises:
        ValueError: if it is compressed by a method whose output has no limit in Python.
    """
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"the compression of {member.filename!r} is not stored or deflated")
    return archive.open(member)


def read_header(file):
    """(shape, whether the order is Fortran's, dtype) that an .npy member declares."""
    return HEADERS[np.lib.format.read_magic(file)](file)


def read_array(source, archive, member, header):
    """The array of an .npy member that has a known header."""
    shape, fortran, dtype = header
    with reading(source, member.filename), opened(archive, member) as file:
        if read_header(file) != header:
            raise ValueError("the header changed")
        data = np.empty(math.prod(shape) * dtype.itemsize, "uint8")
        fill(file, data)
        if file.read(1):  # the end of the data is also where zipfile compares the checksum
            raise ValueError("more data than the header declares")
    dtype = ml_dtypes.bfloat16 if dtype == np.dtype("V2") else dtype
    return data.view(dtype).reshape(shape, order="F" if fortran else "C")


def write(path, arrays, grid):
    """Write `{key: array}` and the grid of patches to a file.

    The grid is in the comment of the zip file, because all members are arrays.
    """
    with path.open("w+b") as file:  # because savez would add ".npz" to a path that ends in ".NPZ"
        np.savez(file, **arrays)
        with zipfile.ZipFile(file, "a") as archive:
            archive.comment = json.dumps({GRID: json.dumps(grid)}).encode()
