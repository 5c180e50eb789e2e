"""A file of arrays as names, shapes and dtypes; an array is read when its shape has been judged."""

import dataclasses
import pathlib
import struct
import zipfile
from collections.abc import Callable

import ml_dtypes
import numpy as np

FLOATS = ("float16", "bfloat16", "float32", "float64")
# A tensor of this many dimensions is no weight; a header that declares more is no checkpoint.
MOST_AXES = 8
LARGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors library


@dataclasses.dataclass(frozen=True)
class Entry:
    """An array of a checkpoint, not yet read."""

    key: str
    shape: tuple
    dtype: str
    read: Callable

    def part(self, index):
        """One step along the first axis, as an entry of its own."""
        return Entry(self.key, self.shape[1:], self.dtype, lambda: self.read()[index])

    def squeezed(self):
        """Without the axes of length 1."""
        shape = tuple(side for side in self.shape if side != 1)
        return Entry(self.key, shape, self.dtype, lambda: self.read().reshape(shape))


def container(path):
    """What kind of file it is, by its first bytes: npz, safetensors, torch, keras or h5.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is none of these.
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
    # A length, then JSON. Asked before torch's mark, which the length may look like.
    if start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] <= LARGEST_HEADER:
        return "safetensors"
    if start.startswith(b"\x80"):
        return "torch"
    raise ValueError(
        "`source` must be an .npz, .safetensors, .pth, .keras or .weights.h5 file. Received:"
        f" source='{path}', which begins like none of them ({start[:8]!r})"
    )


def zip_kind(path):
    """Which of the zip files it is."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise ValueError(f"`source` is damaged or cut short: {error}: '{path}'") from None
    if "model.weights.h5" in names:
        return "keras"
    if any(name.endswith("data.pkl") for name in names):
        return "torch"
    return "npz"


def read_entries(path, kind):
    """`{key: Entry}` of an npz, safetensors or torch file."""
    return {"npz": npz, "safetensors": safetensors, "torch": torch}[kind](path)


def npz(path):
    """Entries of NumPy's archive. Headers are read now, arrays later; pickles never."""
    entries = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            key = info.filename.removesuffix(".npy")
            if key in entries:
                raise ValueError(f"`source` holds {key!r} twice: '{path}'")
            with archive.open(info) as file:
                shape, dtype = npy_header(file, key, path)
            entries[key] = Entry(
                key, shape, dtype, lambda info=info, dtype=dtype: npy_array(path, info, dtype)
            )
    return entries


def npy_header(file, key, path):
    """(shape, dtype name) that an .npy member declares."""
    try:
        version = np.lib.format.read_magic(file)
        reader = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = reader(file)
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"`source` has no readable array at {key!r}: {error}: '{path}'") from None
    if dtype.hasobject or dtype.names or len(shape) > MOST_AXES:
        raise ValueError(
            f"`source` must hold plain arrays of numbers. Received: {key!r} of dtype {dtype} and"
            f" shape {shape}: '{path}'"
        )
    # JAX writes bfloat16 as two bytes without a type.
    return shape, "bfloat16" if dtype == np.dtype("V2") else dtype.name


def npy_array(path, info, dtype):
    """The array of an .npy member."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(info) as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile, zipfile.zlib.error) as error:
        raise ValueError(
            f"`source` is damaged or cut short at {info.filename!r}: {error}: '{path}'"
        ) from None
    return array.view(ml_dtypes.bfloat16) if dtype == "bfloat16" else array


def safetensors(path):
    """Entries of a safetensors file.

    Each array opens the file anew: one mapping held open would keep all that was read in memory.
    """
    from safetensors import SafetensorError, safe_open

    names = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}

    def read(key):
        with safe_open(path, "numpy") as file:
            return file.get_tensor(key)

    try:
        with safe_open(path, "numpy") as file:
            entries = {}
            for key in file.keys():
                declared = file.get_slice(key)
                dtype = declared.get_dtype()
                entries[key] = Entry(
                    key,
                    tuple(declared.get_shape()),
                    names.get(dtype, dtype),
                    lambda key=key: read(key),
                )
            return entries
    except SafetensorError as error:
        raise ValueError(f"`source` is damaged or cut short: {error}: '{path}'") from None


def torch(path):
    """Entries of a torch file, read by torch itself and only as weights."""
    try:
        import torch
    except ImportError:
        raise ImportError(
            "A .pth file is a pickle, which only torch can read safely. Install torch, or use the"
            f" .safetensors form of these weights. Received: source='{path}'"
        ) from None
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
