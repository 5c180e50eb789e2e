"""Faster forms for TensorFlow's graphs on CPUs; `seam.py` says when they stand in.

Each computes what the plain form beside its caller does, in values and in gradients. Three means:
XLA compiles elementwise parts alone (whole models it would slow down: its convolutions and its
transposed products are slower than TensorFlow's); gradients are given in closed form, so that less
is kept for them; inference is spelt in the patterns that TensorFlow makes one kernel of oneDNN of.
"""

import functools
import math

import keras
import tensorflow as tf

from keras_mixers.layers.activations import gelu_tanh

# From so many tokens on, attention takes one image after the other: as fast, in less memory.
LONG = 512

# Compiled once for each shape, for all layers that call it.
_compiled = functools.partial(tf.function, jit_compile=True, autograph=False)


def one_pass():
    """The elementwise operators made inside become one loop over memory, in inference."""
    return tf.xla.experimental.jit_scope(compile_ops=True)


def _gelu(x):
    return 0.5 * x * (1 + tf.math.erf(x * 0.5**0.5))


def _gelu_slope(x):
    cumulative = 0.5 * (1 + tf.math.erf(x * 0.5**0.5))
    return cumulative + x * tf.exp(-0.5 * x * x) * (2 * math.pi) ** -0.5


def _gelu_tanh(x):
    return 0.5 * x * (1 + tf.tanh((2 / math.pi) ** 0.5 * (x + 0.044715 * x**3)))


def _gelu_tanh_slope(x):
    tanh = tf.tanh((2 / math.pi) ** 0.5 * (x + 0.044715 * x**3))
    inner = (2 / math.pi) ** 0.5 * (1 + 3 * 0.044715 * x * x)
    return 0.5 * (1 + tanh) + 0.5 * x * (1 - tanh * tanh) * inner


class Activation:
    """An elementwise function and its slope, and what is compiled of them."""

    def __init__(self, function, slope):
        def recompute(x, dy):
            dx = dy * slope(x)
            return function(x), dx, tf.reduce_sum(dx, 0)

        self.inference = function
        self.forward = _compiled(function)
        self.backward = _compiled(lambda x, dy: dy * slope(x))
        self.recompute = _compiled(recompute)

    def training(self, x):
        """`function(x)`, which keeps x alone for its gradient."""

        @tf.custom_gradient
        def call(x):
            return self.forward(x), lambda dy: self.backward(x, dy)

        return call(x)


ACTIVATIONS = {
    keras.activations.gelu: Activation(_gelu, _gelu_slope),
    gelu_tanh: Activation(_gelu_tanh, _gelu_tanh_slope),
}


def rows(x):
    """`(..., D) -> (M, D)`."""
    return tf.reshape(x, (-1, x.shape[-1]))


def like(y, x):
    """Rows with the leading axes of x: `(M, E), (..., D) -> (..., E)`."""
    if len(x.shape) == 2:
        return y
    if None in x.shape[1:-1]:
        return tf.reshape(y, tf.concat([tf.shape(x)[:-1], [y.shape[-1]]], 0))
    return tf.reshape(y, (-1, *x.shape[1:-1], y.shape[-1]))


def dense(x, kernel, bias):
    """`x kernel + bias` on rows: the product, its bias and a GELU become one kernel."""
    product = tf.matmul(rows(x), kernel)
    return like(product if bias is None else tf.nn.bias_add(product, bias), x)


def mlp(x, kernel1, bias1, kernel2, bias2, activation):
    """`activation(x kernel1 + bias1) kernel2 + bias2`, on rows.

    The gradient keeps x and the hidden sums. The activation itself, as large as all else in a
    block, is computed again on the way back.
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

    return like(call(rows(x), kernel1, bias1, kernel2, bias2), x)


def layer_normalization(x, gamma, beta, epsilon):
    """In training: x, its means and its deviations are all that is kept."""

    @tf.custom_gradient
    def call(x, gamma, beta):
        y, mean, reciprocal = _layer_normalization_forward(x, gamma, beta, epsilon)
        return y, lambda dy: _layer_normalization_backward(x, mean, reciprocal, gamma, dy)

    return like(call(rows(x), gamma, beta), x)


@_compiled
def _layer_normalization_forward(x, gamma, beta, epsilon):
    mean = tf.reduce_mean(x, -1, keepdims=True)
    centred = x - mean
    reciprocal = tf.math.rsqrt(tf.reduce_mean(centred * centred, -1, keepdims=True) + epsilon)
    return centred * (reciprocal * gamma) + beta, mean, reciprocal


@_compiled
def _layer_normalization_backward(x, mean, reciprocal, gamma, dy):
    normal = (x - mean) * reciprocal
    along = dy * normal
    # Sums over a row as products with a vector: XLA has a faster loop for those.
    share = gamma / x.shape[-1]
    offset, slope = (tf.linalg.matvec(part, share)[:, None] for part in (dy, along))
    dx = reciprocal * (dy * gamma - offset - normal * slope)
    return dx, tf.reduce_sum(along, 0), tf.reduce_sum(dy, 0)


def layer_normalization_inference(x, gamma, beta, epsilon):
    """Each row as a channel of one image whose channels are normalised: one kernel of oneDNN.

    TensorFlow finds that pattern where ones and zeros are filled in as it runs, for this layer
    alone. So their count is hidden from it until then, or it would make them constants and share
    them between the layers.
    """
    count = tf.raw_ops.PlaceholderWithDefault(input=[tf.size(x) // x.shape[-1]], shape=[1])
    none = tf.zeros([0])
    normal, *_ = tf.raw_ops.FusedBatchNormV3(
        x=tf.reshape(x, [1, -1, x.shape[-1], 1]),
        scale=tf.fill(count, 1.0),
        offset=tf.fill(count, 0.0),
        mean=none,
        variance=none,
        epsilon=epsilon,
        data_format="NCHW",
    )
    return tf.reshape(normal, tf.shape(x)) * gamma + beta


def batch_normalization(x, gamma, beta, epsilon):
    """In training, over all axes but the last: what comes out, the means and the variances."""
    none = tf.zeros([0])
    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=gamma, offset=beta, mean=none, variance=none, epsilon=epsilon
    )
    count = tf.cast(tf.size(x) // x.shape[-1], x.dtype)
    return y, mean, variance * (count - 1) / count  # the kernel's is of a sample


def attention(qkv, num_heads, head_dim):
    """`softmax(q k' / sqrt(d)) v` in each head: `(N, T, 3 H d) -> (N, T, H d)`."""
    if qkv.shape[1] >= LONG:
        return _attention_by_image(qkv, num_heads, head_dim)
    query, key, value = _heads(qkv, 3, num_heads)
    return _join(tf.matmul(_attention_weights(query, key), value))


def _attention_by_image(qkv, num_heads, head_dim):
    """One image after the other, so that the T x T weights of one are all that is ever held."""

    def forward(qkv):
        query, key, value = _heads(qkv[None], 3, num_heads)
        return _join(tf.matmul(_attention_weights(query, key), value))[0]

    def backward(of_one_image):
        qkv, dy = of_one_image
        query, key, value = _heads(qkv[None], 3, num_heads)
        weights = _attention_weights(query, key)
        (d_mixed,) = _heads(dy[None], 1, num_heads)
        d_value = tf.matmul(weights, d_mixed, transpose_a=True)
        d_weights = tf.matmul(d_mixed, value, transpose_b=True)
        mean = tf.reduce_sum(d_weights * weights, -1, keepdims=True)
        d_logits = weights * (d_weights - mean) * head_dim**-0.5
        d_query = tf.matmul(d_logits, key)
        d_key = tf.matmul(d_logits, query, transpose_a=True)
        return tf.concat([_join(part)[0] for part in (d_query, d_key, d_value)], -1)

    @tf.custom_gradient
    def call(qkv):
        each_y = tf.TensorSpec((qkv.shape[1], num_heads * head_dim), qkv.dtype)
        each_d_qkv = tf.TensorSpec(qkv.shape[1:], qkv.dtype)
        one_at_a_time = {"parallel_iterations": 1}

        def gradient(dy):
            both = (qkv, dy)
            return tf.map_fn(backward, both, fn_output_signature=each_d_qkv, **one_at_a_time)

        return tf.map_fn(forward, qkv, fn_output_signature=each_y, **one_at_a_time), gradient

    return call(qkv)


def _heads(x, parts, num_heads):
    """Some tensors of heads from one, in one move: `(N, T, P H d) -> P x (N, H, T, d)`."""
    _, tokens, width = x.shape
    apart = tf.reshape(x, (-1, tokens, parts, num_heads, width // (parts * num_heads)))
    return tf.unstack(tf.transpose(apart, (2, 0, 3, 1, 4)))


def _attention_weights(query, key):
    scaled = query * query.shape[-1] ** -0.5
    return tf.nn.softmax(tf.matmul(scaled, key, transpose_b=True))


def _join(mixed):
    """Heads side by side: `(N, H, T, d) -> (N, T, H d)`."""
    _, heads, tokens, head_dim = mixed.shape
    return tf.reshape(tf.transpose(mixed, (0, 2, 1, 3)), (-1, tokens, heads * head_dim))


def depthwise_convolution(x, kernel):
    """One kernel a channel, stride 1, the grid's size kept.

    The gradient for the kernel is a convolution too, of each image by what comes back, with images
    and channels side by side: TensorFlow's own kernel for it is slower.
    """
    strides, pads = (1, 1, 1, 1), [((side - 1) // 2, side // 2) for side in kernel.shape[:2]]
    pads = [(0, 0), *pads, (0, 0)]

    @tf.custom_gradient
    def call(x, kernel):
        def gradient(dy):
            dx = tf.nn.depthwise_conv2d_backprop_input(tf.shape(x), kernel, dy, strides, "SAME")
            (count, *_), (_, height, width, channels) = tf.unstack(tf.shape(x)), x.shape
            images = tf.reshape(tf.transpose(x, (1, 2, 0, 3)), (1, height, width, -1))
            filters = tf.reshape(tf.transpose(dy, (1, 2, 0, 3)), (height, width, -1, 1))
            each = tf.nn.depthwise_conv2d(images, filters, strides, pads)
            each = tf.reshape(each, (*kernel.shape[:2], count, channels, 1))
            return dx, tf.reduce_sum(each, 2)

        return tf.nn.depthwise_conv2d(x, kernel, strides, "SAME"), gradient

    return call(x, kernel)
