"""What a user passes as `files`, as a list with one item for each image."""

import collections
import os

from keras_mixers import arguments
from keras_mixers.data.folder import SUFFIXES, described, entries, is_folder, why_skipped

EXPECTED = (
    "`files` must be a path, a folder, a PIL image or an array (H, W, C) with values in 0..255, or"
    " a list of them"
)


def list_items(files):
    """Paths as strings and other images as they are, in order; a folder becomes its image files.

    Raises:
        ValueError, TypeError: if an item is neither a path nor an image, if a path is neither a
            file nor a folder, or if a folder has no images.
        OSError: if a folder cannot be listed; the error names it.
    """
    if is_path(files) or is_pillow(files) or len(getattr(files, "shape", ())) == 3:
        files = [files]
    most = arguments.LARGEST_INTEGER
    files = arguments.sequence("files", files, most, EXPECTED)
    if len(files) > most:
        raise ValueError(f"{EXPECTED}. Received: more than {most} items")
    return [item for each in files for item in items_of(each)]


def items_of(item):
    """The images of one item: those of a folder, or the item."""
    if not is_path(item):
        if not is_pillow(item) and not hasattr(item, "shape"):
            raise TypeError(f"{EXPECTED}. {arguments.received(item=item)}")
        return [item]
    path = arguments.path("files", item)
    if path.is_dir():
        return images_in(path)
    if not path.is_file():
        kind = "is not a regular file" if path.exists() else "does not exist"
        raise ValueError(f"{EXPECTED}. Received: {arguments.shown(os.fspath(path))}, which {kind}")
    return [os.fspath(path)]


def images_in(folder):
    """The paths of the images in a folder, by name; a warning counts the files of other kinds."""
    found, skipped = [], collections.defaultdict(list)
    for name, path, status in entries(folder):
        reason = "folder" if is_folder(status) else why_skipped(name, status)
        (skipped[reason] if reason else found).append(path)
    contents = f" (it has {described(skipped)})" if skipped else ""
    if not found:
        raise ValueError(
            f"`files` must name folders with images directly in them, with the suffixes"
            f" {', '.join(SUFFIXES)}. Received: {os.fspath(folder)!r}, which has no such"
            f" image{contents}"
        )
    if skipped:
        arguments.warn(f"`predict` skips files in {os.fspath(folder)!r}: {described(skipped)}")
    return found


def is_path(item):
    """Whether an item is a path, which may be wrong."""
    return isinstance(item, (str, os.PathLike))


def is_pillow(item):
    """Whether an item is a PIL image."""
    from PIL import Image

    return isinstance(item, Image.Image)
