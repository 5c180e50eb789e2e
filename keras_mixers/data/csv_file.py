"""List the images that a CSV file names, with their labels."""

import contextlib
import csv
import os
import pathlib
import random

from keras_mixers import arguments
from keras_mixers.data.listing import SPLITS, Listing

SEPARATOR = ";"  # between the labels of an image in the column `labels`
KNOWN = ("path", "label", "labels", "split")
FLAGS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}
FORMAT = (
    "a CSV file in UTF-8 whose first line names its columns, separated by commas: 'path', then"
    " 'label', 'labels' or one column of 0 and 1 for each class, and optionally 'split'"
)


def list_csv(path):
    """The `Listing` of a CSV file.

    Raises:
        ValueError: if the file is not in this format; the message names the line and the column.
        OSError: if the file cannot be read.
    """
    path = pathlib.Path(path).absolute()
    images, lines = {"train": []}, {}
    with reading(path) as reader:
        columns = checked_columns(path, next(reader, []))
        labels_of, class_names = label_reader(columns)
        for values in reader:
            if values:  # a line may be empty
                try:
                    row = named_values(columns, values)
                    image, split, labels = image_of(path, row, lines), split_of(row), labels_of(row)
                except ValueError as error:
                    raise wrong(path, error, reader.line_num) from None
                images.setdefault(split, []).append((image, labels))
                lines[image] = reader.line_num
    multi_label = "label" not in columns
    class_names = class_names or sorted_names(images["train"])
    check_labels(path, images, class_names, lines, multi_label)
    return Listing(
        class_names=tuple(class_names),
        images=mixed_indices(images, class_names, multi_label),
        skipped={},
        multi_label=multi_label,
        lines=lines,
    )


@contextlib.contextmanager
def reading(path):
    """Yield a reader of the rows of a CSV file."""
    try:
        # Spreadsheet programs write a mark at the beginning, which `utf-8-sig` ignores.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            yield reader
    except UnicodeDecodeError as error:
        raise wrong(path, f"it has bytes that are not UTF-8 ({error.reason})") from error
    except csv.Error as error:
        raise wrong(path, error, reader.line_num) from error


def wrong(path, problem, line=None):
    """The error about a CSV file, or about one of its lines."""
    place = os.fspath(path) + (f", line {line}" if line else "")
    return ValueError(f"`name` must be {FORMAT}. Received: name={place!r}: {problem}")


def checked_columns(path, names):
    """The names of the columns from the first line; those of `KNOWN` in lower case."""
    names = [name.strip() for name in names]
    columns = [name.lower() if name.lower() in KNOWN else name for name in names]
    shown = f"its first line is {arguments.shown(names)}"
    if "path" not in columns:
        raise wrong(path, f"{shown}, without a column 'path'")
    if repeated := [name for name in columns if columns.count(name) > 1]:
        raise wrong(path, f"{shown}, with two columns {repeated[0]!r}")
    if {"label", "labels"} <= set(columns):
        raise wrong(path, f"{shown}, with 'label' and 'labels'; remove one of them")
    if not {"label", "labels"} & set(columns) and ("" in columns or set(columns) <= set(KNOWN)):
        raise wrong(path, f"{shown}, which lacks the name of a column with labels")
    return columns


def named_values(columns, values):
    """`{column: text}` of a line."""
    if len(values) != len(columns):
        raise ValueError(
            f"it has {len(values)} values for {len(columns)} columns; a value with a comma must be"
            ' in quotes (")'
        )
    return dict(zip(columns, values, strict=True))


def image_of(path, row, lines):
    """The absolute path of the image in a line; relative paths begin at the CSV file's folder."""
    name = row["path"]
    if not name.strip() or "\0" in name:
        raise ValueError(f"the column 'path' must be the path of an image, not {name!r}")
    image = os.fspath(path.parent / name)
    if image in lines:
        raise ValueError(
            f"the column 'path' repeats {name!r} of line {lines[image]}; an image has one line, and"
            f" the column 'labels' has several labels, separated by {SEPARATOR!r}"
        )
    return image


def split_of(row):
    """The split of the image in a line."""
    split = row.get("split", "train").strip()
    if split.lower() not in SPLITS:
        raise ValueError(f"the column 'split' must be one of {', '.join(SPLITS)}, not {split!r}")
    return SPLITS[split.lower()]


def label_reader(columns):
    """A function of a line that returns its labels as a tuple, and the class names or None."""
    if "label" in columns:
        return one_label, None
    if "labels" in columns:
        return several_labels, None
    class_names = [name for name in columns if name not in KNOWN]

    def flagged_labels(row):
        return tuple(name for name in class_names if is_set(name, row[name]))

    return flagged_labels, class_names


def one_label(row):
    """The label in the column `label`."""
    label = row["label"].strip()
    if not label:
        raise ValueError(
            "the column 'label' is empty; for images without a label, call the column 'labels'"
        )
    return (label,)


def several_labels(row):
    """The labels in the column `labels`; an empty cell has none."""
    labels = (label.strip() for label in row["labels"].split(SEPARATOR))
    return tuple(dict.fromkeys(label for label in labels if label))


def is_set(name, value):
    """Whether a column of 0 and 1 is 1."""
    if value.strip().lower() not in FLAGS:
        raise ValueError(f"the column {name!r} must be 0 or 1, not {arguments.shown(value)}")
    return FLAGS[value.strip().lower()]


def sorted_names(pairs):
    """The labels of (image, labels) pairs, sorted: as numbers if all of them are integers."""
    names = {label for _, labels in pairs for label in labels}
    are_integers = all(name.isascii() and name.isdecimal() for name in names)
    return sorted(names, key=lambda name: (int(name), name) if are_integers else name)


def check_labels(path, images, class_names, lines, multi_label):
    """Raise a ValueError if images for training, classes or their images are missing."""
    if not images["train"]:
        raise wrong(path, "it has no images for training")
    if not class_names or (not multi_label and len(class_names) < 2):
        raise wrong(path, f"the images for training have only the labels {class_names}")
    trained = {label for _, labels in images["train"] for label in labels}
    for split, pairs in images.items():
        for image, labels in pairs:
            if extra := [label for label in labels if label not in trained]:
                raise wrong(
                    path,
                    f"the label {extra[0]!r} in {split!r} must be that of an image in 'train' too",
                    lines[image],
                )
    if empty := [name for name in class_names if name not in trained]:
        raise wrong(
            path, f"no image in 'train' has the label {empty[0]!r}; remove its column or add images"
        )


def mixed_indices(images, class_names, multi_label):
    """`{split: [(image, class index or indices), ...]}` in a fixed order that mixes the classes."""
    index = {name: i for i, name in enumerate(class_names)}
    mixed = {}
    for split, pairs in images.items():
        indexed = [(image, tuple(sorted(map(index.get, labels)))) for image, labels in pairs]
        mixed[split] = indexed if multi_label else [(image, label) for image, (label,) in indexed]
        random.Random(split).shuffle(mixed[split])
    return mixed
