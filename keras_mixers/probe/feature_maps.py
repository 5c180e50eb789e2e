"""A model's blocks as maps of the image, as a functional model for dense prediction."""

import numbers
from collections.abc import Sequence

import keras

from keras_mixers import arguments
from keras_mixers.graph import functional, layer_calls, run, unnested_outputs
from keras_mixers.layers import Residual
from keras_mixers.layers.base import mixes_everything
from keras_mixers.layers.norms import RMSNormalization
from keras_mixers.probe.grid import TokenGrid, check_one_stream, token_grid
from keras_mixers.probe.token_mixers import keeps_tokens_apart

FINAL_NORMS = (
    keras.layers.LayerNormalization,
    keras.layers.RMSNormalization,
    RMSNormalization,
)


def feature_maps(
    model: keras.Model,
    blocks: int | Sequence[int] = -1,
    *,
    norm: bool = True,
    prefix_tokens: bool = False,
) -> keras.Model:
    """A functional model from a model's images to the feature maps of some of its blocks.

    Shapes: `(N, H, W, C) -> (N, rows, columns, D)`, the stream of tokens after the last residual of
    a block, on the grid of patches. A number in `blocks` gives one map, a sequence gives a list.

    The new model shares its layers with `model`, so both have the same weights, and a layer that is
    frozen in one is frozen in both. It is a model as any other: it trains, it saves to `.keras`,
    `km.export` exports it, and Keras layers on its outputs make it a model for segmentation.

    `model` may be built here, assembled by hand, fine-tuned or loaded, and nested in other models.
    A block begins at each `Residual` whose mixer mixes tokens, and continues with the residuals
    that mix only channels. A `ConvMixerBlock` is a whole block. A custom mixer that does not
    declare `mixes` begins a block.

    Args:
        model: functional or sequential model with one `PatchEmbed`.
        blocks: the number of a block, or a sequence of numbers: 0 is the first, -1 the last. The
            default is the last block, which the model's own head reads and which most linear heads
            need. Published heads for dense prediction read four blocks, evenly spaced or the last.
        norm: whether to apply the model's final norm to each map, as DINOv2's
            `get_intermediate_layers` does. The last map is then what the model's own head reads. A
            model without a norm after its last block, such as a ConvMixer or one that normalizes
            its pooled features, gives the stream as it is.
        prefix_tokens: whether to return a pair for each block: the map, and the prefix tokens
            (class token, registers), `(N, P, D)`.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: if the model is not functional, or does not have one `PatchEmbed`, or has no
            blocks; if a block does not exist; if the tokens of a block are not the
            patches; if `prefix_tokens` is True for a model without prefix tokens; if a layer of a
            nested model has the name of another layer.
        TypeError: if `norm` or `prefix_tokens` is not a bool.

    Example:
        >>> from keras_mixers import ViT
        >>> model = ViT("Ti/16", input_shape=(32, 48, 3), depth=4, num_classes=10)
        >>> feature_maps(model).output_shape
        (None, 2, 3, 192)
        >>> feature_maps(model, blocks=(1, 3)).output_shape
        [(None, 2, 3, 192), (None, 2, 3, 192)]

    Source: "Vision Transformers for Dense Prediction", arXiv 2103.13413, section 3.1; the final
    norm: "DINOv2: Learning Robust Visual Features without Supervision", arXiv 2304.07193.
    """
    arguments.flag("norm", norm)
    arguments.flag("prefix_tokens", prefix_tokens)
    check_one_stream(model)
    ends = block_ends(model)
    chosen = chosen_blocks(blocks, len(ends))
    grids = [grid_after(model, ends[i]) for i in chosen]
    if prefix_tokens and not all(grid.num_prefix for grid in grids):
        raise ValueError(
            "`prefix_tokens` must be False for a model without prefix tokens. Received:"
            f" prefix_tokens=True for '{model.name}'"
        )

    norm_layer = final_norm(model, ends[-1]) if norm else None
    streams = {name: output for name, output in unnested_outputs(model) if name in ends}
    outputs = []
    for i, grid in zip(chosen, grids, strict=True):
        stream = streams[ends[i]]
        stream = norm_layer(stream) if norm_layer else stream
        feature_map, prefix = split(stream, grid, f"block_{i}")
        outputs.append((feature_map, prefix) if prefix_tokens else feature_map)
    if isinstance(blocks, numbers.Integral):
        (outputs,) = outputs
    inputs = functional(model).inputs
    inputs = inputs if len(inputs) > 1 else inputs[0]
    try:
        return keras.Model(inputs, outputs, name=f"{model.name}_feature_maps")
    except ValueError as error:  # because a nested model has its own names of layers
        raise ValueError(
            "`model` must have layers of different names, also in the models that are nested in it."
            f" Received: '{model.name}': {arguments.reason(error)}"
        ) from error


def block_ends(model):
    """The name of the call that ends each block, in order.

    Raises:
        ValueError: if the model has no blocks.
    """
    ends = []
    for name, node in layer_calls(model).items():
        is_half = isinstance(node.operation, Residual)
        if is_half and ends and keeps_tokens_apart(node):
            ends[-1] = name  # the second half of a block
        elif is_half or mixes_everything(node.operation):
            ends.append(name)
    if not ends:
        raise ValueError(
            "`model` must have blocks: Residual or ConvMixerBlock layers in its graph. Received:"
            f" '{model.name}'"
        )
    return ends


def chosen_blocks(blocks, count):
    """The numbers in `blocks`, counted from 0.

    Raises:
        ValueError: if `blocks` is neither a number nor a sequence of different numbers, or if a
            block does not exist.
    """
    given = list(blocks) if isinstance(blocks, (list, tuple, range)) else [blocks]
    is_valid = [
        isinstance(i, numbers.Integral) and not isinstance(i, bool) and -count <= i < count
        for i in given
    ]
    chosen = [int(i) % count for i in given] if given and all(is_valid) else []
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(
            f"`blocks` must be the number of a block, from 0 to {count - 1} or from {-count} to -1,"
            f" or a sequence of different ones. {arguments.received(blocks=blocks)}"
        )
    return chosen


def grid_after(model, end):
    """The `TokenGrid` of the tokens that the call `end` returns, as a sequence or as a grid."""
    sides = layer_calls(model)[end].output_tensors[0].shape[1:-1]
    if len(sides) == 1:
        return token_grid(model, sides[0])
    return TokenGrid(*sides, patch_size=token_grid(model).patch_size)


def final_norm(model, end):
    """The layer that normalizes the tokens after the call `end`, which ends the last block.

    It reads the stream directly, or through layers without weights that keep its tokens. The
    result is None if the model has none.
    """
    calls, norms = layer_calls(model), []
    stream, other = object(), object()  # instead of tensors

    def visit(name, layer, *args, **kwargs):
        shape = calls[name].output_tensors[0].shape
        reads = any(x is stream for x in keras.tree.flatten((args, kwargs))) and len(shape) > 2
        if reads and isinstance(layer, FINAL_NORMS):
            norms.append(layer)
        moves = reads and not getattr(layer, "weights", None)
        return [stream if name == end or moves else other] * len(calls[name].output_tensors)

    run(model, [other] * len(functional(model).inputs), visit)
    return norms[0] if norms else None


def split(stream, grid, name):
    """(map, prefix tokens or None) of a stream of tokens.

    Shapes: `(N, T, D) -> (N, rows, columns, D), (N, P, D)`. A grid `(N, rows, columns, D)` stays.
    """
    options = {"dtype": stream.dtype}  # because Keras would cast to the default policy
    prefix, shape = None, (grid.rows, grid.columns, stream.shape[-1])
    if grid.num_prefix:
        patches = grid.rows * grid.columns
        crop = keras.layers.Cropping1D((0, patches), name=f"{name}_prefix_tokens", **options)
        prefix = crop(stream)
        crop = keras.layers.Cropping1D((grid.num_prefix, 0), name=f"{name}_patches", **options)
        stream = crop(stream)
    return keras.layers.Reshape(shape, name=f"{name}_map", **options)(stream), prefix
