"""Attention weights, their product over the layers (rollout), and their mean distance."""

from collections.abc import Sequence

import keras
import numpy as np

from keras_mixers.graph import layer_calls
from keras_mixers.layers import (
    AttentionPooling,
    MultiHeadSelfAttention,
    SelectToken,
)
from keras_mixers.probe.collect import collect, find_layers, mixer_input, mixer_of
from keras_mixers.probe.grid import check_one_stream, grid_of, prefix_names
from keras_mixers.probe.token_mixers import declares_nothing, is_custom, other_token_mixers

Layers = int | str | Sequence[int | str] | None


def attention_maps(
    model: keras.Model, images: np.ndarray, layers: Layers = None, *, batch_size: int = 32
) -> dict[str, np.ndarray]:
    """Attention weights: `softmax(score(q, k))` of each layer, head, query and key.

    Shapes: `(N, H, W, C) -> {layer name: (N, heads, T, T)}`, float32 for every dtype policy.
    Each row belongs to one query and sums to 1. `token_grid(model)` maps the columns of a row to
    patches of the image.

    Keras computes nothing beyond the last layer asked for, and the model does not change. The
    model may be built here, assembled by hand, nested in another model or loaded from a file. The
    function finds each `MultiHeadSelfAttention` in the model's graph, inside a `Residual` or not.
    It does not look inside a custom layer.

    Args:
        model: functional or sequential model with one input.
        images: array in the value range that the model expects.
        layers: names or numbers of attention layers (0 is the first, -1 the last), or `None` for
            all.
        batch_size: number of images in one forward pass.

    Raises:
        ValueError: if the model has no attention layer, `layers` names a layer that does not
            exist, or the images do not fit the model.

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
    """Attention weights of a layer with input x: `(N, T, D) -> (N, heads, T, T)`."""
    weights, _ = mixer_of(layer).weights_and_values(mixer_input(layer, x))
    return weights


def attention_rollout(
    model: keras.Model, images: np.ndarray, layers: Layers = None, *, batch_size: int = 32
) -> np.ndarray:
    """How much each patch contributes to the output: product of `(mean over heads + I) / 2`.

    Shapes: `(N, H, W, C) -> (N, rows, columns)`. The result is the row of the class token if the
    model's head reads this token, or else the mean of the patches' rows. The values of one image
    sum to 1 minus the contribution of the prefix tokens.

    The rollout is correct only if nothing but attention mixes tokens. The function therefore
    checks each call between the patches and the head. It accepts this package's layers and custom
    layers whose class declares an attribute `mixes` without `"tokens"`. It also accepts Keras's
    layers and operations that compute each token separately, such as `Dense` or `Dropout`. A
    custom layer without `mixes` may mix tokens, so the function refuses it, inside a `Residual`
    or not. Declare `mixes = frozenset({"tokens"})` or `mixes = frozenset({"channels"})` in its
    class, or pass `layers`, which skips this check.

    Args:
        model: functional or sequential model in which only attention mixes tokens.
        images: array in the value range that the model expects.
        layers: as in `attention_maps`. The rollout follows these layers and ignores all other
            token mixers.
        batch_size: number of images in one forward pass.

    Raises:
        ValueError: if the model has no attention layer, or if the images do not fit the model.
        ValueError: if `layers` is `None` and another layer mixes tokens or does not declare what it
            mixes.

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
    """The attention layers that rollout and relevance follow: `{name: node}`.

    Raises:
        ValueError: if the model has several streams of tokens or several grids, or if `layers` is
            `None` and another layer may mix tokens.
    """
    wanted = find_layers(model, MultiHeadSelfAttention, layers)
    check_one_stream(model)
    one_grid(model, wanted)
    if layers is None:
        check_no_other_mixers(model, wanted)
    return wanted


def check_no_other_mixers(model, wanted):
    """Raise a ValueError if anything except the wanted attention layers may mix tokens."""
    others = other_token_mixers(model, wanted)
    if not others:
        return
    received = ", ".join(f"{name} ({type(layer).__name__})" for name, layer in others.items())
    message = (
        "`layers` must name the attention layers to follow, because other layers of the model mix"
        f" tokens or may mix them. Received: layers=None for '{model.name}' with {received}."
        f" layers={list(wanted)} follows attention only."
    )
    if any(is_custom(layer) and declares_nothing(layer) for layer in others.values()):
        message += (
            " A custom layer declares what it mixes by a class attribute:"
            ' mixes = frozenset({"tokens"}) or mixes = frozenset({"channels"})'
        )
    raise ValueError(message)


def one_grid(model, wanted):
    """The grid of patches that all of these attention layers share.

    Raises:
        ValueError: if the grids differ.
    """
    grids = {name: grid_of(model, node) for name, node in wanted.items()}
    if len(set(grids.values())) > 1:
        raise ValueError(f"`layers` must attend over the same tokens. Received: {grids}")
    return next(iter(grids.values()))


def read_out(model, wanted, flow):
    """The rows of `flow` that the model's head reads: `(N, T, T) -> (N, rows, columns)`.

    These are the tokens that `SelectToken` selects. Without `SelectToken`, the head reads the mean
    of the patches if the model averages them or has no class token. Otherwise it reads the class
    token.
    """
    grid = one_grid(model, wanted)
    pools = [n.operation for n in layer_calls(model).values()]
    selected = [layer.index for layer in pools if isinstance(layer, SelectToken)]
    averaging = (keras.layers.GlobalAveragePooling1D, AttentionPooling)
    averages = any(isinstance(layer, averaging) for layer in pools)
    if not selected:
        names = prefix_names(model, grid.num_prefix)
        reads_patches = averages or not names or names[0].startswith("register")
        selected = slice(grid.num_prefix, None) if reads_patches else [0]
    return grid.patches(flow[:, selected].mean(axis=1))


def attention_distance(
    model: keras.Model, images: np.ndarray, layers: Layers = None, *, batch_size: int = 32
) -> dict[str, np.ndarray]:
    """Mean attention distance of each head, in pixels: the size of its receptive field.

    Formula: `sum over patches k of weight(q, k) |q - k| / sum of weight(q, k)`, averaged over the
    patches q. Distances are those between the centres of the patches that `PatchEmbed` cuts.
    Prefix tokens have no position, so the formula leaves them out.

    Shapes: `(N, H, W, C) -> {layer name: (N, heads)}`.

    Args:
        model: functional or sequential model with one input.
        images: array in the value range that the model expects.
        layers: as in `attention_maps`.
        batch_size: number of images in one forward pass.

    Raises:
        ValueError: if the model has no attention layer, `layers` names a layer that does not
            exist, or the images do not fit the model.

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

    def mean_distance(layer, x):
        grid = grids[id(layer)]
        weights = weights_of(layer, x)[:, :, grid.num_prefix :, grid.num_prefix :]
        weights = weights / keras.ops.sum(weights, axis=-1, keepdims=True)
        distance = keras.ops.sum(
            weights * keras.ops.array(patch_distances(grid), weights.dtype), axis=-1
        )
        return keras.ops.mean(distance, axis=-1)

    return collect(model, images, wanted, mean_distance, batch_size)


def patch_distances(grid):
    """Distances between the centres of patches, in pixels: `(T, T)`."""
    centres = np.mgrid[: grid.rows, : grid.columns].reshape(2, -1).T * grid.patch_size
    return np.linalg.norm(centres[:, None] - centres[None], axis=-1).astype("float32")
