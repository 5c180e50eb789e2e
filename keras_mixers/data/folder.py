"""List the images in a folder by class, in a fixed order."""

import collections
import itertools
import os
import pathlib
import random
import stat

from keras_mixers.data.listing import SPLITS, Listing, described

# Files with other suffixes are skipped unread. The format of a file is found from its content.
SUFFIXES = (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
LARGEST_FILE = 2**28  # bytes: more than an image with the most pixels that are decoded
# What systems and programs add to folders. Names that begin with a dot are ignored too.
ADDED_BY_SYSTEMS = {"__macosx", "@eadir", "desktop.ini", "lost+found", "thumbs.db"}
LAYOUT = "a folder of images by class, class/image.jpg or train/class/image.jpg"


def list_folder(root):
    """The `Listing` of a folder.

    Raises:
        ValueError: if the layout is ambiguous, if a class has no images, if there is only one
            class, or if another split has a class that `train` lacks.
        OSError: if a folder cannot be listed; the error names it.
    """
    root = pathlib.Path(root).absolute()
    skipped = collections.defaultdict(list)
    found = {
        split: images_by_class(folder, skipped) for split, folder in split_folders(root).items()
    }
    check_classes(root, found, skipped)
    names = sorted(found["train"])
    labels = {name: label for label, name in enumerate(names)}
    images = {}
    for split, by_class in found.items():
        pairs = [(path, labels[name]) for name in names for path in by_class.get(name, ())]
        random.Random(split).shuffle(pairs)
        images[split] = pairs
    return Listing(printable(names), images, dict(skipped))


def split_folders(root):
    """`{split: the folder with the folders of its classes}`.

    If `train` has folders with images, the root has splits. Otherwise the root is the training
    split, and `train` is a class.

    Raises:
        ValueError: if both are possible.
    """
    folders = {name: path for name, path, status in entries(root) if is_folder(status)}
    splits = {name: path for name, path in folders.items() if name.lower() in SPLITS}
    if "train" not in map(str.lower, splits):
        return {"train": root}

    direct = {name for name, path in folders.items() if has_images(path)}
    nested = {name for name, path in splits.items() if any(map(has_images, subfolders(path)))}
    if "train" not in map(str.lower, nested):
        if direct and direct <= splits.keys():
            raise ambiguous(root, "has images without a class in", direct)
        return {"train": root}
    if direct & nested or direct - splits.keys():
        raise ambiguous(root, "has folders of images in 'train', and images in", direct)
    by_split = collections.defaultdict(list)
    for name in sorted(nested | direct):
        by_split[SPLITS[name.lower()]].append(name)
    for split, names in by_split.items():
        if len(names) > 1:
            raise ambiguous(root, f"has several folders for the split {split!r}:", names)
    return {split: splits[name] for split, (name,) in by_split.items()}


def ambiguous(root, finding, names):
    """The error about a folder of which it is not clear what is a split and what is a class."""
    return ValueError(
        f"`name` must be {LAYOUT}. Received: name={os.fspath(root)!r}, which {finding}"
        f" {', '.join(map(repr, sorted(names)))}"
    )


def entries(folder):
    """Yield (name, path, status) of what a user put into a folder, by name.

    The status is None for a broken link and for links in a circle.
    """
    with os.scandir(folder) as found:
        for entry in sorted(found, key=lambda entry: entry.name):
            if entry.name.startswith(".") or entry.name.lower() in ADDED_BY_SYSTEMS:
                continue
            try:
                status = entry.stat()
            except OSError:
                status = None
            yield entry.name, entry.path, status


def is_folder(status):
    """Whether a status is that of a folder, or of a link to one."""
    return status is not None and stat.S_ISDIR(status.st_mode)


def subfolders(folder):
    """Yield the paths of the folders in a folder."""
    return (path for _, path, status in entries(folder) if is_folder(status))


def has_images(folder):
    """Whether images are directly in a folder."""
    return any(not why_skipped(name, status) for name, _, status in entries(folder))


def why_skipped(name, status):
    """Why a file is not read; "" for an image.

    A pipe or a device must not be opened, because reading it may never end.
    """
    suffix = pathlib.PurePath(name).suffix.lower()
    if status is None:
        return "broken link"
    if is_folder(status):
        return "folder inside a class"
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    if suffix not in SUFFIXES:
        return suffix or "no suffix"
    return f"over {LARGEST_FILE // 2**20} MiB" if status.st_size > LARGEST_FILE else ""


def images_by_class(folder, skipped):
    """`{name of a class: [path of an image, ...]}`; what is not read goes to `skipped`."""
    found = {}
    for name, path, status in entries(folder):
        if not is_folder(status):
            skipped["outside of classes"].append(path)
            continue
        found[name] = []
        for file_name, file, file_status in entries(path):
            reason = why_skipped(file_name, file_status)
            (skipped[reason] if reason else found[name]).append(file)
    return found


def check_classes(root, found, skipped):
    """Raise a ValueError if classes or images are missing."""
    received = f"Received: name={os.fspath(root)!r}, which"
    seen = f" (skipped: {described(skipped)})" if skipped else ""
    train = found["train"]
    if not any(train.values()):
        raise ValueError(
            f"`name` must be {LAYOUT}, with the suffixes {', '.join(SUFFIXES)}. {received} has no"
            f" such image{seen}"
        )
    empty = [name for name, files in train.items() if not files]
    if empty:
        raise ValueError(
            f"`name` must be {LAYOUT}, with images of every class. {received} has no images of"
            f" {', '.join(map(repr, empty))}{seen}"
        )
    if len(train) < 2:
        raise ValueError(
            f"`name` must be {LAYOUT}, with at least two classes. {received} has only"
            f" {next(iter(train))!r}"
        )
    for split, by_class in found.items():
        extra = [name for name, files in by_class.items() if files and name not in train]
        if extra:
            raise ValueError(
                f"`name` must be {LAYOUT}, with the same classes in each split. {received} has"
                f" classes in {split!r} that 'train' lacks: {', '.join(map(repr, extra))}"
            )


def printable(names):
    r"""The names with each byte that is not UTF-8 as `\xNN`, all different."""
    texts = []
    for name in names:
        text = os.fsencode(name).decode("utf-8", "backslashreplace")
        candidates = itertools.chain([text], (f"{text} ({i})" for i in itertools.count(2)))
        texts.append(next(each for each in candidates if each not in texts))
    return tuple(texts)
