"""Recognise the kind of a weight file, and list its arrays."""

import struct
import zipfile

from keras_mixers.weights import npz, pickles, safetensors, shards
from keras_mixers.weights.source import reading


def container(source):
    """The kind of a file by its first bytes: npz, safetensors, torch, index, keras or h5.

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
    if start.lstrip().startswith(b"{"):
        return "index"
    raise ValueError(
        "`source` must be an .npz, .safetensors, .pth, .index.json, .keras or .weights.h5 file."
        f" Received: source='{source.path}', which does not begin like one of them ({start[:8]!r})"
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
    """(`{key: Entry}`, grid) of an npz, safetensors or torch file, or of the files of an index.

    The grid is (rows, columns) of the patches if the file states them, else None.
    """
    if kind == "torch":
        return pickles.read_entries(source), None
    if kind == "index":
        return read_shards(source), None
    return {"npz": npz, "safetensors": safetensors}[kind].read_entries(source)


def read_shards(source):
    """`{key: Entry}` of the files that an index names.

    Raises:
        FileNotFoundError: if one of them does not exist.
        ValueError: if one of them is damaged, is neither a safetensors nor a torch file, or does
            not hold what the index says.
    """
    files, entries = shards.read_index(source), {}
    for name in sorted(set(files.values())):
        shard = source.neighbour(name)
        kind = container(shard)
        if kind not in ("safetensors", "torch"):
            raise ValueError(
                "`source` must name .safetensors or torch files. Received:"
                f" '{source.path}', which names {name!r}"
            )
        entries[name], _ = read_entries(shard, kind)
    return shards.merged(source, files, entries)
