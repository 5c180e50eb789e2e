"""The pictures of mistakes on a page about an evaluation."""

import pathlib

from keras_mixers.visualize import html
from keras_mixers.visualize.canvas import drawable, restored
from keras_mixers.visualize.explorer import picture_of

MOST_PICTURES = 48  # of each kind of mistake


def mistake_picture(mistake, info, caption):
    """The image of a mistake with a caption; `info` is an `Info` or None."""
    image = restored(mistake.image, info.preprocessing) if info else mistake.image
    source = picture_of(drawable("image", image))
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
