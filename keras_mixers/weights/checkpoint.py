"""Recognise the kind of a weight file, and list its arrays."""

import struct
import zipfile

from keras_mixers.weights import npz, pickles, safetensors
from keras_mixers.weights.source import reading


def container(source):
    """The kind of a file by its first bytes: npz, safetensors, torch, keras or h5.

    Args:
        source: a `Source`.

    Raises:
        ValueError: if the file has none of these kinds.
    """
    source.file.seek(0)
    start = source.file.read(16)
    if start.startswith(b"\x89HDF"):
        return "h5"
    if start.startswith(b"PK"):
        return zip_kind(source)
    # First safetensors: it begins with the header's length, which may begin like a torch pickle.
    if start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] <= safetensors.LARGEST_HEADER:
        return "safetensors"
    if start.startswith(b"\x80"):
        return "torch"
    raise ValueError(
        "`source` must be an .npz, .safetensors, .pth, .keras or .weights.h5 file. Received:"
        f" source='{source.path}', which does not begin like one of them ({start[:8]!r})"
    )


def zip_kind(source):
    """The kind of a zip file: keras, torch or npz."""
    with reading(source), zipfile.ZipFile(source.file) as archive:
        names = archive.namelist()
    if "model.weights.h5" in names:
        return "keras"
    if any(name.endswith("data.pkl") for name in names):
        return "torch"
    return "npz"


def read_entries(source, kind):
    """(`{key: Entry}`, grid) of an npz, safetensors or torch file.

    The grid is (rows, columns) of the patches if the file states them, else None.
    """
    if kind == "torch":
        return pickles.read_entries(source), None
    return {"npz": npz, "safetensors": safetensors}[kind].read_entries(source)
