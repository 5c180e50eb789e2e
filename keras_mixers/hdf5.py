"""Read Keras's HDF5 files as data, from which a hostile file can reach nothing else.

HDF5 has links, which can lead to other files or in circles, and compressed chunks, of which a few
bytes can become gigabytes. Keras writes neither of them.
"""

import ml_dtypes
import numpy as np

MOST_LEVELS = 64  # far more than those of any model
MOST_ITEMS = 50_000  # groups and arrays; more than in any published file


def items(file):
    """Yield (path, group or dataset) for all that is in an open HDF5 file.

    Raises:
        ValueError: if the file has a link, an item at two places, or more than any model needs.
    """
    import h5py

    groups, seen = [("", file)], set()
    while groups:
        path, group = groups.pop()
        for name in group:
            at = f"{path}/{name}".lstrip("/")
            if at.count("/") > MOST_LEVELS:
                raise ValueError(f"{at!r} has more than {MOST_LEVELS} levels")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{at!r} is a link to another place")
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                raise ValueError(f"{at!r} is at two places")
            seen.add(address)
            if len(seen) > MOST_ITEMS:
                raise ValueError(f"more than {MOST_ITEMS} groups and arrays")
            yield at, item
            if isinstance(item, h5py.Group):
                groups.append((at, item))


def dtype_of(dataset):
    """The dtype of a dataset.

    HDF5 has no bfloat16, so Keras writes two bytes without a type and states the type.
    """
    is_bfloat16 = dataset.dtype == np.dtype("V2") and dataset.attrs.get("dtype") == "bfloat16"
    return np.dtype(ml_dtypes.bfloat16) if is_bfloat16 else dataset.dtype


def array_of(dataset):
    """The array of a dataset.

    Raises:
        ValueError: if the array is in chunks, which may be compressed, or in another file.
    """
    from h5py import h5d

    layout = dataset.id.get_create_plist().get_layout()
    if layout not in (h5d.CONTIGUOUS, h5d.COMPACT) or dataset.external:
        raise ValueError(f"{dataset.name!r} must be stored in one piece and in this file")
    array, dtype = dataset[()], dtype_of(dataset)
    return array if dtype == dataset.dtype else array.view(dtype)
