"""Pillow's antialiased resize and a central crop, computed without rounding errors.

Pillow computes with integers. These functions compute the same integers as floats, with matrix
products, so that every backend gives Pillow's bytes.
"""

import math
import types

import numpy as np

# Pillow's fixed point: a weight is an integer multiple of 1 / FRACTION. Here each weight is split
# into a coarse and a fine integer, because a GPU may keep only 11 bits of each factor of a product.
# Both parts fit into 11 bits, and float32 holds the sums of both exactly.
FRACTION, COARSE = 2**22, 2**10
FINE = FRACTION // COARSE

CROP_MODES = ("center", "squash")


class Resampler:
    """Resize images of one size, then cut out the centre.

    Shapes: `(N, height, width, C) -> (N, *size, C)`: integers from 0 to 255, as float32.

    Args:
        specification: a `Specification`; its mean and std are not used.
        height: height of the images, in pixels; a scalar tensor if it is unknown.
        width: width of the images, in the same form.
        ops: the functions that compute with images: `keras.ops`, or `tensorflow_ops()`.
    """

    def __init__(self, specification, height, width, ops):
        self.specification = specification
        self.ops = ops
        # NumPy computes the weights for images of known size, so that they become constants.
        known = isinstance(height, int) and isinstance(width, int)
        self.weight_ops = np if known else ops
        if not known:
            height, width = (ops.array(side, dtype="int64") for side in (height, width))
        self.height, self.width = height, width

    def __call__(self, images):
        ops, size = self.ops, self.specification.size
        height, width = self.resized_size()
        top, bottom, row_weights = self.weights(self.height, height, size[0])
        left, right, column_weights = self.weights(self.width, width, size[1])

        x = ops.transpose(images[:, top:bottom, left:right], (0, 3, 2, 1))  # (N, C, W, H)
        x = self.resample(ops.array(x, dtype="float32"), column_weights)  # (N, C, columns, H)
        x = self.resample(ops.transpose(x, (0, 1, 3, 2)), row_weights)  # (N, C, rows, columns)
        return ops.transpose(x, (0, 2, 3, 1))

    def resized_size(self):
        """(height, width) of the whole resized image, of which `size` is the central crop."""
        ops, specification = self.weight_ops, self.specification
        rows, columns = (
            math.floor(side / specification.crop_fraction) for side in specification.size
        )
        if specification.crop_mode == "squash":
            return rows, columns
        if rows == columns:  # torchvision's Resize: it rounds the longer side down
            shorter = ops.minimum(self.height, self.width)
            return rows * self.height // shorter, rows * self.width // shorter
        # timm's ResizeKeepRatio: it divides twice in float64, then rounds half to even.
        height, width = (ops.array(side, dtype="float64") for side in (self.height, self.width))
        ratio = ops.minimum(height / rows, width / columns)
        return tuple(ops.array(ops.round(side / ratio), dtype="int64") for side in (height, width))

    def weights(self, length, resized, crop):
        """The weights of one axis, from `length` pixels to the centre of `resized` pixels.

        Returns:
            The first pixel with a weight, the last one plus 1, and two matrices of integers
            `(crop, pixels)`. `coarse / COARSE + fine / FRACTION` are Pillow's weights.
        """
        ops = self.weight_ops
        kernel, radius = KERNELS[self.specification.interpolation]
        margin = resized - crop
        offset = (margin + margin % 4 // 3) // 2  # round(margin / 2), which rounds half to even

        # Centres in pixels of the original image, times 2 * resized: integers, hence exact.
        target = (2 * (ops.arange(crop, dtype="int64") + offset) + 1) * length
        wider = ops.maximum(length, resized)  # because the kernel of a shrinking image is wider
        first = ops.maximum((target[0] - 2 * radius * wider) // (2 * resized), 0)
        end = ops.minimum((target[-1] + 2 * radius * wider) // (2 * resized) + 1, length)
        source = (2 * ops.arange(first, end, dtype="int64") + 1) * resized
        distance = ops.abs(source - ops.expand_dims(target, 1))
        distance = ops.array(distance, dtype="float64") / (2 * ops.array(wider, dtype="float64"))

        weights = kernel(self, distance)
        weights = weights / ops.sum(weights, axis=1, keepdims=True)
        weights = ops.round(weights * FRACTION)
        coarse = ops.round(weights / FINE)
        return first, end, (coarse, weights - coarse * FINE)

    def resample(self, x, weights):
        """`weights . x` over the last axis but one, rounded half up to bytes as Pillow does."""
        ops = self.ops
        coarse, fine = self.products(x, weights)
        x = ops.floor((coarse + ops.floor(fine / FINE) + COARSE // 2) / COARSE)
        return ops.minimum(ops.maximum(x, 0), 255)

    def products(self, x, weights):
        """`weights . x` for both matrices of weights, over the last axis but one of x."""
        return [self.ops.matmul(self.ops.array(part, dtype="float32"), x) for part in weights]

    def bilinear(self, distance):
        """The triangle kernel."""
        return 1 - self.weight_ops.minimum(distance, 1)

    def bicubic(self, distance):
        """Keys's cubic kernel with a = -0.5."""
        # One polynomial up to distance 1, and one from 1 to 2. Each is 0 where the other counts,
        # so their sum needs no choice between them.
        inner = self.weight_ops.minimum(distance, 1)
        outer = self.weight_ops.minimum(self.weight_ops.maximum(distance, 1), 2)
        return (1.5 * inner - 2.5) * inner * inner + 1 - 0.5 * (outer - 1) * (outer - 2) ** 2


# A kernel and its radius in pixels.
KERNELS = {"bicubic": (Resampler.bicubic, 2), "bilinear": (Resampler.bilinear, 1)}


def tensorflow_ops():
    """TensorFlow's functions under their names in `keras.ops`.

    tf.data runs them, because it is made of TensorFlow whatever the backend of Keras is.
    """
    import tensorflow as tf

    return types.SimpleNamespace(
        abs=tf.abs,
        arange=tf.range,
        array=tf.cast,
        expand_dims=tf.expand_dims,
        floor=tf.floor,
        matmul=tf.matmul,
        maximum=tf.maximum,
        minimum=tf.minimum,
        round=tf.round,
        sum=tf.reduce_sum,
        transpose=tf.transpose,
    )
