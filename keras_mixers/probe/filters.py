"""Weights that can be shown as pictures: patch filters, positions, depthwise kernels."""

import keras
import numpy as np

from keras_mixers.layers import ConvMixerBlock, PatchEmbed, PositionEmbedding
from keras_mixers.probe.attention import Layers
from keras_mixers.probe.collect import find_layers, to_numpy


def patch_filters(model: keras.Model) -> np.ndarray:
    """The filters of the patch embedding: the weights from a patch to each channel of its token.

    Shapes: `(D, patch height, patch width, C)`.

    Args:
        model: functional or sequential model. The function reads its first `PatchEmbed`.

    Raises:
        ValueError: if the model has no `PatchEmbed`.

    Example:
        >>> from keras_mixers import ViT
        >>> patch_filters(ViT("Ti/16", depth=1)).shape
        (192, 16, 16, 3)

    Source: "An Image is Worth 16x16 Words", arXiv 2010.11929, figure 7.
    """
    (node,) = find_layers(model, PatchEmbed, 0).values()
    return to_numpy(node.operation.projection.kernel).transpose(3, 0, 1, 2)


def position_similarity(model: keras.Model) -> np.ndarray:
    """Cosine similarity between the position embeddings of patches: `p . q / (|p| |q|)`.

    Shapes: `(rows, columns, rows, columns)`. Element `[r, c]` is a map: the similarity of the
    position of patch (r, c) to the position of every patch.

    Args:
        model: functional or sequential model. The function reads its first `PositionEmbedding`.

    Raises:
        ValueError: if the model has no `PositionEmbedding`.

    Example:
        >>> from keras_mixers import ViT
        >>> position_similarity(ViT("Ti/16", input_shape=(32, 48, 3), depth=1)).shape
        (2, 3, 2, 3)

    Source: "An Image is Worth 16x16 Words", arXiv 2010.11929, figure 7.
    """
    (node,) = find_layers(model, PositionEmbedding, 0).values()
    positions = node.operation
    table = to_numpy(positions.table)[0, positions.num_prefix :]
    length = np.linalg.norm(table, axis=-1, keepdims=True)
    table = table / np.where(length, length, 1)  # a position of zeros has similarity 0 to all
    return (table @ table.T).reshape(*positions.grid, *positions.grid)


def depthwise_kernels(model: keras.Model, layers: Layers = None) -> dict[str, np.ndarray]:
    """The depthwise kernels of each ConvMixer block: how a channel mixes neighbouring patches.

    Shapes: `{layer name: (D, kernel height, kernel width)}`.

    Args:
        model: functional or sequential model with a `ConvMixerBlock` in its graph.
        layers: names or numbers of such blocks (0 is the first, -1 the last), or `None` for all.

    Raises:
        ValueError: if the model has no `ConvMixerBlock`, or `layers` names a block that does not
            exist.

    Example:
        >>> from keras_mixers import ConvMixer
        >>> model = ConvMixer("256/8-k5-p2", input_shape=(32, 32, 3), depth=1)
        >>> depthwise_kernels(model)["block_0_conv_mixer"].shape
        (256, 5, 5)

    Source: "Patches Are All You Need?", arXiv 2201.09792, figure 4.
    """
    return {
        name: to_numpy(node.operation.depthwise.kernel)[..., 0].transpose(2, 0, 1)
        for name, node in find_layers(model, ConvMixerBlock, layers).items()
    }
