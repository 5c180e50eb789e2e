"""Numbers and names as text."""

import numpy as np

from keras_mixers import arguments

LONGEST_NAME = 30  # characters of a class name in a table


def images(count):
    """A number of images as text."""
    return f"{count} image" if count == 1 else f"{count} images"


def percent(fraction):
    """A fraction as text; NaN becomes a dash."""
    return "-" if np.isnan(fraction) else f"{fraction:.1%}"


def name_of(mistake):
    """The path of the image of a mistake, or its position in the dataset."""
    return arguments.one_line(mistake.file or f"image {mistake.index}")


def short_name(name):
    """A class name on one line, as UTF-8 can hold it, not longer than a table allows."""
    line = " ".join(name.encode("utf-8", "replace").decode().split())
    return line if len(line) <= LONGEST_NAME else f"{line[: LONGEST_NAME - 3]}..."
