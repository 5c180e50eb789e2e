"""torch's files, `.pth`: pickles, which torch reads as weights only."""

import functools
import re

from keras_mixers import arguments
from keras_mixers.weights.entries import MOST_ARRAYS, Entry, is_shape
from keras_mixers.weights.rules import by_name
from keras_mixers.weights.source import Damaged, reading

MOST_LEVELS = 16  # of dictionaries in dictionaries; published files have up to 4
LONGEST_PATH = 1000  # characters


class Ignored:
    """A placeholder for an object that is not a weight; no code of its class is run."""

    def __init__(self, *_):
        pass

    def __setstate__(self, _):
        pass


# Training code keeps its arguments and scores next to the weights. NumPy's own functions are not
# safe for hostile bytes.
HARMLESS = {
    "argparse": ["Namespace"],
    "numpy": ["dtype", "ndarray"],
    "numpy.core.multiarray": ["scalar", "_reconstruct"],
    "numpy._core.multiarray": ["scalar", "_reconstruct"],
    "pathlib": ["PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"],
    "pathlib._local": ["PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"],
}
# torch takes each for the class or function that has its name.
PLACEHOLDERS = [
    type(name, (Ignored,), {"__module__": module})
    for module, names in HARMLESS.items()
    for name in names
]


def read_entries(source):
    """`{path: Entry}` of the tensors in a torch file.

    The path of a tensor in nested dictionaries is their keys, joined by dots. Entries that are not
    tensors, and dictionaries whose keys are not strings (an optimizer's state), are left out.

    Raises:
        ImportError: if torch is not installed or is older than 2.5.
        ValueError: if the file is damaged, has no tensors, or asks for code that is not known.
    """
    torch = imported(source)
    loaded = load(torch, source)
    with reading(source):
        found = list(tensors(loaded, torch.Tensor))
    if not found:
        raise ValueError(
            "`source` must hold tensors by name, in a dictionary or in nested ones. Received:"
            f" source='{source.path}' with {arguments.shown(type(loaded))}"
        )
    return by_name((path, read_entry(source, path, tensor)) for path, tensor in found)


def imported(source):
    """torch, if it can read a file without running the file's code."""
    try:
        import torch
    except ImportError:
        torch = None
    if not hasattr(getattr(torch, "serialization", None), "safe_globals"):
        raise ImportError(
            "A .pth file is a pickle, which only torch (2.5 or newer) can read safely. Install"
            " torch, or use the .safetensors form of these weights. Received:"
            f" source='{source.path}'"
        )
    return torch


def load(torch, source):
    """The object in a torch file, with placeholders for the objects of HARMLESS classes.

    Raises:
        ValueError: if the file is damaged, or asks for a class or function that is not known.
    """
    try:
        with reading(source):
            source.file.seek(0)
            with torch.serialization.safe_globals(PLACEHOLDERS):
                return torch.load(source.file, map_location="cpu", weights_only=True)
    except Damaged as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error.__cause__))
        if not wanted:
            raise
        raise ValueError(
            "`source` must hold tensors and plain values only, because to load anything else would"
            f" run code that the file chooses. Received: source='{source.path}', which asks for"
            f" {arguments.shown(wanted[1])}. Nothing was run. If you trust the file, save only its"
            " state dict in a new file"
        ) from None


def tensors(loaded, tensor_type):
    """Yield (path, tensor) for the tensors in nested dictionaries.

    Raises:
        ValueError: if there is more of anything than in a file of weights.
    """
    pending, count = [("", loaded, 0)], 0
    while pending:
        path, value, level = pending.pop()
        if isinstance(value, dict):
            prefix = f"{path}." if path else ""
            pending += [(prefix + k, v, level + 1) for k, v in value.items() if isinstance(k, str)]
        elif isinstance(value, tensor_type):
            yield path, value
        count += 1
        if len(pending) + count > MOST_ARRAYS or level > MOST_LEVELS or len(path) > LONGEST_PATH:
            raise ValueError("too many entries, or dictionaries that hold each other")


def read_entry(source, path, tensor):
    """The `Entry` of a tensor."""
    shape = tuple(tensor.shape)
    if not is_shape(shape):
        raise ValueError(f"`source` must hold weights. Received: {path!r} of shape {shape}")
    dtype = str(tensor.dtype).removeprefix("torch.")
    return Entry(path, shape, dtype, functools.partial(read_array, source, path, tensor))


def read_array(source, path, tensor):
    """The array of a tensor; NumPy has no bfloat16."""
    with reading(source, path):
        tensor = tensor.detach()
        return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
