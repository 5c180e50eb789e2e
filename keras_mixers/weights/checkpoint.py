"""List the arrays of a file by name, shape and dtype, to read their data only after checks."""

import contextlib
import dataclasses
import functools
import json
import pathlib
import struct
import zipfile
from collections.abc import Callable

import ml_dtypes
import numpy as np

from keras_mixers import arguments

FLOATS = ("float16", "bfloat16", "float32", "float64")
# No weight has more dimensions. A header that declares more is damaged or hostile.
MOST_AXES = 8
GRID = "keras_mixers.grid"
LARGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors library


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
        """The entry of one step along the first axis."""
        return Entry(self.key, self.shape[1:], self.dtype, lambda: self.read()[index])

    def squeezed(self):
        """The entry without the axes of length 1."""
        shape = tuple(side for side in self.shape if side != 1)
        return Entry(self.key, shape, self.dtype, lambda: self.read().reshape(shape))


def container(path):
    """The kind of a file by its first bytes: npz, safetensors, torch, keras or h5.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file has none of these kinds.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`source` must be a file. Received: source='{path}'")
    with path.open("rb") as file:
        start = file.read(16)
    if start.startswith(b"\x89HDF"):
        return "h5"
    if start.startswith(b"PK"):
        return zip_kind(path)
    # First safetensors: it begins with the header's length, which may begin like a torch pickle.
    if start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] <= LARGEST_HEADER:
        return "safetensors"
    if start.startswith(b"\x80"):
        return "torch"
    raise ValueError(
        "`source` must be an .npz, .safetensors, .pth, .keras or .weights.h5 file. Received:"
        f" source='{path}', which does not begin like one of them ({start[:8]!r})"
    )


@contextlib.contextmanager
def reading(path, key=None):
    """Turn any error of a reader into a ValueError that names the file and the key."""
    try:
        yield
    except Exception as error:
        at = f" at {key!r}" if key else ""
        raise ValueError(
            f"`source` is damaged or cut short{at}: {type(error).__name__}: {error}: '{path}'"
        ) from error


def zip_kind(path):
    """The kind of a zip file: keras, torch or npz."""
    with reading(path), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if "model.weights.h5" in names:
        return "keras"
    if any(name.endswith("data.pkl") for name in names):
        return "torch"
    return "npz"


def read_entries(path, kind):
    """`{key: Entry}` of an npz, safetensors or torch file."""
    readers = {"npz": npz_entries, "safetensors": safetensors_entries, "torch": torch_entries}
    return readers[kind](path)


def npz_entries(path):
    """Entries of NumPy's archive. Reads the headers now and the data later, but no pickles."""
    with reading(path), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        headers = []
        for member in members:
            with reading(path, member.filename), archive.open(member) as file:
                headers.append(npy_header(file))
    entries = {}
    for member, (shape, dtype) in zip(members, headers, strict=True):
        key = member.filename.removesuffix(".npy")
        if key in entries:
            raise ValueError(f"`source` holds {key!r} twice: '{path}'")
        if dtype.hasobject or dtype.names or len(shape) > MOST_AXES:
            raise ValueError(
                f"`source` must hold plain arrays of numbers. Received: {key!r} of dtype {dtype}"
                f" and shape {shape}: '{path}'"
            )
        # JAX writes bfloat16 as two bytes without a type.
        name = "bfloat16" if dtype == np.dtype("V2") else dtype.name
        read = functools.partial(npy_array, path, member, name)
        entries[key] = Entry(key, shape, name, read)
    return entries


def npy_header(file):
    """(shape, dtype) that an .npy member declares."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    shape, _, dtype = readers[np.lib.format.read_magic(file)](file)
    return shape, dtype


def npy_array(path, member, dtype):
    """The array of an .npy member."""
    with (
        reading(path, member.filename),
        zipfile.ZipFile(path) as archive,
        archive.open(member) as file,
    ):
        array = np.lib.format.read_array(file, allow_pickle=False)
    return array.view(ml_dtypes.bfloat16) if dtype == "bfloat16" else array


def safetensors_entries(path):
    """Entries of a safetensors file.

    `Entry.read` opens the file again, because an open memory map would keep in memory all data
    that was read from it.
    """
    from safetensors import safe_open

    dtypes = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}

    def read(key):
        with reading(path, key), safe_open(path, "numpy") as file:
            return file.get_tensor(key)

    entries = {}
    with reading(path), safe_open(path, "numpy") as file:
        for key in file.keys():
            declared = file.get_slice(key)
            shape, dtype = tuple(declared.get_shape()), declared.get_dtype()
            read_key = functools.partial(read, key)
            entries[key] = Entry(key, shape, dtypes.get(dtype, dtype), read_key)
    return entries


def stored_grid(path, kind):
    """(rows, columns) of the patches if the file states them, as `save_weights` writes, or None."""
    if kind != "safetensors":
        return None
    from safetensors import safe_open

    with reading(path), safe_open(path, "numpy") as file:
        stated = (file.metadata() or {}).get(GRID)
        return arguments.integers(GRID, json.loads(stated), ("rows", "columns")) if stated else None


def torch_entries(path):
    """Entries of a torch file, which torch reads as weights only."""
    try:
        import torch
    except ImportError:
        raise ImportError(
            "A .pth file is a pickle, which only torch can read safely. Install torch, or use the"
            f" .safetensors form of these weights. Received: source='{path}'"
        ) from None
    with reading(path):
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    for wrapper in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not all(hasattr(t, "numpy") for t in loaded.values()):
        raise ValueError(f"`source` must hold a state dict of tensors. Received: source='{path}'")
    return {
        key: Entry(
            key,
            tuple(tensor.shape),
            str(tensor.dtype).removeprefix("torch."),
            lambda tensor=tensor: tensor.float().numpy(),
        )
        for key, tensor in loaded.items()
    }
