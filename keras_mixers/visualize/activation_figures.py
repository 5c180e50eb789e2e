"""Figures of the hidden units that an image activates."""

from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_mixers import arguments
from keras_mixers.probe import (
    channel_mixing_activations,
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
    signed,
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
    drawn = axes.imshow(hidden, aspect="auto", interpolation="nearest", **signed(hidden))
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
