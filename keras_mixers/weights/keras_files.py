"""Read Keras's own files, `.keras` and `.weights.h5`, as data: nothing of the file is run."""

import functools
import io
import struct
import zipfile

from keras_mixers import arguments, hdf5
from keras_mixers.layers.patches import patch_grid
from keras_mixers.serialization import parse_json
from keras_mixers.weights.entries import Entry, is_shape
from keras_mixers.weights.npz import opened
from keras_mixers.weights.source import Window, reading

WEIGHTS, CONFIG = "model.weights.h5", "config.json"
LARGEST_CONFIG = 2**24  # bytes
LOCAL_HEADER = 30  # bytes of a zip member's header before its name


def read_entries(source, kind, numbers):
    """(`{path: Entry}`, `{path of a layer: its name}`, grid) of a Keras file.

    The grid is (rows, columns) of the patches if the file states them, else None.

    Args:
        source: a `Source`.
        kind: `"keras"` or `"h5"`.
        numbers: how many numbers the model's weights have, which limits what is decompressed.

    Raises:
        ValueError: if the file is damaged.
    """
    import h5py

    grid, file = None, Window(source.file, 0, source.size)
    with reading(source):
        if kind == "keras":
            archive = source.keep(zipfile.ZipFile(source.file))
            grid = stated_grid(source, archive)
            # A float64, and as many slots of an optimizer as any has; and other layers.
            file = member(archive, WEIGHTS, 2**28 + 64 * numbers, source)
        entries, names = list_arrays(source, source.keep(h5py.File(file, "r")))
    return entries, names, grid


def member(archive, name, most, source):
    """A member of a zip file as a file that can seek, after a comparison with its checksum.

    Raises:
        ValueError: if it is absent, is there twice, or has more than `most` bytes.
    """
    found = [info for info in archive.infolist() if info.filename == name]
    if len(found) != 1:
        raise ValueError(f"{len(found)} members are named {name!r}")
    (info,) = found
    if info.file_size > most:
        raise ValueError(f"{name!r} declares {info.file_size:,} bytes; the model needs fewer")
    stored = info.compress_type == zipfile.ZIP_STORED
    kept = io.BytesIO()
    with opened(archive, info) as file:
        while chunk := file.read(2**20):
            if not stored:
                kept.write(chunk)
    if not stored:
        kept.seek(0)
        return kept
    header = source.read(info.header_offset, LOCAL_HEADER).tobytes()
    lengths = struct.unpack("<HH", header[-4:])  # of the name and of the extra field
    return Window(source.file, info.header_offset + LOCAL_HEADER + sum(lengths), info.file_size)


def list_arrays(source, file):
    """(`{path: Entry}`, `{path of a layer: its name}`) of an open HDF5 file."""
    import h5py

    entries, names = {}, {}
    for path, item in hdf5.items(file):
        layer, _, last = path.rpartition("/")
        if isinstance(item, h5py.Dataset):
            entries[path] = entry(source, path, item)
        elif last == "vars" and isinstance(item.attrs.get("name"), str):
            names[layer] = item.attrs["name"]
    return entries, names


def entry(source, path, dataset):
    """The `Entry` of an HDF5 dataset."""
    if not is_shape(dataset.shape):
        raise ValueError(f"{path!r} has shape {dataset.shape}")
    read = functools.partial(read_array, source, path, dataset)
    return Entry(path, dataset.shape, hdf5.dtype_of(dataset).name, read)


def read_array(source, path, dataset):
    """The array of an HDF5 dataset."""
    with reading(source, path):
        return hdf5.array_of(dataset)


def stated_grid(source, archive):
    """(rows, columns) of the patches by the model's config in a `.keras` file, or None."""
    if CONFIG not in archive.namelist():
        return None
    with reading(source, CONFIG):
        config = parse_json(member(archive, CONFIG, LARGEST_CONFIG, source).read())
        embeds = [part for part in objects(config) if part.get("class_name") == "PatchEmbed"]
        if len(embeds) != 1 or not embeds[0].get("build_config"):
            return None
        shape = embeds[0]["build_config"]["input_shape"]
        height, width, _ = arguments.integers(
            "input_shape", shape[1:], ("height", "width", "channels")
        )
        patch = arguments.pair("patch_size", embeds[0]["config"]["patch_size"])
        return patch_grid((height, width), patch)


def objects(value):
    """Yield the dicts in a value from JSON, at any depth."""
    parts = [value]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            yield part
            parts.extend(part.values())
        elif isinstance(part, list):
            parts.extend(part)
