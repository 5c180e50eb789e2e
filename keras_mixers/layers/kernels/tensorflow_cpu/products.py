"""Matrix products: a dense layer, and MLPs of two across channels or across tokens."""

import tensorflow as tf

from keras_mixers.layers.kernels.tensorflow_cpu.activations import compiled
from keras_mixers.layers.kernels.tensorflow_cpu.half import narrow, wide


def on_rows(function, x):
    """Apply a function of a matrix to x, with the tokens as rows: `(..., D) -> (..., E)`."""
    y = function(tf.reshape(x, (-1, x.shape[-1])))
    if len(x.shape) == 2:
        return y
    if None in x.shape[1:-1]:
        return tf.reshape(y, tf.concat([tf.shape(x)[:-1], [y.shape[-1]]], 0))
    return tf.reshape(y, (-1, *x.shape[1:-1], y.shape[-1]))


def dense(x, kernel, bias):
    """`x kernel + bias` on rows.

    TensorFlow replaces this pattern by one oneDNN kernel, in float32 together with a GELU that
    follows it.
    """
    if bias is None:
        return on_rows(lambda x: Rows.times(x, kernel), x)
    product = _product_in_bfloat16 if x.dtype == tf.bfloat16 else _product
    return on_rows(lambda x: product(x, kernel, bias), x)


def _product(x, kernel, bias):
    return Rows.plus(Rows.times(x, kernel), bias)


@tf.custom_gradient
def _product_in_bfloat16(x, kernel, bias):
    def gradient(dy):
        return Rows.back(dy, kernel), Rows.d_kernel(x, dy), Rows.d_bias(dy)

    return _product(x, kernel, bias), gradient


def activated_dense(x, kernel, bias, activation):
    """`activation(x kernel + bias)` on rows, in training; it stores x and `x kernel`."""

    @tf.custom_gradient
    def call(x, kernel, bias):
        product = Rows.times(x, kernel)

        def gradient(dy):
            d_product = activation.backward(dy, product, bias)
            d_kernel, d_bias = Rows.d_kernel(x, d_product), Rows.d_bias(d_product)
            return Rows.back(d_product, kernel), d_kernel, d_bias

        return activation.forward(product, bias), gradient

    return on_rows(lambda x: call(x, kernel, bias), x)


def mlp(x, kernel1, bias1, kernel2, bias2, activation):
    """`activation(x kernel1 + bias1) kernel2 + bias2` on rows."""
    weights = kernel1, bias1, kernel2, bias2
    return on_rows(lambda x: _mlp(Rows, x, weights, activation), x)


def mlp_across_tokens(x, kernel1, bias1, kernel2, bias2, activation):
    """The MLP of the columns of each image: `(N, T, D) -> (N, S, D)`.

    It multiplies by the kernels from the left, because it then needs no transposed copy of x.
    """
    return _mlp(Columns, x, (kernel1, bias1, kernel2, bias2), activation)


class Rows:
    """Products with the rows of a matrix: `(R, D)`."""

    @staticmethod
    def times(x, kernel):
        """`x kernel`: `(R, D), (D, E) -> (R, E)`."""
        return tf.matmul(x, kernel)

    @staticmethod
    def back(dy, kernel):
        """The gradient for x of `times`."""
        return tf.matmul(dy, kernel, transpose_b=True)

    @staticmethod
    def d_kernel(x, dy):
        """The gradient for the kernel of `times`."""
        return tf.matmul(x, dy, transpose_a=True)

    @staticmethod
    def plus(y, bias):
        """`y + bias`; oneDNN computes it together with the product."""
        return tf.nn.bias_add(y, bias)

    @staticmethod
    def as_rows(bias):
        """The bias in a shape that NumPy's rules add to a product."""
        return bias

    @staticmethod
    def d_bias(dy):
        """The gradient for the bias."""
        if dy.dtype == tf.bfloat16:
            return tf.reduce_sum(dy, 0)  # because BiasAddGrad adds in bfloat16, and this in float32
        return tf.raw_ops.BiasAddGrad(out_backprop=dy)


class Columns:
    """Products with the columns of each image: `(N, T, D)`."""

    @staticmethod
    def times(x, kernel):
        """`kernel' x`: `(N, T, D), (T, S) -> (N, S, D)`."""
        return tf.matmul(kernel, x, transpose_a=True)

    @staticmethod
    def back(dy, kernel):
        """The gradient for x of `times`."""
        return tf.matmul(kernel, dy)

    @staticmethod
    def d_kernel(x, dy):
        """The gradient for the kernel of `times`."""
        return _sum_of_images(tf.matmul(x, dy, transpose_b=True))

    @staticmethod
    def plus(y, bias):
        """`y + bias`."""
        return y + bias[:, None]

    @staticmethod
    def as_rows(bias):
        """The bias in a shape that NumPy's rules add to a product."""
        return bias[:, None]

    @staticmethod
    def d_bias(dy):
        """The gradient for the bias."""
        return _sum_of_columns(dy)


def _mlp(form, x, weights, activation):
    """An MLP of rows or columns; `form` multiplies them.

    For the gradient, this function stores x and the hidden units before the activation. In float32
    the backward pass recomputes the activated units, because they are as large as everything else
    that a block stores. In bfloat16 they take half of the memory and are stored, because to
    recompute them takes as long as the rest of the elementwise work in the backward pass.
    """

    @tf.custom_gradient
    def call(x, kernel1, bias1, kernel2, bias2):
        def activated():
            return activation.forward(hidden, form.as_rows(bias1))

        hidden = form.times(x, kernel1)
        active = activated()
        y = form.plus(form.times(active, kernel2), bias2)
        stored = active if x.dtype == tf.bfloat16 else None

        def gradient(dy):
            active = activated() if stored is None else stored
            d_hidden = activation.backward(form.back(dy, kernel2), hidden, form.as_rows(bias1))
            return (
                form.back(d_hidden, kernel1),
                form.d_kernel(x, d_hidden),
                form.d_bias(d_hidden),
                form.d_kernel(active, dy),
                form.d_bias(dy),
            )

        return y, gradient

    return call(x, *weights)


@compiled
def _sum_of_images(x):
    return narrow(tf.reduce_sum(wide(x), 0), x.dtype)


@compiled
def _sum_of_columns(x):
    # In this order, because XLA has a faster loop for each of the two sums than for both.
    return narrow(tf.reduce_sum(tf.reduce_sum(wide(x), 0), -1), x.dtype)
