"""Attention as a film: the query moves over all patches."""

import os
import pathlib

import keras
import numpy as np

from keras_mixers import arguments, files
from keras_mixers.visualize.attention_figures import maps_of
from keras_mixers.visualize.canvas import (
    add_colorbar,
    aspect,
    background,
    draw_picture,
    mark_patch,
    overlay,
    panels,
)


def animate_attention(
    model: keras.Model,
    image: np.ndarray,
    path: str | os.PathLike,
    layer: int | str = -1,
    head: int | None = None,
    *,
    picture: np.ndarray | None = None,
    frames_per_second: int = 10,
) -> pathlib.Path:
    """Write a GIF in which the query moves over all patches, beside what it attends to.

    Args:
        model: as for `km.attention_maps`, with one `PatchEmbed`.
        image: `(H, W, C)`, as the model takes it.
        path: of the file, ending in `.gif`; it is written whole or not at all.
        layer: a name or a number among the attention layers.
        head: its number, or `None` for the mean of all.
        picture: as for `plot_attention`.
        frames_per_second: from 1 to 50.

    Returns:
        The path.

    Raises:
        ValueError, TypeError: no attention in the model, no such head, the image is of another
            size, or `path` does not end in `.gif` or lies in no folder.
        OSError: the file cannot be written; what was at `path` stays.

    Example:
        >>> import tempfile
        >>> from keras_mixers import ViT
        >>> model = ViT("Ti/16", input_shape=(32, 32, 3), depth=1, num_classes=10)
        >>> path = animate_attention(model, np.zeros((32, 32, 3)), tempfile.mkdtemp() + "/a.gif")
        >>> path.name
        'a.gif'
    """
    path = arguments.file_path(path, ".gif")
    arguments.integer("frames_per_second", frames_per_second, 1, 50)
    name, maps, grid = maps_of(model, image, layer)
    if head is not None:
        arguments.integer("head", head, 0, len(maps) - 1)
    weights = maps.mean(axis=0) if head is None else maps[head]
    heat = grid.patches(weights[grid.num_prefix :])
    picture = background(model, image, picture)

    what = "mean of heads" if head is None else f"head {head}"
    figure, (left, right) = panels(2, f"{name}, {what}", side=2.6, aspect=aspect(picture))
    figure.set_dpi(70)  # a film of 12 x 12 patches is then 2 MB
    draw_picture(left, picture)
    left.set_title("query")
    drawn = overlay(right, picture, heat[0], vmax=heat.max())  # one scale for all frames
    right.set_title("attends to")
    add_colorbar(figure, right, drawn)
    frame = mark_patch(left, picture, grid, (0, 0))

    def film():
        for token, weights in enumerate(heat):
            row, column = divmod(token, grid.columns)
            frame.set_xy((column * frame.get_width(), row * frame.get_height()))
            drawn.set_data(weights)
            yield render_frame(figure)
            figure.set_layout_engine("none")  # found once, it is that of all frames

    first, *others = film()
    with files.replacing(path) as temporary:
        first.save(
            temporary,
            save_all=True,
            append_images=others,
            duration=round(1000 / frames_per_second),
            loop=0,
        )
    return path


def render_frame(figure):
    """A figure as it stands, in few colours and without dithering, which GIF compresses badly.

    The frame around the query is small, and must be among the colours.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    return drawn.quantize(64, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
