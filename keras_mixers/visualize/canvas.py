"""What all figures share: panels, the image under a map, colour bars, tiles of small maps."""

import math

import numpy as np

from keras_mixers.layers import PatchEmbed
from keras_mixers.probe.collect import collect, find_layers
from keras_mixers.probe.images import check_finite, one_image
from keras_mixers.probe.scale import scale_checked

LONGEST_LINE, MOST_LINES = 100, 3  # of a title
# Perceptually uniform colour maps: for values from 0 up, and for values on both sides of 0.
SEQUENTIAL = "viridis"
DIVERGING = "berlin"
# How to draw text that holds names of the user, in which "$" does not begin a formula.
LITERAL = {"parse_math": False, "usetex": False}


def panels(count, title, side=2.4, aspect=1.0, columns=None):
    """(Figure, [Axes]) of `count` panels, `side` inches wide and `aspect` times as high."""
    from matplotlib.figure import Figure

    if columns is None:
        columns = count if count < 5 else min((3, 4, 5), key=lambda columns: -count % columns)
    rows = math.ceil(count / columns)
    # Colour bars need a quarter of a panel's width; titles need fixed heights.
    size = (columns * side * 1.25, rows * (side * aspect + 0.35) + 0.45)
    figure = Figure(figsize=size, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.15)  # inches, for the numbers at the colour bars
    figure.suptitle(drawable_text(title), **LITERAL)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for unused in axes[count:]:
        unused.remove()
    return figure, list(axes[:count])


def set_title(axes, title):
    """Give a panel a title, which may hold any names of classes, layers and metrics."""
    axes.set_title(drawable_text(title), **LITERAL)


def drawable_text(text):
    """A text without what matplotlib cannot draw, and not longer than a title can be."""
    lines = text.encode("utf-8", "replace").decode().replace("\0", " ").splitlines()[:MOST_LINES]
    return "\n".join(
        line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]} ..." for line in lines
    )


def add_colorbar(figure, axes, drawn, label=None, extend="neither"):
    """Add a colour bar to the right of a panel, as high as its content.

    `extend="max"` draws a tip on the bar, because larger values have the last colour too.
    """
    figure.colorbar(drawn, cax=axes.inset_axes([1.03, 0, 0.05, 1]), label=label, extend=extend)


def background(model, image, picture, name="picture"):
    """The picture under a map: `picture`, or the input of `PatchEmbed` if `picture` is None.

    `name` is the argument that holds the picture.
    """
    if picture is not None:
        return drawable(name, picture)
    (patch_embed,) = find_layers(model, PatchEmbed, 0)
    images = one_image(model, image)
    with scale_checked():  # because the caller computes with the same image, and this warns once
        (patched,) = collect(model, images, [patch_embed], lambda layer, x: x, 1).values()
    return drawable("image", patched[0])


def restored(images, preprocessing):
    """Images in 0..1, as the dataset has them: the inverse of the normalization."""
    preprocessing.check_channels(images.shape[-1])
    mean, std = (np.array(each, "float32") for each in (preprocessing.mean, preprocessing.std))
    return np.clip(images * std + mean, 0, 1)


def aspect(picture):
    """Height divided by width."""
    return picture.shape[0] / picture.shape[1]


def drawable(name, picture):
    """An array as colours in [0, 1]: `(H, W)` or `(H, W, C) -> (H, W, 3)`.

    Bytes are divided by 255. Other values are rescaled to [0, 1] if any lies outside. An array
    that does not have 3 channels becomes grey, the mean of its channels.

    Raises:
        ValueError, TypeError: if the array has another number of axes, is empty, or is not finite.
    """
    array = check_finite(name, picture)
    if array.ndim not in (2, 3) or not array.size:
        raise ValueError(
            f"`{name}` must be of shape (H, W) or (H, W, C). Received: shape {array.shape}"
        )
    if array.dtype == "uint8":
        array = array / 255
    low, high = array.min(), array.max()
    if low < 0 or high > 1:
        array = (array - low) / max(high - low, 1e-12)
    if array.ndim == 2 or array.shape[-1] != 3:
        grey = array if array.ndim == 2 else array.mean(axis=-1)
        array = np.repeat(grey[..., None], 3, axis=-1)
    return array


def draw_picture(axes, picture):
    """Draw a picture in its pixel coordinates, and hide the axes."""
    height, width = picture.shape[:2]
    axes.imshow(picture, extent=(0, width, height, 0))
    axes.set_axis_off()


def overlay(axes, picture, heat, **colours):
    """Draw a map of the patches over a grey picture; each value covers its patch."""
    height, width = picture.shape[:2]
    draw_picture(axes, np.repeat(picture.mean(axis=-1, keepdims=True), 3, axis=-1))
    return axes.imshow(
        heat, extent=(0, width, height, 0), alpha=0.7, **{"cmap": SEQUENTIAL, "vmin": 0, **colours}
    )


def mark_patch(axes, picture, grid, query):
    """Draw a frame around the patch at (row, column)."""
    from matplotlib.patches import Rectangle

    height, width = picture.shape[0] / grid.rows, picture.shape[1] / grid.columns
    corner = (query[1] * width, query[0] * height)
    return axes.add_patch(
        Rectangle(corner, width, height, fill=False, edgecolor="crimson", linewidth=2)
    )


def strongest(maps, count):
    """Indices, ascending, of the `count` maps with the largest norm: `(K, h, w) -> (k,)`."""
    norms = np.linalg.norm(maps.reshape(len(maps), -1), axis=1)
    return np.sort(np.argsort(-norms, kind="stable")[:count])


def tiles(maps):
    """Small maps on one sheet, with gaps of one pixel (NaN) between them.

    Shapes: `(K, h, w) -> (rows (h + 1) - 1, columns (w + 1) - 1)`.
    """
    count, height, width = maps.shape[:3]
    columns = math.ceil(math.sqrt(count * height / width))
    rows = math.ceil(count / columns)
    sheet = np.full((rows * (height + 1), columns * (width + 1), *maps.shape[3:]), np.nan)
    for i, tile in enumerate(maps):
        top, left = i // columns * (height + 1), i % columns * (width + 1)
        sheet[top : top + height, left : left + width] = tile
    return sheet[:-1, :-1]


def signed(values):
    """Arguments of `imshow` for signed values: a diverging colour map with 0 in its middle."""
    largest = float(np.nanmax(np.abs(values))) or 1.0
    return {"cmap": DIVERGING, "vmin": -largest, "vmax": largest}
