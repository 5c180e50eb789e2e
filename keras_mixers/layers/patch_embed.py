"""Turn an image into tokens, one for each patch."""

from typing import Any

import keras
from keras import ops

from keras_mixers import arguments
from keras_mixers.graph import uncast_weights
from keras_mixers.layers import kernels
from keras_mixers.layers.base import Layer
from keras_mixers.layers.patches import patch_grid, patches
from keras_mixers.serialization import registered


@registered
class PatchEmbed(Layer):
    """Cut an image into patches and project each: `token = patch . kernel + bias`.

    Shapes: `(N, H, W, C) -> (N, T, D)` with `T = H/P * W/P`; the tokens follow row by row from the
    top left. With `flatten=False` the tokens keep their grid, `(N, H/P, W/P, D)`.

    Args:
        hidden_dim: D, the width of a token.
        patch_size: P in pixels, an int or a (height, width) pair.
        flatten: whether to return a sequence of tokens instead of their grid.
        use_bias: whether the projection has a bias.

    Raises:
        ValueError: if the patch size does not divide the image size, or if the latter is unknown.

    Example:
        >>> PatchEmbed(192, patch_size=8)(keras.Input((32, 48, 3))).shape
        (None, 24, 192)

    Source: "An Image is Worth 16x16 Words", arXiv 2010.11929, equation 1.
    """

    rank = 4

    def __init__(
        self,
        hidden_dim: int,
        patch_size: int | tuple[int, int],
        flatten: bool = True,
        use_bias: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.hidden_dim = arguments.integer("hidden_dim", hidden_dim)
        self.patch_size = arguments.pair("patch_size", patch_size)
        self.flatten = arguments.flag("flatten", flatten)
        self.use_bias = arguments.flag("use_bias", use_bias)
        self.projection = PatchConv2D(
            self.hidden_dim,
            self.patch_size,
            strides=self.patch_size,
            use_bias=self.use_bias,
            kernel_initializer="lecun_normal",
            data_format="channels_last",
            dtype=self.dtype_policy,
            name="projection",
        )

    def compute_output_shape(self, images_shape):
        rows, columns = patch_grid(images_shape[1:3], self.patch_size)
        tokens = (rows * columns,) if self.flatten else (rows, columns)
        return (images_shape[0], *tokens, self.hidden_dim)

    def build(self, images_shape):
        patch_grid(images_shape[1:3], self.patch_size)  # to raise before any weight is created
        self.projection.build(images_shape)

    def multiply_adds(self, images_shape):
        rows, columns = patch_grid(images_shape[1:3], self.patch_size)
        pixels = self.patch_size[0] * self.patch_size[1] * images_shape[-1]
        return rows * columns * pixels * self.hidden_dim

    def call(self, images):
        rows, columns = patch_grid(images.shape[1:3], self.patch_size)
        x = self.projection(images)
        return ops.reshape(x, (-1, rows * columns, self.hidden_dim)) if self.flatten else x


class PatchConv2D(keras.layers.Conv2D):
    """Keras's Conv2D for patches that do not overlap.

    In training on CPUs, the gradient of a convolution for its kernel is slower than a product. So
    is the convolution of one small image, which takes longer to start.
    """

    def call(self, images, training=None):
        dense = training and kernels.find("dense", images)
        if dense:
            return dense(patches(images, self.kernel_size), *self.matrix_and_bias())
        product = kernels.find("product_of_patches", images)
        if product and not training and images.shape[0] == 1 and kernels.is_small(images):
            with uncast_weights():  # because the kernel computes in float32
                return product(images, self.kernel_size, *self.matrix_and_bias())
        if images.dtype == "bfloat16" and self.use_bias:
            return kernels.plus_bias(self.convolution_op(images, self.kernel), self.bias)
        return super().call(images)

    def matrix_and_bias(self):
        """The kernel as a matrix, and the bias or None, as tensors."""
        kernel = ops.reshape(ops.convert_to_tensor(self.kernel), (-1, self.filters))
        return kernel, ops.convert_to_tensor(self.bias) if self.use_bias else None
