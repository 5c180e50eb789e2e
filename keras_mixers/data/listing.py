"""Which images a user's dataset has, with their labels and splits."""

import dataclasses

from keras_mixers import arguments

SPLITS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


@dataclasses.dataclass(frozen=True)
class Listing:
    """The images of a folder or of a CSV file.

    Args:
        class_names: one name per class, in the order of the class indices.
        images: `{split: [(absolute path, class index), ...]}` in a fixed order that mixes the
            classes. If an image may have several labels, the second part is a tuple of indices.
            `"train"` is always a key.
        skipped: `{reason: [absolute path, ...]}` of the files and folders that are not read.
        multi_label: whether an image may have several labels.
        lines: `{absolute path: number of its line}` in a CSV file.
    """

    class_names: tuple
    images: dict
    skipped: dict
    multi_label: bool = False
    lines: dict = dataclasses.field(default_factory=dict)

    @property
    def num_hot(self):
        """The number of classes of multi-hot labels; None for class indices."""
        return len(self.class_names) if self.multi_label else None

    def named(self, path):
        """What to call a file in a message: its path, and in a CSV file its line."""
        line = f" (line {self.lines[path]})" if path in self.lines else ""
        return f"{arguments.one_line(path)}{line}"


def described(skipped):
    """The counts of skipped files as text: "3 .tif, 1 broken link"."""
    return ", ".join(f"{len(paths)} {reason}" for reason, paths in sorted(skipped.items()))
