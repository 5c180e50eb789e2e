"""The ConvMixer block: a convolution mixes places, a matrix mixes channels."""

from collections.abc import Callable

import keras
from keras import ops

from keras_mixers import arguments
from keras_mixers.layers import activations, kernels
from keras_mixers.layers.base import Layer
from keras_mixers.layers.norms import BatchNormalization
from keras_mixers.serialization import registered


@registered
class ConvMixerBlock(Layer):
    """`x + norm1(activation(depthwise(x)))`, then `norm2(activation(pointwise(x)))`.

    The norms are BatchNorms after the activation, and only the first half has a residual.

    Shapes: `(N, H, W, D) -> (N, H, W, D)`.

    Args:
        kernel_size: side of the depthwise kernel in tokens, an int or a (height, width) pair.
        activation: a name or a function.
        epsilon: of the BatchNorms.
        momentum: of their moving averages; 0.9 here is PyTorch's 0.1.
        gradient_checkpointing: keep the input alone in training, and compute the block again on the
            way back: less memory, more time.

    Example:
        >>> ConvMixerBlock(kernel_size=5)(keras.Input((8, 8, 48))).shape
        (None, 8, 8, 48)

    Source: "Patches Are All You Need?", arXiv 2201.09792.
    """

    rank = 4
    mixes = frozenset(["channels", "tokens"])
    role = "conv_mixer"

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        activation: str | Callable = "gelu",
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        gradient_checkpointing: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.kernel_size = arguments.pair("kernel_size", kernel_size)
        self.activation = activations.get(activation)
        self.epsilon = arguments.real("epsilon", epsilon, 0.0)
        self.momentum = arguments.rate("momentum", momentum)
        self.gradient_checkpointing = arguments.flag(
            "gradient_checkpointing", gradient_checkpointing
        )
        # XLA for CPUs runs depthwise convolutions in one slow loop.
        self.supports_jit = not kernels.on_tensorflow_cpu()

        same = {"dtype": self.dtype_policy}
        # PyTorch's default limit for a depthwise kernel: each output sums kernel-size inputs.
        # Keras's fans would count all channels and start the layer near zero.
        limit = (self.kernel_size[0] * self.kernel_size[1]) ** -0.5
        self.depthwise = DepthwiseConv2D(
            self.kernel_size,
            padding="same",
            depthwise_initializer=keras.initializers.RandomUniform(-limit, limit),
            data_format="channels_last",
            name="depthwise",
            **same,
        )
        self.norm1 = BatchNormalization(
            epsilon=self.epsilon, momentum=self.momentum, name="norm1", **same
        )
        self.norm2 = BatchNormalization(
            epsilon=self.epsilon, momentum=self.momentum, name="norm2", **same
        )

    def build(self, x_shape):
        self.pointwise = keras.layers.Conv2D(
            x_shape[-1], 1, data_format="channels_last", dtype=self.dtype_policy, name="pointwise"
        )
        for part in (self.depthwise, self.norm1, self.pointwise, self.norm2):
            part.build(x_shape)

    def multiply_adds(self, x_shape):
        _, rows, columns, width = x_shape
        return rows * columns * width * (self.kernel_size[0] * self.kernel_size[1] + width)

    def call(self, x, training=None):
        learns = training and self.norm1.trainable and self.norm2.trainable
        if self.gradient_checkpointing and learns:
            y, *seen = keras.remat(self.forgetful)(x)
            self.norm1.remember(*seen[:2])
            self.norm2.remember(*seen[2:])
            return y
        x = x + self.finished(self.depthwise(x), self.norm1, training)
        return self.finished(self.pointwise(x), self.norm2, training)

    def forgetful(self, x):
        """The same in training, but for the moving averages: what they are to see comes out too."""
        active = kernels.activate(self.activation, self.depthwise(x), True)
        normal, mean1, variance1 = self.norm1.normalized(active)
        active = kernels.activate(self.activation, self.pointwise(x + normal), True)
        y, mean2, variance2 = self.norm2.normalized(active)
        return y, mean1, variance1, mean2, variance2

    def finished(self, x, norm, training):
        """`norm(activation(x))`, what follows either convolution."""
        with kernels.fused_elementwise(x, training):
            active = kernels.activate(self.activation, x, training)
            return norm(active, training=training)


class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """Keras's DepthwiseConv2D of stride 1 and padding `"same"`, by a faster gradient."""

    def call(self, x):
        fast = kernels.fused_kernels(x)
        if not fast or None in x.shape[1:]:
            return super().call(x)
        y = fast.depthwise_convolution(x, ops.convert_to_tensor(self.kernel))
        return y + ops.convert_to_tensor(self.bias)
