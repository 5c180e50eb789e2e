"""What `check` found, as data and as text."""

import dataclasses

from keras_mixers import arguments
from keras_mixers.data.listing import described

MOST_LINES = 20  # files or classes that the text names of each kind


@dataclasses.dataclass(frozen=True)
class FolderReport:
    """What `check` found in a folder or a CSV file of images; `print` shows it.

    Args:
        name: the path of the folder or of the CSV file.
        class_names: one name per class, in the order of the class indices.
        num_images: `{split: number of image files}`, without those that are skipped.
        bad: `{path: problem}` of the files that are not readable images.
        skipped: `{reason: paths}` of the files and folders that `load` does not read.
        smallest: (height, width) of the readable image with the fewest pixels, or None.
        largest: (height, width) of the readable image with the most pixels, or None.
        median: the median height and the median width of the readable images, or None.
        num_per_class: `{split: {class name: number of readable images}}`.
        num_without_labels: `{split: number of readable images without a label}`.
        rotated: the paths of images that their EXIF orientation turns or mirrors.
        changed: `{kind: paths}` of the images whose values change: `"grey"`, `"CMYK"`,
            `"with alpha"` or `"16 bits"`.
        duplicates: groups of paths whose images have the same pixels.
        in_several_splits: those groups that are in `"train"` and in another split.
        conflicting: those groups that have different labels.
    """

    name: str
    class_names: tuple[str, ...]
    num_images: dict[str, int]
    bad: dict[str, str]
    skipped: dict[str, list[str]]
    smallest: tuple[int, int] | None
    largest: tuple[int, int] | None
    median: tuple[int, int] | None
    num_per_class: dict[str, dict[str, int]]
    num_without_labels: dict[str, int]
    rotated: list[str]
    changed: dict[str, list[str]]
    duplicates: list[tuple[str, ...]]
    in_several_splits: list[tuple[str, ...]]
    conflicting: list[tuple[str, ...]]

    def __str__(self) -> str:
        counts = ", ".join(f"{count} in {split}" for split, count in self.num_images.items())
        lines = [f"{self.name}: {len(self.class_names)} classes, images: {counts}"]
        lines += class_lines(self)
        if self.smallest and self.largest and self.median:
            sizes = (self.smallest, self.largest, self.median)
            small, large, median = ("{} x {}".format(*size) for size in sizes)
            lines.append(f"height x width: from {small} to {large} pixels, median {median}")
        if self.rotated:
            lines.append(f"turned upright by EXIF orientation: {len(self.rotated)}")
        if self.changed:
            lines.append(f"changed to RGB with 8 bits: {described(self.changed)}")
        if self.skipped:
            lines.append(f"skipped: {described(self.skipped)}")
        lines.append(f"not readable: {len(self.bad)}")
        lines += first(f"  {path}: {problem}" for path, problem in self.bad.items())
        groups = {
            "pictures that are there several times": self.duplicates,
            "of these, in train and in another split (the validation is too good)": (
                self.in_several_splits
            ),
            "of these, with different labels (some labels are wrong)": self.conflicting,
        }
        for title, paths in groups.items():
            if paths:
                lines.append(f"{title}: {len(paths)}")
                lines += first(f"  {', '.join(group)}" for group in paths)
        return "\n".join(map(arguments.one_line, lines))


def class_lines(report):
    """One line for each class: its number of readable images in each split."""
    splits = list(report.num_per_class)
    lines = []
    for name in report.class_names:
        counts = ", ".join(f"{report.num_per_class[split][name]} in {split}" for split in splits)
        lines.append(f"  {name}: {counts}")
    lines = first(lines)
    if any(report.num_without_labels.values()):
        counts = report.num_without_labels.items()
        counts = ", ".join(f"{count} in {split}" for split, count in counts)
        lines.append(f"  without labels: {counts}")
    return lines


def first(lines):
    """The first lines, and how many more there are."""
    lines = list(lines)
    more = len(lines) - MOST_LINES
    return lines[:MOST_LINES] + ([f"  ... and {more} more"] if more > 0 else [])
