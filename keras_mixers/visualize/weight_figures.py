"""Figures of weights: hidden units, kernels, patch filters and positions."""

from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_mixers import arguments
from keras_mixers.probe import (
    depthwise_kernels,
    patch_filters,
    position_similarity,
    token_mixing_units,
)
from keras_mixers.probe.collect import one_layer
from keras_mixers.visualize.canvas import (
    add_colorbar,
    aspect,
    set_title,
    signed,
    strongest,
    tiles,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_token_mixing_units(
    model: keras.Model, layer: int | str = 0, *, units: int = 64
) -> "Figure":
    """Plot the hidden units of one token-mixing MLP: the weights of each unit on the patch grid.

    Args:
        model: as for `km.token_mixing_units`.
        layer: name or number of a token-mixing layer.
        units: largest number of units to plot; the figure shows those with the largest norm, by
            index.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: if the model has no such layer.

    Example:
        >>> from keras_mixers import MLPMixer
        >>> figure = plot_token_mixing_units(MLPMixer("S/16", input_shape=(64, 96, 3), depth=1))

    Source: "MLP-Mixer: An all-MLP Architecture for Vision", arXiv 2105.01601, figure 5.
    """
    ((name, weights),) = token_mixing_units(model, one_layer(layer)).items()
    return sheet("units", weights, units, f"{name}: hidden units over the patches")


def plot_depthwise_kernels(
    model: keras.Model, layer: int | str = 0, *, kernels: int = 64
) -> "Figure":
    """Plot the depthwise kernels of one ConvMixer block.

    Args:
        model: as for `km.probe.depthwise_kernels`.
        layer: name or number of a ConvMixer block.
        kernels: largest number of kernels to plot; the figure shows those with the largest norm,
            by index.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: if the model has no such block.

    Example:
        >>> from keras_mixers import ConvMixer
        >>> model = ConvMixer("256/8-k5-p2", input_shape=(32, 32, 3), depth=1)
        >>> figure = plot_depthwise_kernels(model)

    Source: "Patches Are All You Need?", arXiv 2201.09792, figure 4.
    """
    ((name, weights),) = depthwise_kernels(model, one_layer(layer)).items()
    return sheet("kernels", weights, kernels, f"{name}: depthwise kernels")


def sheet(name, maps, most, title):
    """A figure of small signed maps with one colour scale.

    `name` is the argument that holds `most`, the largest number of maps to draw.
    """
    chosen, title = most_of(name, maps, most, title)
    shown = tiles(maps[chosen])
    figure, axes = one_panel(shown, title)
    drawn = axes.imshow(shown, interpolation="nearest", **signed(shown))
    add_colorbar(figure, axes, drawn, "weight")
    return figure


def most_of(name, maps, most, title):
    """(indices of the maps to draw, title); the title states how many of the maps are drawn."""
    chosen = strongest(maps, arguments.integer(name, most))
    if len(chosen) < len(maps):
        title += f"\n{len(chosen)} of {len(maps)}, those with the largest norm"
    return chosen, title


def one_panel(shown, title):
    """(Figure, Axes) for one picture without axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 0.7 + 5.6 * aspect(shown)), layout="constrained")
    axes = figure.subplots()
    set_title(axes, title)
    axes.set_axis_off()
    return figure, axes


def plot_patch_filters(model: keras.Model, *, filters: int = 64) -> "Figure":
    """Plot the filters of the patch embedding.

    Filters of three channels are drawn in colour. Of other filters the figure shows the mean over
    the channels.

    Args:
        model: as for `km.probe.patch_filters`.
        filters: largest number of filters to plot; the figure shows those with the largest norm,
            by index.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: if the model has no `PatchEmbed`.

    Example:
        >>> from keras_mixers import ViT
        >>> figure = plot_patch_filters(ViT("Ti/16", depth=1))

    Source: "An Image is Worth 16x16 Words", arXiv 2010.11929, figure 7.
    """
    maps, title = patch_filters(model), "Patch embedding: filters"
    if maps.shape[-1] != 3:
        return sheet("filters", maps.mean(axis=-1), filters, title)
    chosen, title = most_of("filters", maps, filters, title)
    shown = tiles(maps[chosen] / (2 * np.abs(maps[chosen]).max()) + 0.5)
    figure, axes = one_panel(shown, f"{title}; grey is zero")
    axes.imshow(np.nan_to_num(shown, nan=1.0), interpolation="nearest")
    return figure


def plot_position_similarity(model: keras.Model) -> "Figure":
    """Plot the similarity of position embeddings: for each patch a map of all patches.

    A dot marks the patch itself. The colours begin at the smallest similarity.

    Args:
        model: as for `km.probe.position_similarity`.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: if the model has no `PositionEmbedding`.

    Example:
        >>> from keras_mixers import ViT
        >>> figure = plot_position_similarity(ViT("Ti/16", input_shape=(32, 48, 3), depth=1))

    Source: "An Image is Worth 16x16 Words", arXiv 2010.11929, figure 7.
    """
    from matplotlib.figure import Figure

    similarity = position_similarity(model)
    rows, columns = similarity.shape[:2]
    gapped = np.full((rows, rows + 1, columns, columns + 1), np.nan)
    gapped[:, :rows, :, :columns] = similarity.transpose(0, 2, 1, 3)
    gapped = gapped.reshape(rows * (rows + 1), columns * (columns + 1))[:-1, :-1]

    figure = Figure(figsize=(6.4, 0.7 + 5.6 * rows / columns), layout="constrained")
    axes = figure.subplots()
    drawn = axes.imshow(gapped, vmin=similarity.min(), vmax=1, interpolation="nearest")
    add_colorbar(figure, axes, drawn, "cosine similarity")
    y, x = np.mgrid[:rows, :columns].reshape(2, -1) * [[rows + 2], [columns + 2]]
    axes.scatter(x, y, s=200 / (rows * columns), color="black", linewidth=0)
    axes.set(
        title="Position embeddings: similarity of each patch to all patches",
        xlabel="column of the patch",
        ylabel="row of the patch",
        xticks=np.arange(columns) * (columns + 1) + (columns - 1) / 2,
        yticks=np.arange(rows) * (rows + 1) + (rows - 1) / 2,
    )
    axes.set_xticklabels(range(columns))
    axes.set_yticklabels(range(rows))
    axes.tick_params(length=0, labelsize=8)
    return figure
