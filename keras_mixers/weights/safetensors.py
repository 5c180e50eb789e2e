"""The safetensors format: a JSON header, and the arrays' bytes.

Source: https://github.com/huggingface/safetensors, README. Its library maps the file into memory,
and the system ends a process whose mapped file shrinks. This module uses plain reads and writes.
"""

import functools
import json
import math
import struct

import ml_dtypes
import numpy as np

from keras_mixers import arguments
from keras_mixers.serialization import parse_json
from keras_mixers.weights.entries import FLOATS, Entry, is_shape
from keras_mixers.weights.source import reading

GRID = "keras_mixers.grid"
METADATA = "__metadata__"
LARGEST_HEADER = 2**24  # bytes, far more than in published files; JSON takes many times more
DTYPES = {
    "BOOL": np.dtype("bool"),
    "U8": np.dtype("uint8"),
    "I8": np.dtype("int8"),
    "U16": np.dtype("uint16"),
    "I16": np.dtype("int16"),
    "U32": np.dtype("uint32"),
    "I32": np.dtype("int32"),
    "U64": np.dtype("uint64"),
    "I64": np.dtype("int64"),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F16": np.dtype("float16"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F32": np.dtype("float32"),
    "F64": np.dtype("float64"),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def read_entries(source):
    """(`{key: Entry}`, (rows, columns) of the patches if the file states them, else None)."""
    with reading(source):
        (length,) = struct.unpack("<Q", source.read(0, 8).tobytes())
        if length > LARGEST_HEADER:
            raise ValueError(f"a header of {length} bytes")
        text = source.read(8, length).tobytes().decode()
        header = parse_json(text, without_duplicates)
        if not isinstance(header, dict):
            raise ValueError("the header must be an object")
        metadata = header.pop(METADATA, {})
        entries, spans = {}, []
        for key, declared in header.items():
            entries[key], span = read_entry(source, key, declared, start=8 + length)
            spans.append(span)
        check_cover(spans, source.size - 8 - length)
    return entries, stored_grid(metadata, source)


def without_duplicates(pairs):
    """The dict of a JSON object whose keys are distinct."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("the header names a key twice")
    return found


def read_entry(source, key, declared, start):
    """(Entry, (begin, end)) of one array; `start` is where the data of all arrays begins."""
    with reading(source, key):
        dtype, shape, (begin, end) = (declared[k] for k in ("dtype", "shape", "data_offsets"))
        offsets = all(type(offset) is int and offset >= 0 for offset in (begin, end))
        if dtype not in DTYPES or not is_shape(shape) or not offsets:
            place = {"shape": shape, "data_offsets": [begin, end]}
            received = arguments.received(dtype=dtype, **place)
            raise ValueError(f"no dtype, shape or offsets. {received}")
        size = math.prod(shape) * DTYPES[dtype].itemsize
        if end - begin != size:
            raise ValueError(f"{end - begin} bytes for {dtype} of shape {shape}, not {size}")
    read = functools.partial(read_array, source, key, dtype, shape, start + begin, size)
    name = DTYPES[dtype].name
    return Entry(key, tuple(shape), name if name in FLOATS else dtype, read), (begin, end)


def check_cover(spans, size):
    """Raise a ValueError unless the arrays, (begin, end) each, fill `size` bytes of data."""
    position = 0
    for begin, end in sorted(spans):
        if begin != position:
            break
        position = end
    else:
        if position == size:
            return
    raise ValueError(f"the arrays must fill the {size} bytes of data without gaps or overlaps")


def read_array(source, key, dtype, shape, start, size):
    """The array at a place of the file."""
    with reading(source, key):
        return source.read(start, size).view(DTYPES[dtype]).reshape(shape)


def stored_grid(metadata, source):
    """(rows, columns) of the patches if `save_weights` wrote them into the metadata, or None.

    Raises:
        ValueError: if the metadata hold something else under this name.
    """
    with reading(source, METADATA):
        if not isinstance(metadata, dict) or {type(text) for text in metadata.values()} - {str}:
            raise ValueError("the metadata must be an object of texts")
    if GRID not in metadata:
        return None
    with reading(source, GRID):
        return arguments.integers(GRID, parse_json(metadata[GRID]), ("rows", "columns"))


def write(path, arrays, metadata):
    """Write `{key: array}` and `{name: text}` to a file."""
    header, end = {METADATA: metadata}, 0
    # The widest types first, so that each array begins at a multiple of its item's size.
    keys = sorted(arrays, key=lambda key: (-arrays[key].dtype.itemsize, key))
    for key in keys:
        array = arrays[key]
        begin, end = end, end + array.nbytes
        place = {"shape": list(array.shape), "data_offsets": [begin, end]}
        header[key] = {"dtype": NAMES[array.dtype], **place}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for key in keys:
            file.write(np.ascontiguousarray(arrays[key]).reshape(-1).view("uint8"))
