"""What attends to what: the weights, their product over the layers, and how far they reach."""

from collections.abc import Sequence

import keras
import numpy as np

from keras_mixers.graph import layer_calls
from keras_mixers.layers import (
    AttentionPooling,
    MultiHeadSelfAttention,
    PatchEmbed,
    SelectToken,
)
from keras_mixers.probe.collect import collect, find_layers, mixer_input, mixer_of
from keras_mixers.probe.grid import grid_of, prefix_names
from keras_mixers.probe.token_mixers import declares_nothing, other_token_mixers

Layers = int | str | Sequence[int | str] | None


def attention_maps(
    model: keras.Model, images: np.ndarray, layers: Layers = None, *, batch_size: int = 32
) -> dict[str, np.ndarray]:
    """Attention weights: `softmax(score(q, k))` of each layer, head, query and key.

    Shapes: `(N, H, W, C) -> {layer name: (N, heads, T, T)}`, float32 whatever the model's policy.
    A row is a query and sums to 1; `token_grid(model)` lays its columns over the image.

    Nothing is computed beyond the last layer asked for, and nothing changes in the model: it may
    be built here or by hand, nested in another, or read from a file. Any `MultiHeadSelfAttention`
    in its graph counts, alone or in a `Residual`; one inside a layer of yours does not.

    Args:
        model: functional or sequential, with one input.
        images: as the model takes them, on the scale that it was trained with.
        layers: names or numbers (0 is the first attention layer, -1 the last), or `None` for all.
        batch_size: how many images are computed at once.

    Raises:
        ValueError: the model has no attention or not that layer, or the images do not fit.

    Example:
        >>> from keras_mixers import ViT
        >>> model = ViT("Ti/16", input_shape=(32, 48, 3), depth=2, num_classes=10)
        >>> maps = attention_maps(model, np.zeros((1, 32, 48, 3)), layers=-1)
        >>> {name: weights.shape for name, weights in maps.items()}
        {'block_1_attention': (1, 3, 7, 7)}

    Source: "An Image is Worth 16x16 Words", arXiv 2010.11929.
    """
    wanted = find_layers(model, MultiHeadSelfAttention, layers)
    return collect(model, images, wanted, weights_of, batch_size)


def weights_of(layer, x):
    """Attention weights where the layer gets x: `(N, T, D) -> (N, heads, T, T)`."""
    weights, _ = mixer_of(layer).weights_and_values(mixer_input(layer, x))
    return weights


def attention_rollout(
    model: keras.Model, images: np.ndarray, layers: Layers = None, *, batch_size: int = 32
) -> np.ndarray:
    """How much each patch flows into the output: the product of `(mean over heads + I) / 2`.

    Shapes: `(N, H, W, C) -> (N, rows, columns)`. The row taken is that of the token the model
    reads (its class token, or else the mean over the patches); what is missing from a sum of 1 is
    the share of the prefix tokens.

    Args:
        model: a functional or sequential model whose tokens are mixed by attention alone.
        images: as the model takes them.
        layers: as in `attention_maps`; those named are followed, whatever mixes between them.
        batch_size: how many images are computed at once.

    Raises:
        ValueError: the model has no attention, or mixes tokens otherwise too (by another layer of
            this package, or Keras's convolutions and attention) and `layers` does not say which to
            follow; or the images do not fit.

    Example:
        >>> from keras_mixers import ViT
        >>> model = ViT("Ti/16", input_shape=(32, 48, 3), depth=2, num_classes=10)
        >>> attention_rollout(model, np.zeros((1, 32, 48, 3))).shape
        (1, 2, 3)

    Source: "Quantifying Attention Flow in Transformers", arXiv 2005.00928, equation 1.
    """
    wanted = attention_path(model, layers)
    means = collect(
        model,
        images,
        wanted,
        lambda layer, x: keras.ops.mean(weights_of(layer, x), axis=1),
        batch_size,
    )
    flow = np.eye(len(next(iter(means.values()))[0]), dtype="float32")
    for mean in means.values():
        flow = (mean + np.eye(mean.shape[-1], dtype="float32")) / 2 @ flow
    return read_out(model, wanted, flow)


def attention_path(model, layers):
    """The attention layers through which a flow is followed: `{name: node}`.

    Raises:
        ValueError: something else mixes tokens too, and nobody said to look past it.
    """
    wanted = find_layers(model, MultiHeadSelfAttention, layers)
    stems = find_layers(model, PatchEmbed)
    if len(stems) > 1:
        raise ValueError(
            "`model` must have one stream of tokens, which begins at one PatchEmbed. Received:"
            f" '{model.name}' with {', '.join(stems)}"
        )
    one_grid(model, wanted)
    if layers is None:
        check_no_other_mixers(model, wanted)
    return wanted


def check_no_other_mixers(model, wanted):
    """Refuse a model in which something other than the wanted attention mixes tokens."""
    others = other_token_mixers(model, wanted)
    if not others:
        return
    received = ", ".join(f"{name} ({type(layer).__name__})" for name, layer in others.items())
    message = (
        "`layers` must name the attention layers to follow, because other layers of the model mix"
        f" tokens or may mix them. Received: layers=None for '{model.name}' with {received}."
        f" layers={list(wanted)} follows attention only."
    )
    if any(map(declares_nothing, others.values())):
        message += (
            " A layer of yours declares what it mixes by a class attribute:"
            ' mixes = frozenset({"tokens"}) or mixes = frozenset({"channels"})'
        )
    raise ValueError(message)


def one_grid(model, wanted):
    """The grid over which all of these attend.

    Raises:
        ValueError: they have several.
    """
    grids = {name: grid_of(model, node) for name, node in wanted.items()}
    if len(set(grids.values())) > 1:
        raise ValueError(f"`layers` must attend over the same tokens. Received: {grids}")
    return next(iter(grids.values()))


def read_out(model, wanted, flow):
    """The row of a flow `(N, T, T)` that the model reads, on the grid: `(N, rows, columns)`.

    It is that of the tokens which the model selects, or of the class token where it keeps all; else
    the patches' mean.
    """
    grid = one_grid(model, wanted)
    pools = [n.operation for n in layer_calls(model).values()]
    selected = [layer.index for layer in pools if isinstance(layer, SelectToken)]
    averaging = (keras.layers.GlobalAveragePooling1D, AttentionPooling)
    averages = any(isinstance(layer, averaging) for layer in pools)
    if not selected:
        named = prefix_names(model, grid.num_prefix)
        reads_patches = averages or not named or named[0].startswith("register")
        selected = slice(grid.num_prefix, None) if reads_patches else [0]
    return grid.patches(flow[:, selected].mean(axis=1))


def attention_distance(
    model: keras.Model, images: np.ndarray, layers: Layers = None, *, batch_size: int = 32
) -> dict[str, np.ndarray]:
    """Mean attention distance of each head, in pixels: the size of its receptive field.

    `sum over patches k of weight(q, k) |q - k| / sum of weight(q, k)`, the mean over patches q,
    between the centres of patches as `PatchEmbed` cuts them; prefix tokens have no place and are
    left out.

    Shapes: `(N, H, W, C) -> {layer name: (N, heads)}`.

    Args:
        model: functional or sequential, with one input.
        images: as the model takes them.
        layers: as in `attention_maps`.
        batch_size: how many images are computed at once.

    Raises:
        ValueError: the model has no attention or not that layer, or the images do not fit.

    Example:
        >>> from keras_mixers import ViT
        >>> model = ViT("Ti/16", input_shape=(32, 48, 3), depth=2, num_classes=10)
        >>> distances = attention_distance(model, np.zeros((1, 32, 48, 3)))
        >>> distances["block_0_attention"].shape
        (1, 3)

    Source: "An Image is Worth 16x16 Words", arXiv 2010.11929, figure 7 and appendix D.7.
    """
    wanted = find_layers(model, MultiHeadSelfAttention, layers)
    grids = {id(node.operation): grid_of(model, node) for node in wanted.values()}

    def compute(layer, x):
        grid = grids[id(layer)]
        weights = weights_of(layer, x)[:, :, grid.num_prefix :, grid.num_prefix :]
        weights = weights / keras.ops.sum(weights, axis=-1, keepdims=True)
        reach = keras.ops.sum(weights * patch_distances(grid), axis=-1)
        return keras.ops.mean(reach, axis=-1)

    return collect(model, images, wanted, compute, batch_size)


def patch_distances(grid):
    """Pixels between the centres of patches: `(T, T)`."""
    places = np.mgrid[: grid.rows, : grid.columns].reshape(2, -1).T * grid.patch_size
    return np.linalg.norm(places[:, None] - places[None], axis=-1).astype("float32")
