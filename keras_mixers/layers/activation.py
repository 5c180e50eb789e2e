"""An activation as a layer, with a fused kernel."""

from typing import Any

import keras

from keras_mixers.layers import kernels
from keras_mixers.serialization import registered


@registered
class Activation(keras.layers.Activation):
    """Keras's Activation, computed by a fused kernel where that is faster.

    Shapes: `(...) -> (...)`.

    Args:
        activation: a name or a function.

    Example:
        >>> Activation("gelu")(keras.Input((8, 8, 48))).shape
        (None, 8, 8, 48)
    """

    mixes = frozenset()  # so that tools know that the layer keeps tokens apart

    def call(self, x: Any, training: bool | None = None) -> Any:
        kernel = kernels.activation(self.activation, x)
        # Because TensorFlow cannot fuse it with a product before it, and has slow operators for
        # bfloat16.
        if kernel and not training and (x.dtype == "bfloat16" or not kernels.is_small(x)):
            return kernel.forward(x)
        return kernels.activate(self.activation, x, training)
