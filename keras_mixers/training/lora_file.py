"""The file of a LoRA run: the matrices and the other weights that trained, without the base.

The suffix and the names of the matrices are those of KerasHub's `Backbone.save_lora_weights`, whose
files number the layers. These files name them, so that they fit the same backbone in any model.
The file is made and read in memory, because HDF5 ends the process by a signal if the disk is full.
"""

import dataclasses
import io

import ml_dtypes
import numpy as np

from keras_mixers import arguments, hdf5
from keras_mixers.files import replacing

SUFFIX = ".lora.h5"
BASE, LORA, TRAINED = "base", "lora", "trained"  # names in the file
PARTS = ("lora_kernel_a", "lora_kernel_b", "lora_alpha")


@dataclasses.dataclass(frozen=True)
class Update:
    """What is added to a kernel: `alpha / rank * a b`."""

    a: np.ndarray
    b: np.ndarray
    alpha: float

    @property
    def rank(self):
        return self.b.shape[0]


@dataclasses.dataclass(frozen=True)
class Content:
    """What a file holds.

    Attributes:
        updates: `{name of a kernel: Update}`.
        trained: `{name of a weight: array}`, all other weights that trained.
        base: the digest of the kernels that have updates.
    """

    updates: dict
    trained: dict
    base: str


def checked_path(value):
    """The path of a file as a `pathlib.Path`, after a check of its suffix."""
    path = arguments.path("path", value)
    if not path.name.endswith(SUFFIX):
        raise ValueError(f"`path` must end in {SUFFIX!r}. {arguments.received(path=value)}")
    return path


def write(path, content):
    """Replace the file by one with this `Content`."""
    import h5py

    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        file[BASE] = content.base
        for name, update in content.updates.items():
            for part, value in zip(PARTS, (update.a, update.b, update.alpha), strict=True):
                file[f"{LORA}/{name}/{part}"] = value
        for name, array in content.trained.items():
            # HDF5 has no bfloat16.
            is_bfloat16 = array.dtype == ml_dtypes.bfloat16
            file[f"{TRAINED}/{name}"] = array.astype("float32") if is_bfloat16 else array
    with replacing(path) as temporary:
        temporary.write_bytes(memory.getbuffer())


def read(path):
    """The `Content` of a file.

    Raises:
        ValueError: if the file is damaged, or was not written by `write`.
        FileNotFoundError: if the file does not exist.
    """
    data = path.read_bytes()
    try:
        return content_of(data)
    except Exception as error:  # h5py raises exceptions of many types
        raise ValueError(
            "`path` must be a file of km.training.save_lora_weights. Received:"
            f" path={path}: {arguments.reason(error)}"
        ) from None


def content_of(data):
    """The `Content` of the bytes of a file."""
    import h5py

    with h5py.File(io.BytesIO(data), "r") as file:
        found = {name: item for name, item in hdf5.items(file) if isinstance(item, h5py.Dataset)}
        base = hdf5.array_of(found.pop(BASE)).decode()  # bytes, because it is a text
        arrays = {name: finite(name, hdf5.array_of(item)) for name, item in found.items()}
    parts, trained = {}, {}
    for name, array in arrays.items():
        group, _, rest = name.partition("/")
        if group == TRAINED:
            trained[rest] = array
        else:
            kernel, _, part = rest.rpartition("/")
            parts.setdefault(kernel, {})[part] = array
    return Content({name: update_of(name, each) for name, each in parts.items()}, trained, base)


def finite(name, array):
    """An array of finite floats."""
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise ValueError(f"{name} must have finite floats, not {array.dtype} or NaN or infinity")
    return array


def update_of(name, parts):
    """The `Update` of `{"lora_kernel_a": array, ...}`."""
    if sorted(parts) != sorted(PARTS):
        raise ValueError(f"{name} must have {', '.join(PARTS)}, not {', '.join(parts)}")
    a, b, alpha = (parts[part] for part in PARTS)
    if a.ndim < 2 or b.ndim != 2 or a.shape[-1] != b.shape[0] or not b.size or alpha.shape:
        shapes = ", ".join(str(parts[part].shape) for part in PARTS)
        raise ValueError(f"{name} must have two matrices of one rank and a number, not {shapes}")
    return Update(a, b, float(alpha))
