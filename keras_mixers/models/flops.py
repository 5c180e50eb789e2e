"""Count the multiply-adds of a model, which published tables call FLOPs."""

import math

import keras

from keras_mixers import layers
from keras_mixers.graph import nodes


def count_flops(model: keras.Model) -> int:
    """Count the multiply-adds of one image in the layers of a functional model.

    Published tables call multiply-adds FLOPs. The peak FLOP/s of a machine counts a multiply-add as
    two. As in published tables, norms, activations, softmax and sums count as zero. Operations on
    tensors that are not layers count as zero too. A training step needs three times as many
    multiply-adds: once for the forward pass, and twice for the gradients.

    Args:
        model: a functional model.

    Returns:
        int, the number of multiply-adds.

    Raises:
        ValueError: if the model is not functional, if a size is unknown, or if a layer multiplies
            matrices and this function has no rule for it.

    Example:
        >>> from keras_mixers import ViT
        >>> round(count_flops(ViT("Ti/16")) / 1e9, 2)
        1.25
    """
    inputs = [
        (node.operation, node.arguments.keras_tensors[0].shape)
        for node in nodes(model)
        if isinstance(node.operation, keras.layers.Layer) and node.arguments.keras_tensors
    ]
    for layer, shape in inputs:
        if None in shape[1:]:
            raise ValueError(
                "`model` must have known sizes, so that count_flops can count. Received: layer"
                f" '{layer.name}' with an input of shape {tuple(shape)}"
            )
    return sum(cost(layer, tuple(shape)) for layer, shape in inputs)


def cost(layer, x_shape):
    """The multiply-adds of a layer for one image; the first axis of `x_shape` is the batch."""
    if isinstance(layer, keras.Model):
        return count_flops(layer)
    if isinstance(layer, layers.Residual):
        return cost(layer.mixer, x_shape)
    if hasattr(layer, "multiply_adds"):
        return layer.multiply_adds(x_shape)
    if isinstance(layer, keras.layers.Dense):
        return math.prod(x_shape[1:]) * layer.units
    if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
        y_shape = layer.compute_output_shape(x_shape)
        places = y_shape[2:] if layer.data_format == "channels_first" else y_shape[1:3]
        return math.prod(places) * math.prod(layer.kernel.shape)
    multiplies = isinstance(layer, (keras.layers.Dot, keras.layers.Attention))
    if multiplies or any(len(weight.shape) > 1 for weight in layer.weights):
        raise ValueError(
            f"count_flops has no rule for layer '{layer.name}' ({type(layer).__name__}), which"
            " multiplies matrices. Give the layer a method `multiply_adds(x_shape)`"
        )
    return 0
