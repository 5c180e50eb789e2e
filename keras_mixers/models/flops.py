"""What one image costs in a model: multiply-adds, which published tables call FLOPs."""

import math

import keras

from keras_mixers import layers
from keras_mixers.graph import nodes


def count_flops(model: keras.Model) -> int:
    """Multiply-adds of one image in the layers of a functional model.

    Published tables call these FLOPs; a machine's peak counts a multiply-add as two. Norms,
    activations, softmax and sums count as nothing, as they do there, and so does an operation on
    tensors that is no layer. Training takes three times as many: one forward, two for gradients.

    Raises:
        ValueError: the model is not functional, a size is unknown, or a layer has no rule here
            and multiplies matrices.

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
                f"count_flops needs known sizes. Received: layer '{layer.name}' with an input of"
                f" {tuple(shape)}"
            )
    return sum(cost(layer, tuple(shape)) for layer, shape in inputs)


def cost(layer, x_shape):
    """Multiply-adds of a layer for an input of this shape, the batch first."""
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
            " multiplies matrices; a method `multiply_adds(x_shape)` would be one"
        )
    return 0
