"""labels.txt: the names of the classes, one in each line."""

from keras_mixers import arguments

LABELS = "labels.txt"


def lines_of(names):
    r"""The content of the file; a line break in a name becomes `\n`."""
    return "".join(f"{arguments.one_line(name)}\n" for name in names)
