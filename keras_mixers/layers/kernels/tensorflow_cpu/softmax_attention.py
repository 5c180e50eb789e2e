"""Attention. For long sequences, a loop computes one image at a time.

In bfloat16, oneDNN computes the products and the softmax with float32 inside, and rounds the
results. XLA computes the gradient of the softmax in float32 too.
"""

import tensorflow as tf

from keras_mixers.layers.kernels.tensorflow_cpu.activations import compiled
from keras_mixers.layers.kernels.tensorflow_cpu.half import narrow, wide
from keras_mixers.layers.rotary import swapped

# From this number of tokens on, attention loops over the images, because the loop is as fast and
# needs less memory.
LONG = 512


def attention(qkv, num_heads, rotary=None, angles=None):
    """`softmax(q k' / sqrt(d)) v` in each head: `(N, T, 3 H d) -> (N, T, H d)`.

    If `rotary` is given, it first rotates queries and keys by `angles`, its `tables`.
    """
    query, key, value = split_heads(qkv, 3, num_heads)
    scale = query.shape[-1] ** -0.5
    if rotary is None:
        query = query * scale
    else:
        sine, cosine = angles
        query = _rotated(query, rotary, scale * sine, scale * cosine)
        key = _rotated(key, rotary, sine, cosine)
    return _attention(query, key, value)


@compiled
def attention_of_few_tokens(qkv, num_heads):
    """`attention` without rotation at inference, for inputs that are small.

    One kernel takes less time than the transposes, products and softmax of oneDNN, each of which
    wakes other threads. It computes in float32.
    """
    query, key, value = split_heads(wide(qkv), 3, num_heads)
    return narrow(forward(query * query.shape[-1] ** -0.5, key, value), qkv.dtype)


def attention_of_parts(query, key, value):
    """`softmax(q k' / sqrt(d)) v` in each head: `(N, Q, H, d), 2 x (N, T, H, d) -> (N, Q, H d)`."""
    query, key, value = (tf.transpose(part, (0, 2, 1, 3)) for part in (query, key, value))
    return _attention(query * query.shape[-1] ** -0.5, key, value)


def _attention(query, key, value):
    """`softmax(q k') v`, heads joined: `(N, H, Q, d), 2 x (N, H, T, d) -> (N, Q, H d)`.

    For the gradient, this function stores its inputs, and the weights if the sequence is short.
    """
    long = key.shape[2] >= LONG
    # TensorFlow's gradient is as fast for short sequences in float32, but slow in bfloat16. Its
    # forward mode fails for loops in graphs.
    if (query.dtype == "float32" and not long) or _has_tangent(query, key, value):
        return forward(query, key, value)
    run = _for_each_image if long else _at_once
    _, heads, tokens, head_dim = query.shape
    y_spec = tf.TensorSpec((None, tokens, heads * head_dim), query.dtype)

    @tf.custom_gradient
    def call(query, key, value):
        weights = None if long else _weights(query, key)
        y = run(forward, y_spec, query, key, value) if long else _mixed(weights, value)

        @tf.custom_gradient
        def gradient(query, key, value, dy):
            inputs = (query, key, value)
            (d_mixed,) = split_heads(dy, 1, heads)
            stored = () if long else (weights,)

            def second(*dd):
                return run(_second_backward, (*inputs, dy), *inputs, dy, *dd)

            return run(_backward, inputs, *inputs, d_mixed, *stored), second

        return y, lambda dy: gradient(query, key, value, dy)

    return call(query, key, value)


def forward(query, key, value):
    """`softmax(q k') v`, heads joined: `(N, H, Q, d), 2 x (N, H, T, d) -> (N, Q, H d)`."""
    return _mixed(_weights(query, key), value)


def _weights(query, key):
    """`softmax(q k')`: `(N, H, Q, d), (N, H, T, d) -> (N, H, Q, T)`."""
    return tf.nn.softmax(tf.matmul(query, key, transpose_b=True))


def _mixed(weights, value):
    """The weighted sums of the values, with the heads joined.

    Shapes: `(N, H, Q, T), (N, H, T, d) -> (N, Q, H d)`.
    """
    _, heads, tokens, _ = weights.shape
    mixed = tf.transpose(tf.matmul(weights, value), (0, 2, 1, 3))
    return tf.reshape(mixed, (-1, tokens, heads * value.shape[-1]))


def _backward(query, key, value, d_mixed, weights=None):
    """The gradients for queries, keys and values. If the weights are None, it recomputes them."""
    if weights is None:
        weights = _weights(query, key)
    d_weights = tf.matmul(d_mixed, value, transpose_b=True)
    d_logits = _softmax_backward(weights, d_weights)
    return (
        tf.matmul(d_logits, key),
        tf.matmul(d_logits, query, transpose_a=True),
        tf.matmul(weights, d_mixed, transpose_a=True),
    )


@compiled
def _softmax_backward(weights, d_weights):
    """The gradient for the logits of a softmax: `weights * (d_weights - mean)`.

    The mean of each row is weighted by its weights. Products of the rounded output and its gradient
    would give it too ("FlashAttention", arXiv 2205.14135, appendix B), but less exactly.
    """
    dtype, weights, d_weights = weights.dtype, wide(weights), wide(d_weights)
    # A product with a vector, because XLA has a faster loop for it than for the sum of a row.
    ones = tf.ones(weights.shape[-1], weights.dtype)
    mean = tf.linalg.matvec(weights * d_weights, ones)[..., None]
    return narrow(weights * (d_weights - mean), dtype)


def _second_backward(query, key, value, dy, *dd):
    """The gradients of `sum(gradient * dd)` for the inputs and dy, from TensorFlow's operators."""
    inputs = [tf.cast(part, "float32") for part in (query, key, value, dy)]
    with tf.GradientTape() as outer:
        outer.watch(inputs)
        with tf.GradientTape() as inner:
            inner.watch(inputs[:3])
            y = forward(*inputs[:3])
        gradients = inner.gradient(y, inputs[:3], inputs[3])
    found = outer.gradient(gradients, inputs, [tf.cast(each, "float32") for each in dd])
    return tuple(tf.cast(each, query.dtype) for each in found)


def _at_once(function, like, *inputs):
    """Call a function with all images."""
    return function(*inputs)


def _for_each_image(function, like, *inputs):
    """Call a function with one image at a time, so that only one has its T x T weights in memory.

    Args:
        function: from and to tensors that have the images as their first axis.
        like: tensors, or their specifications, with the shapes and dtypes of the outputs.
        *inputs: the arguments of the function.
    """

    def call(images):
        found = function(*(image[None] for image in images))
        return tf.nest.map_structure(lambda each: each[0], found)

    specs = tf.nest.map_structure(lambda each: tf.TensorSpec(each.shape[1:], each.dtype), like)
    return tf.map_fn(call, inputs, parallel_iterations=1, fn_output_signature=specs)


def split_heads(x, parts, num_heads):
    """Split x into P tensors of heads with one transpose: `(N, T, P H d) -> P x (N, H, T, d)`."""
    _, tokens, width = x.shape
    split = tf.reshape(x, (-1, tokens, parts, num_heads, width // (parts * num_heads)))
    return tf.unstack(tf.transpose(split, (2, 0, 3, 1, 4)))


def _rotated(x, rotary, sine, cosine):
    """The pairs of channels rotated: `(N, H, T, d)`, `2 x (T, d)`. XLA compiles it to one loop."""

    @tf.custom_gradient
    def call(x):
        y = _rotate(x, *(tf.constant(each, "float32") for each in (sine, cosine)), rotary)
        # Without this, the graph optimizer does not know the shape and logs a warning.
        y = tf.reshape(y, (-1, *x.shape[1:]))
        return y, lambda dy: _rotated(dy, rotary, -sine, cosine)

    return call(x)


@compiled
def _rotate(x, sine, cosine, rotary):
    precise = wide(x)
    return narrow(precise * cosine + swapped(rotary, precise) * sine, x.dtype)


def _has_tangent(*tensors):
    """Whether a `tf.autodiff.ForwardAccumulator` differentiates with respect to any tensor."""
    try:
        from tensorflow.python.eager import forwardprop_util
    except ImportError:  # because the module is not public, and a later release may lack it
        return False
    return bool(forwardprop_util.pack_tangents(list(tensors)).tangents)
