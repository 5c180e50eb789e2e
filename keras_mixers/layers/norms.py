"""LayerNorm, RMSNorm and BatchNorm, with fused kernels and with right second derivatives.

On TensorFlow, `keras.ops.moments` computes the variance by `tf.nn.moments`. That function stops the
gradient of the mean inside the variance. The first derivative is right, because this part of it is
zero, but the second derivative is wrong. So these classes compute the moments themselves there.
"""

from typing import Any

import keras
from keras import ops

from keras_mixers import arguments
from keras_mixers.layers import kernels
from keras_mixers.layers.base import Layer
from keras_mixers.serialization import registered


@registered
class LayerNormalization(keras.layers.LayerNormalization):
    """Keras's LayerNormalization over the last axis.

    Shapes: `(..., D) -> (..., D)`.

    Args:
        epsilon: added to the variance.

    Example:
        >>> LayerNormalization(epsilon=1e-6)(keras.Input((10, 48))).shape
        (None, 10, 48)

    Source: "Layer Normalization", arXiv 1607.06450.
    """

    mixes = frozenset()  # so that tools know that the layer keeps tokens apart

    def call(self, x, training=None):
        # Keras does not cast the input of this layer, and the kernels keep its dtype.
        name = "layer_normalization" if training else "layer_normalization_inference"
        kernel = x.dtype == self.compute_dtype and kernels.find(name, x)
        if kernel and (training or (kernels.has_onednn() and not kernels.is_small(x))):
            return kernel(x, *self.tensors(), self.epsilon)
        if keras.backend.backend() != "tensorflow":
            return super().call(x)
        precise = ops.cast(x, keras.backend.result_type(x.dtype, "float32"))
        mean, variance = moments(precise, axes=-1)
        gamma, beta = (ops.cast(weight, precise.dtype) for weight in self.tensors())
        scale = ops.rsqrt(variance + self.epsilon) * gamma
        return ops.cast(precise * scale + (beta - mean * scale), self.compute_dtype)

    def tensors(self):
        """Gamma and beta as tensors."""
        return ops.convert_to_tensor(self.gamma), ops.convert_to_tensor(self.beta)


@registered
class RMSNormalization(Layer):
    """`x / sqrt(mean(x^2) + epsilon) * gamma` over the last axis.

    Shapes: `(..., D) -> (..., D)`.

    Args:
        epsilon: added to the mean of the squares.

    Example:
        >>> RMSNormalization(epsilon=1e-5)(keras.Input((10, 48))).shape
        (None, 10, 48)

    Source: "Root Mean Square Layer Normalization", arXiv 1910.07467.
    """

    def __init__(self, epsilon: float = 1e-6, **kwargs: Any):
        super().__init__(**kwargs)
        self.epsilon = arguments.real("epsilon", epsilon, 0.0)

    def build(self, x_shape):
        self.gamma = self.add_weight(
            shape=(x_shape[-1],),
            initializer="ones",
            autocast=False,  # because the layer computes in 32 bits
            name="gamma",
        )

    def call(self, x, training=None):
        kernel = kernels.find("rms_normalization", x)
        if kernel and training:
            return kernel(x, ops.convert_to_tensor(self.gamma), self.epsilon)
        precise = ops.cast(x, keras.backend.result_type(x.dtype, "float32"))
        mean = ops.mean(ops.square(precise), axis=-1, keepdims=True)
        scale = ops.rsqrt(mean + self.epsilon) * ops.cast(self.gamma, precise.dtype)
        return ops.cast(precise * scale, self.compute_dtype)


# The norms of tokens by name.
NORMALIZATIONS = {"layer": LayerNormalization, "rms": RMSNormalization}


@registered
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's BatchNormalization over the last axis of a grid.

    Shapes: `(N, H, W, D) -> (N, H, W, D)`.

    Args:
        epsilon: added to the variance.
        momentum: of the moving averages.

    Example:
        >>> BatchNormalization(momentum=0.9)(keras.Input((8, 8, 48))).shape
        (None, 8, 8, 48)

    Source: "Batch Normalization", arXiv 1502.03167.
    """

    mixes = frozenset()

    def call(self, x, training=None, bias=None, activation=None):
        own = keras.backend.backend() == "tensorflow" or kernels.find("batch_normalization", x)
        if not (training and self.trainable) and kernels.prefers_float32(x):
            return self.activated_inference(x)
        if not (own and training and self.trainable):
            return super().call(x, training=training)
        y, mean, variance = self.normalize_batch(x, bias, activation)
        self.update_moving_statistics(mean, variance)
        return y

    def normalize_batch(self, x, bias=None, activation=None):
        """Normalize x by the statistics of its batch; the moving averages do not change.

        Args:
            x: a grid of tokens.
            bias: a vector of channels, if there is an activation.
            activation: to normalize `activation(x + bias)` by a fused kernel, or None.

        Returns:
            The output, and the mean and variance of each channel.
        """
        gamma, beta = ops.convert_to_tensor(self.gamma), ops.convert_to_tensor(self.beta)
        kernel = kernels.find("batch_normalization", x)
        if kernel:
            more = () if activation is None else (bias, activation)
            return kernel(x, gamma, beta, self.epsilon, *more)
        precise = ops.cast(x, keras.backend.result_type(x.dtype, "float32"))
        gamma, beta = ops.cast(gamma, precise.dtype), ops.cast(beta, precise.dtype)
        mean, variance = moments(precise, axes=tuple(range(len(x.shape) - 1)))
        mean, variance = ops.reshape(mean, (-1,)), ops.reshape(variance, (-1,))
        y = ops.batch_normalization(precise, mean, variance, -1, beta, gamma, self.epsilon)
        return ops.cast(y, x.dtype), mean, variance

    def activated_inference(self, x, activation=None, bias=None, residual=None):
        """`residual + norm(activation(x + bias))` at inference, by a fused kernel.

        Args:
            x: a grid of tokens.
            activation: a function, or None. It needs a fused kernel if there is a bias.
            bias: a vector of channels, or None.
            residual: a grid, or None.
        """
        kernel = kernels.activation(activation, x)
        if activation and not kernel:
            x = activation(x)
        normalization = kernels.find("activated_normalization", x)
        return normalization(x, bias, kernel, *self.for_inference(), residual)

    def for_inference(self):
        """What a fused kernel needs: gamma, beta, mean, variance and epsilon."""
        return self.gamma, self.beta, self.moving_mean, self.moving_variance, self.epsilon

    def update_moving_statistics(self, mean, variance):
        """Move the moving averages towards the mean and variance of a batch."""
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            batch = ops.cast(batch, moving.dtype)
            moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))


def moments(x, axes):
    """Mean and variance over some axes, which are kept with the size 1."""
    mean = ops.mean(x, axis=axes, keepdims=True)
    return mean, ops.mean(ops.square(x - mean), axis=axes, keepdims=True)
