"""Matrix products, with the tokens as rows of one matrix: a dense layer, and an MLP of two."""

import tensorflow as tf


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

    TensorFlow replaces this pattern by one oneDNN kernel, together with a GELU that follows it.
    """

    def product(x):
        y = tf.matmul(x, kernel)
        return y if bias is None else tf.nn.bias_add(y, bias)

    return on_rows(product, x)


def mlp(x, kernel1, bias1, kernel2, bias2, activation):
    """`activation(x kernel1 + bias1) kernel2 + bias2` on rows, in training.

    For the gradient, this function stores x and the hidden units before the activation. The
    backward pass recomputes the activated units, because they are as large as everything else that
    a block stores.
    """

    @tf.custom_gradient
    def call(x, kernel1, bias1, kernel2, bias2):
        hidden = tf.nn.bias_add(tf.matmul(x, kernel1), bias1)
        y = tf.nn.bias_add(tf.matmul(activation.forward(hidden), kernel2), bias2)

        def gradient(dy):
            active, d_hidden, d_bias1 = activation.recompute(
                hidden, tf.matmul(dy, kernel2, transpose_b=True)
            )
            return (
                tf.matmul(d_hidden, kernel1, transpose_b=True),
                tf.matmul(x, d_hidden, transpose_a=True),
                d_bias1,
                tf.matmul(active, dy, transpose_a=True),
                tf.raw_ops.BiasAddGrad(out_backprop=dy),
            )

        return y, gradient

    return on_rows(lambda x: call(x, kernel1, bias1, kernel2, bias2), x)
