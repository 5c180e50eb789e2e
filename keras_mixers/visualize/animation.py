"""An animation of attention: the query moves over all patches."""

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
    path: str | os.PathLike[str],
    layer: int | str = -1,
    head: int | None = None,
    *,
    picture: np.ndarray | None = None,
    frames_per_second: int = 10,
) -> pathlib.Path:
    """Write a GIF with one frame for each patch: the query, and the attention of that query.

    Args:
        model: as for `km.attention_maps`, with one `PatchEmbed`.
        image: `(H, W, C)`, in the value range that the model expects.
        path: path of the file, ending in `.gif`. The function writes the whole file or nothing.
        layer: name or number of an attention layer.
        head: number of a head, or `None` for the mean over all heads.
        picture: as for `plot_attention`.
        frames_per_second: integer from 1 to 50.

    Returns:
        The path.

    Raises:
        ValueError, TypeError: if the model has no attention layer, or an argument is invalid; the
            message names it.
        OSError: if the file cannot be written; an existing file at `path` stays unchanged.

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

    heads = "mean over heads" if head is None else f"head {head}"
    figure, (left, right) = panels(2, f"{name}, {heads}", side=2.6, aspect=aspect(picture))
    figure.set_dpi(70)  # a GIF of 12 x 12 patches then has 2 MB
    draw_picture(left, picture)
    left.set_title("query")
    drawn = overlay(right, picture, heat[0], vmax=heat.max())  # one scale for all frames
    right.set_title("attention")
    add_colorbar(figure, right, drawn)
    marks = [mark_patch(axes, picture, grid, (0, 0)) for axes in (left, right)]

    def frames():
        for token, weights in enumerate(heat):
            row, column = divmod(token, grid.columns)
            for mark in marks:
                mark.set_xy((column * mark.get_width(), row * mark.get_height()))
            drawn.set_data(weights)
            yield render_frame(figure)
            figure.set_layout_engine("none")  # keep the first frame's layout for all frames

    first, *others = frames()
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
    """A figure as a picture of 64 colours, without dithering, which GIF would compress badly.

    The method is `MAXCOVERAGE`, because it keeps the colour of the frame around the query, although
    few pixels have it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    return drawn.quantize(64, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
