"""Products at inference for inputs that are small, such as the tokens of one image.

They compute in the dtype of the weights, usually float32, because to convert the weights to
bfloat16 takes longer than bfloat16 saves.

TensorFlow computes a product on one thread if its matrices fit into the cache of one core. So these
kernels compute two halves of the tokens, and TensorFlow runs these operators on different threads.
"""

import tensorflow as tf

from keras_mixers.layers.kernels.tensorflow_cpu.activations import compiled
from keras_mixers.layers.kernels.tensorflow_cpu.half import narrow, wide
from keras_mixers.layers.kernels.tensorflow_cpu.products import on_rows
from keras_mixers.layers.patches import patches

CACHE_BYTES = 2**20  # of a core
FEWEST_ROWS = 32  # because a product of fewer rows takes less time than to start it on a thread


def dense_of_few_tokens(x, kernel, bias):
    """`dense` at inference: `(..., D) -> (..., E)`."""
    kernel, bias = _read(kernel, bias)
    return _on_halves(lambda x: _product(x, kernel, bias), x, kernel)


def mlp_of_few_tokens(x, kernel1, bias1, kernel2, bias2, activation):
    """`mlp` at inference: `(..., D) -> (..., E)`. A GELU becomes part of the first product."""
    kernel1, bias1, kernel2, bias2 = _read(kernel1, bias1, kernel2, bias2)

    def call(x):
        return _product(activation.inference(_product(x, kernel1, bias1)), kernel2, bias2)

    return _on_halves(call, x, kernel1)


def mlp_of_one_image(x, kernel1, bias1, kernel2, bias2, activation):
    """`mlp_across_tokens` at inference for one image: `(1, T, D) -> (1, S, D)`.

    The products read transposed matrices, which is as fast. TensorFlow takes longer to transpose
    one small image than to multiply it. A GELU becomes part of the first product.
    """
    kernel1, bias1, kernel2, bias2 = _read(kernel1, bias1, kernel2, bias2)
    columns = tf.cast(tf.reshape(x, x.shape[1:]), kernel1.dtype)
    hidden = tf.nn.bias_add(tf.matmul(columns, kernel1, transpose_a=True), bias1)
    hidden = activation.inference(hidden)
    y = tf.matmul(kernel2, hidden, transpose_a=True, transpose_b=True) + bias2[:, None]
    return tf.cast(y, x.dtype)[None]


def product_of_patches(images, patch_size, kernel, bias):
    """`patch kernel + bias` for each patch: `(N, H, W, C) -> (N, H/P, W/Q, D)`."""
    return _product_of_patches(images, patch_size, *_read(kernel, bias))


@compiled
def _product_of_patches(images, patch_size, kernel, bias):
    y = tf.tensordot(patches(wide(images), patch_size), wide(kernel), 1)
    return narrow(y if bias is None else y + wide(bias), images.dtype)


def _read(*weights):
    """The values of weights, so that operators that share a weight read it once."""
    return [None if weight is None else tf.convert_to_tensor(weight) for weight in weights]


def _product(x, kernel, bias):
    """`x kernel + bias`, where the bias may be None."""
    product = tf.matmul(x, kernel)
    return product if bias is None else tf.nn.bias_add(product, bias)


def _on_halves(function, x, kernel):
    """Apply a function of rows to x in the dtype of its kernel, half by half if that is faster."""

    def call(rows):
        rows = tf.cast(rows, kernel.dtype)
        count, (width, units) = rows.shape[0], kernel.shape
        numbers = count * width + width * units + count * units
        if count < FEWEST_ROWS or numbers * kernel.dtype.size > CACHE_BYTES:
            return tf.cast(function(rows), x.dtype)
        halves = rows[: count // 2], rows[count // 2 :]
        return tf.concat([tf.cast(function(half), x.dtype) for half in halves], 0)

    return on_rows(call, x)
