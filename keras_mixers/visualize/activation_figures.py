"""Figures of the activations that an image causes: hidden units and features."""

from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_mixers import arguments
from keras_mixers.probe import (
    channel_mixing_activations,
    features,
    token_grid,
    token_mixing_activations,
)
from keras_mixers.probe.collect import one_layer
from keras_mixers.probe.images import one_image
from keras_mixers.visualize.canvas import (
    add_colorbar,
    aspect,
    background,
    draw_picture,
    overlay,
    panels,
    set_title,
    strongest,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_token_mixing_activations(
    model: keras.Model, image: np.ndarray, layer: int | str = 0
) -> "Figure":
    """Plot the activation of each hidden unit of a token-mixing MLP in each channel.

    Args:
        model: as for `km.probe.token_mixing_activations`.
        image: `(H, W, C)`, in the value range that the model expects.
        layer: name or number of a token-mixing layer.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: if the model has no such layer, or the image does not fit the model.

    Example:
        >>> from keras_mixers import MLPMixer
        >>> model = MLPMixer("S/16", input_shape=(32, 48, 3), hidden_dim=64, depth=1)
        >>> figure = plot_token_mixing_activations(model, np.zeros((32, 48, 3)))

    Source: "MLP-Mixer: An all-MLP Architecture for Vision", arXiv 2105.01601.
    """
    from matplotlib.figure import Figure

    ((name, (hidden,)),) = token_mixing_activations(
        model, one_image(model, image), one_layer(layer)
    ).items()
    figure = Figure(figsize=(6.4, 5), layout="constrained")
    axes = figure.subplots()
    drawn = axes.imshow(hidden, aspect="auto", interpolation="nearest")
    add_colorbar(figure, axes, drawn, "activation")
    set_title(axes, f"{name}: hidden activations")
    axes.set(xlabel="channel", ylabel="hidden unit")
    return figure


def plot_channel_mixing_activations(
    model: keras.Model,
    image: np.ndarray,
    layer: int | str = 0,
    *,
    units: int = 11,
    picture: np.ndarray | None = None,
) -> "Figure":
    """Plot where on the image the hidden units of a channel-mixing MLP are active.

    Args:
        model: as for `km.probe.channel_mixing_activations`, with one `PatchEmbed`.
        image: `(H, W, C)`, in the value range that the model expects.
        layer: name or number of a channel-mixing layer.
        units: largest number of units to plot; the figure shows the most active ones by index.
        picture: as for `plot_attention`.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: if the model has no such layer, or the image does not fit the model.

    Example:
        >>> from keras_mixers import MLPMixer
        >>> model = MLPMixer("S/16", input_shape=(32, 48, 3), hidden_dim=64, depth=1)
        >>> figure = plot_channel_mixing_activations(model, np.zeros((32, 48, 3)))
    """
    ((name, (hidden,)),) = channel_mixing_activations(
        model, one_image(model, image), one_layer(layer)
    ).items()
    maps = token_grid(model, len(hidden)).patches(hidden.T)
    chosen = strongest(maps, arguments.integer("units", units))
    picture = background(model, image, picture)

    title = f"{name}: where hidden units are active"
    figure, (first, *others) = panels(len(chosen) + 1, title, aspect=aspect(picture))
    draw_picture(first, picture)
    first.set_title("image")
    for axes, unit in zip(others, chosen, strict=True):
        low = min(0.0, float(maps[unit].min()))  # because GELU has small negative values
        add_colorbar(figure, axes, overlay(axes, picture, maps[unit], vmin=low))
        axes.set_title(f"unit {unit}")
    return figure


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
    centred = patches - patches.mean(axis=0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    explained = (size[:3] ** 2).sum() / max((size**2).sum(), 1e-12)
    colours = np.zeros((len(centred), 3))
    is_signal = size[:3] > 1e-4 * size[0]  # because smaller components are rounding errors
    colours[:, : min(3, len(size))] = left[:, :3] * is_signal
    limit = np.abs(colours).max(axis=0)
    colours = 0.5 + colours / np.where(limit, 2 * limit, 1)

    picture = background(model, image, picture)
    figure, (first, second) = panels(2, f"{name}: features", side=3, aspect=aspect(picture))
    draw_picture(first, picture)
    first.set_title("image")
    draw_picture(second, colours.reshape(grid.rows, grid.columns, 3))
    second.set_title(f"3 components, {explained:.0%} of the variance")
    return figure
