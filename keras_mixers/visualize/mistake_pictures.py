"""The pictures of mistakes on a page about an evaluation."""

import pathlib

import numpy as np

from keras_mixers.visualize import html
from keras_mixers.visualize.canvas import drawable
from keras_mixers.visualize.explorer import picture_of

MOST_PICTURES = 48  # of each kind of mistake


def mistake_picture(mistake, info, caption):
    """The image of a mistake with a caption; `info` is an `Info` or None."""
    source = picture_of(drawable("image", restored(mistake.image, info)))
    parts = pathlib.PurePath(mistake.file or f"image {mistake.index:,}").parts
    name = html.text("/".join(parts[-2:]))  # the file and its folder, often the class
    return html.picture(source, name, f'{caption}<span class="note">{name}</span>')


def mistakes_section(title, kind, items, number):
    """A section with pictures of some of a number of mistakes; `kind` says what and which."""
    if not number:
        return html.section(title, "<p>The model made none.</p>")
    if not items:
        return html.section(title, "<p>The evaluation kept no images.</p>")
    counts = f"{len(items)} of {number:,}"
    return html.section(title, f"<p>{counts} {kind}</p>", html.pictures(items))


def restored(image, info):
    """An image as the dataset has it, in 0..1: the inverse of the normalization."""
    if info is None:
        return image
    info.preprocessing.check_channels(image.shape[-1])
    mean, std = np.array(info.preprocessing.mean), np.array(info.preprocessing.std)
    return np.clip(image * std + mean, 0, 1)
