"""The ConvMixer block: a convolution mixes tokens, a matrix mixes channels."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_mixers import arguments
from keras_mixers.graph import uncast_weights
from keras_mixers.layers import activations, kernels
from keras_mixers.layers.base import Layer
from keras_mixers.layers.norms import BatchNormalization
from keras_mixers.serialization import registered


@registered
class ConvMixerBlock(Layer):
    """`x + norm1(activation(depthwise(x)))`, then `norm2(activation(pointwise(x)))`.

    The norms are BatchNorms and follow the activation. Only the first half has a residual. In the
    form of the paper's code, the block is:

        Sequential(
            Residual(Sequential(DepthwiseConv(kernel_size), GELU, BatchNorm)),
            Conv(1), GELU, BatchNorm,
        )

    Shapes: `(N, H, W, D) -> (N, H, W, D)`.

    Args:
        kernel_size: side of the depthwise kernel in tokens, an int or a (height, width) pair.
        activation: a name or a function.
        epsilon: added to the variance in the BatchNorms.
        momentum: of the moving averages in the BatchNorms; PyTorch calls 0.9 a momentum of 0.1.
        gradient_checkpointing: in training, store only the input of the block, and recompute the
            block in the backward pass. This needs less memory and more time.

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
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.kernel_size = arguments.pair("kernel_size", kernel_size)
        self.activation = activations.get(activation)
        self.epsilon = arguments.real("epsilon", epsilon, 0.0)
        self.momentum = arguments.rate("momentum", momentum)
        self.gradient_checkpointing = arguments.flag(
            "gradient_checkpointing", gradient_checkpointing
        )
        # Because XLA computes depthwise convolutions slowly on CPUs.
        self.supports_jit = not kernels.on_tensorflow_cpu()

        dtype = self.dtype_policy
        # PyTorch's limit, because each output of a depthwise kernel sums only height * width
        # inputs. Keras's initializers would count all channels, and the outputs would be too small.
        limit = (self.kernel_size[0] * self.kernel_size[1]) ** -0.5
        self.depthwise = DepthwiseConv2D(
            self.kernel_size,
            padding="same",
            depthwise_initializer=keras.initializers.RandomUniform(-limit, limit),
            data_format="channels_last",
            dtype=dtype,
            name="depthwise",
        )
        self.norm1 = BatchNormalization(
            epsilon=self.epsilon, momentum=self.momentum, dtype=dtype, name="norm1"
        )
        self.norm2 = BatchNormalization(
            epsilon=self.epsilon, momentum=self.momentum, dtype=dtype, name="norm2"
        )

    def build(self, x_shape):
        self.pointwise = PointwiseConv2D(
            x_shape[-1], 1, data_format="channels_last", dtype=self.dtype_policy, name="pointwise"
        )
        for part in (self.depthwise, self.norm1, self.pointwise, self.norm2):
            part.build(x_shape)

    def split_axes(self):
        vectors = ("depthwise/bias", *(f"norm1/{weight.name}" for weight in self.norm1.weights))
        return {"depthwise/kernel": 2, "pointwise/kernel": 2, **dict.fromkeys(vectors, 0)}

    def multiply_adds(self, x_shape):
        _, rows, columns, width = x_shape
        return rows * columns * width * (self.kernel_size[0] * self.kernel_size[1] + width)

    def call(self, x, training=None):
        if not (self.gradient_checkpointing and self.uses_batch_statistics(training)):

            def normalize(norm, x, **fused):
                return norm(x, training=training, **fused)

            return self.block(x, normalize, training)
        # The backward pass recomputes the block. The moving averages are updated outside of it,
        # because they must move once in each training step.
        y, *statistics = keras.remat(self.block_with_batch_statistics)(x)
        self.norm1.update_moving_statistics(*statistics[:2])
        self.norm2.update_moving_statistics(*statistics[2:])
        return y

    def uses_batch_statistics(self, training):
        """Whether both norms use the mean and variance of the batch."""
        return training and self.norm1.trainable and self.norm2.trainable

    def block(self, x, normalize, training):
        """The two halves of the block.

        `normalize(norm, x)` applies one of the norms, and `normalize(norm, x, bias=bias,
        activation=activation)` applies it to `activation(x + bias)`.
        """
        if not training and kernels.find("activated_normalization", x):
            return self.fused_inference(x)
        plain = is_plain(self.depthwise) and is_plain(self.pointwise)
        product = kernels.find("pointwise_product", x)
        if product and plain and None not in x.shape[1:] and self.uses_batch_statistics(training):
            return self.fused_training(x, normalize, product)

        y = kernels.activate(self.activation, self.depthwise(x), training)
        x = x + normalize(self.norm1, y)
        return normalize(self.norm2, self.activated_pointwise(x, training))

    def activated_pointwise(self, x, training):
        """`activation(pointwise(x))`."""
        name = "activated_dense" if training else "activated_dense_inference"
        product, activation = kernels.find(name, x), kernels.activation(self.activation, x)
        if not (product and activation and is_plain(self.pointwise)):
            x = self.pointwise(x, training=training)
            return kernels.activate(self.activation, x, training)
        return product(x, *self.pointwise.matrix_and_bias(), activation)

    def fused_inference(self, x):
        """The block at inference: one kernel, or a loop after each convolution if x is large."""
        activation = kernels.activation(self.activation, x)
        has_product = activation and is_plain(self.pointwise)
        if has_product and is_plain(self.depthwise) and kernels.is_small(x):
            norms = self.norm1.for_inference(), self.norm2.for_inference()
            block = kernels.find("conv_mixer_block", x)
            with uncast_weights():  # because the kernel computes in float32
                depthwise = self.depthwise.kernel, self.depthwise.bias
                return block(x, depthwise, self.pointwise.matrix_and_bias(), *norms, activation)

        x = self.norm1.activated_inference(self.depthwise(x), self.activation, residual=x)
        if not has_product:
            return self.norm2.activated_inference(self.pointwise(x), self.activation)
        # The loop adds the bias, because a product without a bias is faster.
        kernel, bias = self.pointwise.matrix_and_bias()
        x = kernels.find("dense", x)(x, kernel, None)
        return self.norm2.activated_inference(x, self.activation, bias)

    def fused_training(self, x, normalize, product):
        """The block in training, whose norms also add the bias and compute the activation.

        For the gradient, they store neither the sum nor the activation.
        """
        kernel = kernels.activation(self.activation, x)
        activation = kernel.training if kernel else self.activation
        convolution = kernels.find("depthwise_convolution", x)
        kernel, bias = map(ops.convert_to_tensor, (self.depthwise.kernel, self.depthwise.bias))
        y = convolution(x, kernel)
        x = x + normalize(self.norm1, y, bias=bias, activation=activation)
        kernel, bias = self.pointwise.matrix_and_bias()
        return normalize(self.norm2, product(x, kernel), bias=bias, activation=activation)

    def block_with_batch_statistics(self, x):
        """The block in training, without side effects.

        Returns:
            The output, then the mean and variance of the batch for `norm1` and for `norm2`.
        """
        statistics = []

        def normalize(norm, x, **fused):
            y, mean, variance = norm.normalize_batch(x, **fused)
            statistics.extend([mean, variance])
            return y

        return self.block(x, normalize, training=True), *statistics


class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """Keras's DepthwiseConv2D for stride 1 and padding `"same"`, with a faster gradient."""

    def call(self, x):
        convolution = kernels.find("depthwise_convolution", x)
        if convolution and None not in x.shape[1:]:
            y = convolution(x, ops.convert_to_tensor(self.kernel))
        elif x.dtype == "bfloat16":
            y = ops.depthwise_conv(x, self.kernel, padding="same", data_format="channels_last")
        else:
            return super().call(x)
        return kernels.plus_bias(y, self.bias)


class PointwiseConv2D(keras.layers.Conv2D):
    """Keras's Conv2D for a kernel of 1 x 1, computed by a product of matrices where it is faster.

    In training on CPUs, the gradient of a convolution for its kernel is slower than a product.
    """

    def call(self, x, training=None):
        product = kernels.find("pointwise_product", x)
        dense = training and kernels.find("dense", x)
        if dense:
            return dense(x, *self.matrix_and_bias())
        if product:
            y = product(x, self.matrix_and_bias()[0])
        elif x.dtype == "bfloat16":
            y = self.convolution_op(x, self.kernel)
        else:
            return super().call(x)
        return kernels.plus_bias(y, self.bias)

    def matrix_and_bias(self):
        """The kernel as a matrix, and the bias, as tensors."""
        kernel = ops.convert_to_tensor(self.kernel)
        return ops.reshape(kernel, (-1, self.filters)), ops.convert_to_tensor(self.bias)


def is_plain(convolution):
    """Whether a call of the layer computes a convolution and nothing that a user added."""
    linear = convolution.activation is keras.activations.linear
    return linear and "call" not in vars(convolution) and not convolution.activity_regularizer
