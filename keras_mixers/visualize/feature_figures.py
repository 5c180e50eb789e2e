"""Figures of the features of patches, whose principal components are colours."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_mixers import arguments
from keras_mixers.probe import feature_pca, features, token_grid
from keras_mixers.probe.collect import one_layer
from keras_mixers.probe.feature_maps import block_ends
from keras_mixers.probe.feature_pca import colours_of, principal_components
from keras_mixers.probe.images import one_image
from keras_mixers.visualize.canvas import aspect, background, draw_picture, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_COLUMNS = 6  # images in one row of a figure


def plot_features(
    model: keras.Model,
    image: np.ndarray,
    layer: int | str = -1,
    *,
    picture: np.ndarray | None = None,
) -> "Figure":
    """Plot a layer's features: the first three principal components as red, green and blue.

    Patches with similar features have similar colours. The function computes the components from
    the patches of this image.

    Args:
        model: as for `km.probe.features`, with one `PatchEmbed`.
        image: `(H, W, C)`, in the value range that the model expects.
        layer: name of any layer that returns tokens or a grid of tokens, or number of a `Residual`
            or `ConvMixerBlock` layer.
        picture: as for `plot_attention`.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: if the layer's output does not have one vector for each patch, or the image
            does not fit the model.

    Example:
        >>> from keras_mixers import ViT
        >>> model = ViT("Ti/16", input_shape=(32, 48, 3), depth=1, num_classes=10)
        >>> figure = plot_features(model, np.zeros((32, 48, 3)), layer="norm")

    Source: "DINOv2: Learning Robust Visual Features without Supervision", arXiv 2304.07193,
    figure 1.
    """
    ((name, (tokens,)),) = features(model, one_image(model, image), one_layer(layer)).items()
    grid = token_grid(model, len(tokens) if tokens.ndim == 2 else None)
    if tokens.ndim != 2 and tokens.shape[:-1] != (grid.rows, grid.columns):
        raise ValueError(
            "`layer` must be one whose output is tokens (T, D), or their grid of"
            f" {grid.rows} x {grid.columns}. {arguments.received(layer=layer)}, whose output is"
            f" {tokens.shape}"
        )
    patches = tokens[grid.num_prefix :] if tokens.ndim == 2 else tokens
    patches = patches.reshape(-1, patches.shape[-1])
    scores, explained = principal_components(patches)
    colours = colours_of(scores).reshape(grid.rows, grid.columns, 3)

    picture = background(model, image, picture)
    figure, (first, second) = panels(2, f"{name}: features", side=3, aspect=aspect(picture))
    draw_picture(first, picture)
    first.set_title("image")
    draw_picture(second, colours)
    second.set_title(f"3 components, {explained:.0%} of the variance")
    return figure


def plot_feature_pca(
    model: keras.Model,
    images: np.ndarray,
    block: int = -1,
    *,
    foreground: bool = False,
    pictures: Sequence[np.ndarray] | None = None,
) -> "Figure":
    """Plot `km.probe.feature_pca` of several images: similar patches have similar colours.

    The colours are below each image. The components are those of all images together, so that parts
    of objects have the same colour in all images if their features are similar.

    Args:
        model: as for `km.probe.feature_pca`.
        images: `(N, H, W, C)`, in the value range that the model expects.
        block: number of the block whose features to draw, -1 for the last.
        foreground: whether to leave out the background, which the figure draws in black.
        pictures: N pictures to draw as the images, each as `picture` of `plot_attention`. `None`:
            the input of `PatchEmbed`.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: if `km.probe.feature_pca` raises one, or if `pictures` are not N pictures.

    Example:
        >>> from keras_mixers import ViT
        >>> model = ViT("Ti/16", input_shape=(32, 48, 3), depth=1, num_classes=10)
        >>> figure = plot_feature_pca(model, np.zeros((2, 32, 48, 3)))
        >>> [axes.get_title() for axes in figure.axes]
        ['image 0', 'image 1', '', '']

    Source: "DINOv2: Learning Robust Visual Features without Supervision", arXiv 2304.07193,
    figure 1.
    """
    colours = feature_pca(model, images, block, foreground=foreground)
    count = len(colours)
    if pictures is not None and len(pictures) != count:
        raise ValueError(
            f"`pictures` must be {count} pictures, one for each image. Received: {len(pictures)}"
        )
    pictures = [
        background(model, image, None if pictures is None else pictures[i])
        for i, image in enumerate(images)
    ]
    part = " of the foreground" if foreground else ""
    title = f"block {block % len(block_ends(model))}: features{part}"
    strips = math.ceil(count / MOST_COLUMNS)  # each has a row of images and a row of colours
    columns = math.ceil(count / strips)
    side, height = 3 if columns == 1 else 2, aspect(pictures[0])
    figure, axes = panels(2 * strips * columns, title, side, height, columns)
    rows = np.reshape(axes, (strips, 2, columns))
    above, below = rows[:, 0].ravel(), rows[:, 1].ravel()
    for i in range(count):
        draw_picture(above[i], pictures[i])
        above[i].set_title(f"image {i}")
        draw_picture(below[i], np.nan_to_num(colours[i]))
    for unused in (*above[count:], *below[count:]):
        unused.remove()
    return figure
