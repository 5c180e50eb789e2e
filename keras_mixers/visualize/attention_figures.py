"""Figures of attention: maps over the image, matrices, rollout, relevance and distance."""

import math
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_mixers import arguments
from keras_mixers.layers import MultiHeadSelfAttention
from keras_mixers.probe import (
    attention_distance,
    attention_maps,
    attention_rollout,
    relevance,
    token_grid,
)
from keras_mixers.probe.attention import Layers
from keras_mixers.probe.collect import find_layers, one_layer
from keras_mixers.probe.grid import prefix_names
from keras_mixers.probe.images import one_image
from keras_mixers.probe.outputs import predict
from keras_mixers.visualize.canvas import (
    SEQUENTIAL,
    add_colorbar,
    aspect,
    background,
    draw_picture,
    mark_patch,
    overlay,
    panels,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_attention(
    model: keras.Model,
    image: np.ndarray,
    query: tuple[int, int] | None = None,
    layer: int | str = -1,
    *,
    picture: np.ndarray | None = None,
) -> "Figure":
    """Plot the attention weights of one token over the image, for each head and on average.

    Args:
        model: as for `km.attention_maps`, with one `PatchEmbed`.
        image: `(H, W, C)`, in the value range that the model expects.
        query: (row, column) of the patch that attends, or `None` for the class token.
        layer: name or number of an attention layer.
        picture: the background of the maps, `(h, w)` or `(h, w, C)` of any size, which shows the
            same content as the model's input. `None`: the input of `PatchEmbed`.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: if the model has no attention layer, or if the image does not fit the model.
        ValueError: if `query` lies outside the grid, or is `None` without a class token.

    Example:
        >>> from keras_mixers import ViT
        >>> model = ViT("Ti/16", input_shape=(32, 48, 3), depth=1, num_classes=10)
        >>> figure = plot_attention(model, np.zeros((32, 48, 3)), query=(1, 2))
        >>> [axes.get_title() for axes in figure.axes]
        ['image', 'mean', 'head 0', 'head 1', 'head 2']
    """
    name, maps, grid = maps_of(model, image, layer)
    token = query_token(model, grid, query)
    picture = background(model, image, picture)
    rows = grid.patches(maps[:, token])

    source = "class token" if query is None else f"patch {tuple(query)}"
    title = f"{name}: what the {source} attends to"
    figure, (first, *others) = panels(len(rows) + 2, title, aspect=aspect(picture))
    draw_picture(first, picture)
    first.set_title("image")
    titles = ["mean", *(f"head {i}" for i in range(len(rows)))]
    for axes, heat, title in zip(others, [rows.mean(axis=0), *rows], titles, strict=True):
        add_colorbar(figure, axes, overlay(axes, picture, heat))
        axes.set_title(title)
    if query is not None:
        for axes in (first, *others):
            mark_patch(axes, picture, grid, query)
    return figure


def maps_of(model, image, layer):
    """(name, weights `(heads, T, T)`, grid) of one attention layer for one image."""
    ((name, (maps,)),) = attention_maps(model, one_image(model, image), one_layer(layer)).items()
    return name, maps, token_grid(model, maps.shape[-1])


def query_token(model, grid, query):
    """The index in the sequence of the patch at `query`, or of the class token for `None`.

    Raises:
        ValueError: if `query` lies outside the grid, or is `None` without a class token.
    """
    if query is not None:
        return grid.token(query)
    names = prefix_names(model, grid.num_prefix)
    if not names or names[0].startswith("register"):
        raise ValueError(
            "`query` must be (row, column) in a model without a class token. Received: query=None"
            f" for '{model.name}', on a grid of {grid.rows} x {grid.columns} patches"
        )
    return 0


def plot_attention_matrix(model: keras.Model, image: np.ndarray, layer: int | str = -1) -> "Figure":
    """Plot the matrix of attention weights, `(T, T)`, of each head: query rows, key columns.

    Lines separate the rows of patches, and the prefix tokens from the patches. The largest
    hundredth of the weights has the last colour, because a few large weights would hide the others.

    Args:
        model: as for `km.attention_maps`, with one `PatchEmbed`.
        image: `(H, W, C)`, in the value range that the model expects.
        layer: name or number of an attention layer.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: if the model has no attention layer, or the image does not fit the model.

    Example:
        >>> from keras_mixers import ViT
        >>> model = ViT("Ti/16", input_shape=(32, 48, 3), depth=1, num_classes=10)
        >>> figure = plot_attention_matrix(model, np.zeros((32, 48, 3)))
        >>> [axes.get_title() for axes in figure.axes[:3]]
        ['head 0', 'head 1', 'head 2']
    """
    name, maps, grid = maps_of(model, image, layer)
    tokens = f"{grid.rows} x {grid.columns} patches"
    if grid.num_prefix:
        plural = "s" if grid.num_prefix > 1 else ""
        tokens = f"{grid.num_prefix} prefix token{plural} and {tokens}"
    title = f"{name}: attention weights between {tokens}"
    columns = math.ceil(math.sqrt(len(maps)))
    figure, heads = panels(len(maps), title, side=3.4, columns=columns)
    for i, (axes, weights) in enumerate(zip(heads, maps, strict=True)):
        drawn = axes.imshow(weights, vmin=0, vmax=np.quantile(weights, 0.99))
        add_colorbar(figure, axes, drawn, extend="max")
        axes.set(title=f"head {i}", xlabel="key", ylabel="query")
        for first in range(grid.num_prefix, len(weights), grid.columns):
            for line in (axes.axhline, axes.axvline):
                line(first - 0.5, color="white", linewidth=0.5, alpha=0.5)
    return figure


def plot_attention_rollout(
    model: keras.Model,
    image: np.ndarray,
    layers: Layers = None,
    *,
    picture: np.ndarray | None = None,
) -> "Figure":
    """Plot `km.attention_rollout` over the image: each patch's contribution to the output.

    Args:
        model: as for `km.attention_rollout`.
        image: `(H, W, C)`, in the value range that the model expects.
        layers: as for `km.attention_rollout`.
        picture: as for `plot_attention`.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: if `km.attention_rollout` raises one.

    Example:
        >>> from keras_mixers import ViT
        >>> model = ViT("Ti/16", input_shape=(32, 48, 3), depth=2, num_classes=10)
        >>> figure = plot_attention_rollout(model, np.zeros((32, 48, 3)))

    Source: "Quantifying Attention Flow in Transformers", arXiv 2005.00928.
    """
    (heat,) = attention_rollout(model, one_image(model, image), layers)
    picture = background(model, image, picture)
    return image_and_map(picture, heat, "Attention rollout", "contribution to the output")


def plot_relevance(
    model: keras.Model,
    image: np.ndarray,
    target: int | None = None,
    layers: Layers = None,
    *,
    class_names: list[str] | None = None,
    picture: np.ndarray | None = None,
) -> "Figure":
    """Plot `km.probe.relevance` over the image: how much each patch supports a class.

    Args:
        model: as for `km.probe.relevance`.
        image: `(H, W, C)`, in the value range that the model expects.
        target: number of the class, or `None` for the class that the model predicts.
        layers: as for `km.probe.relevance`.
        class_names: one name for each class, for the title.
        picture: as for `plot_attention`.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: if `km.probe.relevance` raises one.

    Example:
        >>> from keras_mixers import ViT
        >>> model = ViT("Ti/16", input_shape=(32, 48, 3), depth=2, num_classes=10)
        >>> figure = plot_relevance(model, np.zeros((32, 48, 3)), target=3)

    Source: "Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder
    Transformers", arXiv 2103.15679.
    """
    batch = one_image(model, image)
    names = arguments.class_names(class_names, model.output_shape[-1])
    (heat,) = relevance(model, batch, target, layers)
    if target is None:
        target = int(predict(model, batch, 1).argmax())
    title = f"Relevance for {f'class {target}' if names is None else names[target]}"
    return image_and_map(background(model, image, picture), heat, title, "gradient x attention")


def image_and_map(picture, heat, title, label):
    """A figure of two panels: a picture, and a map over that picture."""
    figure, (left, right) = panels(2, title, side=3, aspect=aspect(picture))
    draw_picture(left, picture)
    add_colorbar(figure, right, overlay(right, picture, heat), label)
    return figure


def plot_attention_distance(
    model: keras.Model, images: np.ndarray, layers: Layers = None
) -> "Figure":
    """Plot `km.probe.attention_distance` of each head by layer, averaged over the images.

    Args:
        model: as for `km.attention_maps`, with one `PatchEmbed`.
        images: `(N, H, W, C)`, in the value range that the model expects.
        layers: as for `km.attention_maps`.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: if the model has no attention layer, or the images do not fit the model.

    Example:
        >>> from keras_mixers import ViT
        >>> model = ViT("Ti/16", input_shape=(32, 48, 3), depth=2, num_classes=10)
        >>> figure = plot_attention_distance(model, np.zeros((4, 32, 48, 3)))

    Source: "An Image is Worth 16x16 Words", arXiv 2010.11929, figure 7.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    distances = attention_distance(model, images, layers)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    heads = max(each.shape[1] for each in distances.values())
    colours = {"cmap": colormaps[SEQUENTIAL].resampled(heads), "vmin": -0.5, "vmax": heads - 0.5}
    for depth, each in enumerate(distances.values()):
        numbers = np.arange(each.shape[1])
        x = depth + 0.5 * (numbers / max(heads - 1, 1) - 0.5)  # spread, or dots would overlap
        dots = axes.scatter(x, each.mean(axis=0), c=numbers, **colours)
    if heads > 1:
        figure.colorbar(dots, ax=axes, label="head", ticks=MaxNLocator(integer=True))
    numbers = [list(find_layers(model, MultiHeadSelfAttention)).index(name) for name in distances]
    axes.set_xticks(range(len(numbers)), numbers)
    axes.set_xlim(-0.5, len(numbers) - 0.5)
    images_word = "1 image" if len(images) == 1 else f"{len(images)} images"
    axes.set(
        title=f"Attention distance of each head, mean over {images_word}",
        xlabel="attention layer",
        ylabel="mean attention distance (pixels)",
    )
    axes.set_ylim(0, 1.1 * max(each.mean(axis=0).max() for each in distances.values()))
    axes.grid(axis="y", alpha=0.3)
    return figure
