"""Find the files that are readable images, and convert those that TensorFlow does not decode.

A Python function inside tf.data could call Pillow, but it can keep a process from ending, and its
threads wait for each other. So Pillow converts files once, and TensorFlow reads them.
"""

import dataclasses
import os
import pathlib
import stat

from keras_mixers import arguments
from keras_mixers.data.converted import converted
from keras_mixers.data.decoded import decoded
from keras_mixers.data.folder import LARGEST_FILE
from keras_mixers.data.listing import described
from keras_mixers.data.progress import in_threads
from keras_mixers.preprocessing.header import FORMATS, PILLOW, TENSORFLOW, decoder_of

NOT_AN_IMAGE = f"its format is not {FORMATS}"
MOST_NAMED = 3  # files that a message names


@dataclasses.dataclass(frozen=True)
class Readable:
    """Which files are images.

    Args:
        converted: `{path: the converted file that TensorFlow reads instead}`.
        no_images: `[path, ...]` of the files that are in none of the formats.
        problems: `{path: problem}` of the files that cannot be read.
    """

    converted: dict
    no_images: list
    problems: dict


def readable(paths):
    """The `Readable` of a list of paths, from their headers.

    Pillow decodes the files that TensorFlow does not decode, so their problems are all known. Other
    files may still be damaged after their header.

    Raises:
        OSError: if the converted images cannot be written.
    """
    decoders = dict(zip(paths, decoders_of(paths), strict=True))
    for_pillow = [path for path, decoder in decoders.items() if decoder == PILLOW]
    written, problems = converted(for_pillow)
    known = (PILLOW, TENSORFLOW, "")
    problems |= {path: decoder for path, decoder in decoders.items() if decoder not in known}
    return Readable(written, [path for path, decoder in decoders.items() if not decoder], problems)


def decoders_of(paths):
    """For each file what `decoder_of` returns, or the problem if it is empty or does not open."""
    return in_threads(decoder_or_problem, paths, "Reading the headers of the image files")


def decoder_or_problem(path):
    """What `decoder_of` returns for a file, or the problem if it is not opened or is empty."""
    try:
        status = pathlib.Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            return "it is not a regular file"  # reading a pipe may never end
        if status.st_size > LARGEST_FILE:
            return f"it has over {LARGEST_FILE // 2**20} MiB"
        with pathlib.Path(path).open("rb", buffering=0) as file:
            return decoder_of(file) if status.st_size else "it is empty"
    except OSError as error:
        return f"it cannot be opened: {error.strerror}"


def select(name, listing, splits, on_error):
    """The `Listing` of the readable images of some splits, and `{path: its converted file}`.

    Args:
        name: what the user calls the dataset.
        listing: a `Listing`.
        splits: the names of the splits.
        on_error: "raise", or "skip" to decode all images and leave out those that are not readable.

    Raises:
        ValueError: if on_error is "raise" and a file is known to be unreadable, or if no image of a
            class remains for training, or none of a split.
    """
    images = {split: listing.images[split] for split in splits}
    paths = [path for pairs in images.values() for path, _ in pairs]
    found = readable(paths)
    not_images, problems = found.no_images, dict(found.problems)
    if listing.lines:  # the user names each file of a CSV file, so it must be an image
        not_images, problems = [], problems | dict.fromkeys(not_images, NOT_AN_IMAGE)
    if on_error == "skip":
        left_out = {*not_images, *problems}
        _, damaged = decoded([path for path in paths if path not in left_out], found.converted)
        problems |= damaged
    elif problems:
        raise ValueError(
            f"`name` must have readable images; on_error='skip' leaves out the others. Received:"
            f" name={os.fspath(name)!r}, in which {len(problems)} cannot be read:"
            f" {named(listing, problems)}"
        )
    skipped = dict(listing.skipped)
    if not_images:
        skipped["not an image"] = not_images
    if problems:
        skipped["unreadable"] = list(problems)
    if skipped:
        details = f" ({named(listing, problems)})" if problems else ""
        arguments.warn(f"`load` skips files in {os.fspath(name)!r}: {described(skipped)}{details}")
    left_out = {*not_images, *problems}
    images = {
        split: [pair for pair in pairs if pair[0] not in left_out]
        for split, pairs in images.items()
    }
    check_images_remain(name, listing, images)
    return dataclasses.replace(listing, images=images, skipped=skipped), found.converted


def named(listing, problems):
    """The first files with their problems as text."""
    texts = [f"{listing.named(path)}: {problem}" for path, problem in problems.items()]
    return "; ".join(texts[:MOST_NAMED]) + ("; ..." if len(texts) > MOST_NAMED else "")


def check_images_remain(name, listing, images):
    """Raise a ValueError if no image of a class, or of a split, can be read."""
    remaining = set()
    for _, label in images["train"]:
        remaining.update(label if listing.multi_label else [label])
    missing = [text for i, text in enumerate(listing.class_names) if i not in remaining]
    if missing:
        raise ValueError(
            "`name` must have readable images of every class for training. Received:"
            f" name={os.fspath(name)!r}, without one of {', '.join(map(repr, missing))}"
        )
    for split, pairs in images.items():
        if not pairs:
            raise ValueError(
                "`name` must have readable images in each split. Received:"
                f" name={os.fspath(name)!r}, without one in {split!r}"
            )
