"""Pillow's antialiased resize and a central crop, computed without rounding errors.

Pillow computes with integers. These functions compute the same integers as floats, with matrix
products, so that every backend gives Pillow's bytes. A pixel of the result depends on few pixels of
the image. So a product computes `BLOCK` columns or rows of the result, from the pixels on which one
of them depends.
"""

import math
import types

import numpy as np

# Pillow's fixed point: a weight is an integer multiple of 1 / FRACTION. Here each weight is split
# into a coarse and a fine integer, because a GPU may keep only 11 bits of each factor of a product.
# Both parts fit into 11 bits, and float32 holds the sums of both exactly.
FRACTION, COARSE = 2**22, 2**10
FINE = FRACTION // COARSE

BLOCK = 8  # a larger block multiplies by more zeros, and a smaller one needs more operators

CROP_MODES = ("center", "squash")


class Resampler:
    """Resize images of one size, then cut out the centre.

    Shapes: `(N, height, width, C) -> (N, *size, C)`: bytes.

    Args:
        specification: a `Specification`; its mean and std are not used.
        height: height of the images, in pixels; a scalar tensor if it is unknown.
        width: width of the images, in the same form.
        channels: number of channels of the images, in the same form.
        ops: the functions that compute with images: `keras.ops`, or `tensorflow_ops()`.
    """

    def __init__(self, specification, height, width, channels, ops):
        self.specification = specification
        self.ops = ops
        # NumPy computes the weights for images of known size, so that they become constants.
        known = all(isinstance(size, int) for size in (height, width, channels))
        self.weight_ops = np if known else ops
        if not known:
            height, width = (ops.array(side, dtype="int64") for side in (height, width))
        if not isinstance(channels, int):
            channels = ops.array(channels, dtype="int64")
        self.height, self.width, self.channels = height, width, channels

    def __call__(self, images):
        ops, size = self.ops, self.specification.size
        height, width = self.resized_size()
        rows = self.band(self.height, height, size[0])
        columns = self.band(self.width, width, size[1])

        # A pixel's channels are neighbours, so that each product reads the image as it is stored.
        batch = -1 if images.shape[0] is None else images.shape[0]
        x = ops.reshape(images, (batch, self.height, self.width * self.channels))
        x = self.resample_columns(x, columns, rows[0][0], rows[0][-1] + rows[1])
        x = self.resample_rows(x, rows)
        padded = (math.prod(weights.shape[::2]) for _, _, weights in (rows, columns))
        x = ops.reshape(x, (batch, *padded, self.channels))
        return x[:, : size[0], : size[1]]

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

    def band(self, length, resized, crop):
        """The weights of one axis, from `length` pixels to the centre of `resized` pixels.

        Returns:
            For each block of the result, the first pixel on which it depends, `(blocks,)`.
            The number of pixels on which a block depends, which is the same for all blocks.
            Integers `(blocks, pixels, block)` as float32: Pillow's weights times `FRACTION`. The
            last block repeats the last weights if it reaches over the end of the crop.
        """
        ops = self.weight_ops
        kernel, radius = KERNELS[self.specification.interpolation]
        margin = resized - crop
        offset = (margin + margin % 4 // 3) // 2  # round(margin / 2), which rounds half to even
        block = min(BLOCK, crop)
        places = np.minimum(np.arange(-(-crop // block) * block), crop - 1).reshape(-1, block)

        # Centres in pixels of the original image, times 2 * resized: integers, hence exact.
        target = (2 * (places + offset) + 1) * length
        wider = ops.maximum(length, resized)  # because the kernel of a shrinking image is wider
        reach = 2 * radius * wider
        pixels = ((block - 1) * length + reach) // resized + 2
        pixels = ops.minimum(pixels, length)
        begin = (target[:, 0] - reach) // (2 * resized)
        begin = ops.maximum(ops.minimum(begin, length - pixels), 0)
        source = ops.expand_dims(begin, 1) + ops.arange(pixels, dtype="int64")
        source = (2 * source + 1) * resized
        distance = ops.abs(ops.expand_dims(source, 2) - ops.expand_dims(target, 1))
        distance = ops.array(distance, dtype="float64") / (2 * ops.array(wider, dtype="float64"))

        weights = kernel(self, distance)
        weights = weights / ops.sum(weights, axis=1, keepdims=True)
        return begin, pixels, ops.array(ops.round(weights * FRACTION), dtype="float32")

    def resample_columns(self, x, columns, top, bottom):
        """Rows `top` to `bottom` of x, `(N, height, width * C) -> (N, rows, columns * C)`."""
        ops, channels = self.ops, self.channels
        begin, pixels, weights = columns
        strips = self.strips(x, top, bottom, begin * channels, (begin + pixels) * channels)
        matrices = self.weight_ops.split(self.matrices(weights), len(strips))
        blocks = []
        for strip, matrix in zip(strips, matrices, strict=True):
            product = ops.matmul(ops.array(strip, dtype="float32"), matrix)
            blocks.append(self.rounded(*ops.split(product, 2, axis=-1)))
        return ops.concatenate(blocks, axis=-1)

    def matrices(self, weights):
        """The matrix of each block, `(blocks, pixels * C, 2 * block * C)`.

        A channel of the result depends only on the same channel of the image, so other elements
        are 0. Left are the coarse parts of the weights, right the fine ones.
        """
        ops, channels = self.weight_ops, self.channels
        blocks, _, block = weights.shape
        weights = ops.expand_dims(weights, 3) * ops.ones([channels], dtype="float32")
        weights = ops.reshape(weights, (blocks, -1, 1, block * channels))
        both = ops.concatenate(self.parts(weights), axis=3)
        # A product with elements 0 and 1, because int8 would quantize a matrix product with them.
        same_channel = ops.tile(ops.eye(channels, dtype="float32"), (1, 2 * block))
        return ops.reshape(both * same_channel, (blocks, -1, 2 * block * channels))

    def strips(self, x, top, bottom, left, right):
        """`x[:, top:bottom, left[i]:right[i]]` for each i."""
        return [x[:, top:bottom, left[i] : right[i]] for i in range(left.shape[0])]

    def resample_rows(self, x, rows):
        """`(N, pixels, M) -> (N, blocks, block, M)`; x begins with the first pixel that is used."""
        ops, weight_ops = self.ops, self.weight_ops
        begin, pixels, weights = rows
        used = weight_ops.expand_dims(begin - begin[0], 1)
        x = ops.array(x, dtype="float32")  # because TensorFlow cannot take bytes on GPUs
        used = ops.take(x, used + weight_ops.arange(pixels, dtype="int64"), axis=1)
        parts = self.parts(weight_ops.transpose(weights, (0, 2, 1)))
        return self.rounded(*(ops.matmul(ops.array(part, dtype="float32"), used) for part in parts))

    def parts(self, weights):
        """A coarse and a fine part of the weights, each of at most 11 bits."""
        coarse = self.weight_ops.round(weights / FINE)
        fine = weights - coarse * FINE
        return [coarse / COARSE, fine / FINE]

    def rounded(self, coarse, fine):
        """The sum of both parts, rounded half up to bytes as Pillow does."""
        ops = self.ops
        x = coarse + ops.floor(fine) * (1 / COARSE) + 0.5
        return ops.array(ops.clip(x, 0, 255), dtype="uint8")  # the conversion rounds down

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
        clip=tf.clip_by_value,
        concatenate=tf.concat,
        expand_dims=tf.expand_dims,
        eye=tf.eye,
        floor=tf.floor,
        matmul=tf.matmul,
        maximum=tf.maximum,
        minimum=tf.minimum,
        ones=tf.ones,
        reshape=tf.reshape,
        round=tf.round,
        split=tf.split,
        sum=tf.reduce_sum,
        take=tf.gather,
        tile=tf.tile,
        transpose=tf.transpose,
    )
