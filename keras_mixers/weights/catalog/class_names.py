"""The names of ImageNet-1k's 1,000 classes."""

import functools
import pathlib

IMAGENET_1K_CLASSES = 1000
FILE = pathlib.Path(__file__).with_name("imagenet_1k.txt")


@functools.cache
def imagenet_1k():
    """The names in the order of the classes, each a different one.

    A name is the first word of the class in WordNet 3.0. The five classes whose first word is that
    of another class, or differs from it only in a capital letter, have a longer name.
    """
    return tuple(FILE.read_text("utf-8").splitlines())
