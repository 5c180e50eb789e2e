"""A model's blocks as maps of the image, as a functional model for dense prediction."""

import numbers
from collections.abc import Sequence

import keras

from keras_mixers import arguments
from keras_mixers.graph import functional, layer_calls, unnested_calls
from keras_mixers.layers import Residual
from keras_mixers.probe.grid import check_one_stream, token_grid
from keras_mixers.probe.token_mixers import keeps_tokens_apart

FINAL_NORMS = (keras.layers.LayerNormalization, keras.layers.RMSNormalization)


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
            blocks; if there is no block with such a number; if the tokens of a block are not the
            patches; if `prefix_tokens` is True for a model without prefix tokens.
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
    streams, final_norm = streams_and_norm(model, ends)

    outputs = []
    for i in chosen:
        stream = final_norm(streams[i]) if norm and final_norm else streams[i]
        feature_map, prefix = on_grid(model, stream, f"block_{i}")
        if prefix_tokens and prefix is None:
            raise ValueError(
                "`prefix_tokens` must be False for a model without prefix tokens. Received:"
                f" prefix_tokens=True for '{model.name}'"
            )
        outputs.append((feature_map, prefix) if prefix_tokens else feature_map)
    if isinstance(blocks, numbers.Integral):
        (outputs,) = outputs
    inputs = functional(model).inputs
    inputs = inputs if len(inputs) > 1 else inputs[0]
    return keras.Model(inputs, outputs, name=f"{model.name}_feature_maps")


def block_ends(model):
    """The name of the call that ends each block, in order.

    Raises:
        ValueError: if the model has no blocks.
    """
    ends = []
    for name, node in layer_calls(model).items():
        if is_whole_block(node.operation) or (
            isinstance(node.operation, Residual) and not (ends and keeps_tokens_apart(node))
        ):
            ends.append(name)
        elif isinstance(node.operation, Residual):
            ends[-1] = name
    if not ends:
        raise ValueError(
            "`model` must have blocks: Residual or ConvMixerBlock layers in its graph. Received:"
            f" '{model.name}'"
        )
    return ends


def is_whole_block(layer):
    """Whether a layer outside a `Residual` declares that it mixes tokens and channels."""
    mixes = getattr(layer, "mixes", None) or ()
    return "tokens" in mixes and "channels" in mixes


def chosen_blocks(blocks, count):
    """The numbers in `blocks`, counted from 0.

    Raises:
        ValueError: if `blocks` is neither a number nor a sequence of different numbers, or if there
            is no such block.
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


def streams_and_norm(model, ends):
    """The streams of tokens after the calls `ends`, and the norm of the last one or None.

    The final norm reads the last stream directly, or through layers without weights, and keeps
    its tokens.
    """
    streams, reads_last = {}, set()
    for name, layer, inputs, output in unnested_calls(model):
        if name in ends:
            streams[name] = output
            reads_last = {id(output)} if name == ends[-1] else set()
        elif any(id(x) in reads_last for x in inputs) and len(output.shape) > 2:
            if isinstance(layer, FINAL_NORMS):
                return [streams[end] for end in ends], layer
            if not getattr(layer, "weights", None):
                reads_last.add(id(output))
    return [streams[end] for end in ends], None


def on_grid(model, stream, name):
    """(map, prefix tokens or None) of a stream of tokens.

    Shapes: `(N, T, D) -> (N, rows, columns, D), (N, P, D)`. A grid `(N, rows, columns, D)` stays.
    """
    options = {"dtype": stream.dtype}  # because Keras would cast to the default policy
    prefix, sides = None, stream.shape[1:3]
    if len(stream.shape) == 3:
        grid = token_grid(model, stream.shape[1])
        sides, count = (grid.rows, grid.columns), grid.num_prefix
        if count:
            patches = grid.rows * grid.columns
            crop = keras.layers.Cropping1D((0, patches), name=f"{name}_prefix_tokens", **options)
            prefix = crop(stream)
            stream = keras.layers.Cropping1D((count, 0), name=f"{name}_patches", **options)(stream)
    shape = (*sides, stream.shape[-1])
    return keras.layers.Reshape(shape, name=f"{name}_map", **options)(stream), prefix
