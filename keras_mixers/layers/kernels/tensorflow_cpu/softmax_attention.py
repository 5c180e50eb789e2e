"""Attention. For long sequences, a loop computes one image at a time."""

import functools

import tensorflow as tf

from keras_mixers.layers.kernels.tensorflow_cpu.activations import compiled
from keras_mixers.layers.rotary import swapped

# From this number of tokens on, attention loops over the images, because the loop is as fast and
# needs less memory.
LONG = 512


def attention(qkv, num_heads, head_dim, rotary=None, angles=None):
    """`softmax(q k' / sqrt(d)) v` in each head: `(N, T, 3 H d) -> (N, T, H d)`.

    If `rotary` is given, it first rotates queries and keys by `angles`, its `tables`.
    """
    prepare = Scaling(head_dim**-0.5) if rotary is None else Rotation(rotary, angles)
    # TensorFlow's forward mode fails for loops in graphs.
    if qkv.shape[1] >= LONG and not _has_tangent(qkv):
        return _attention_by_image(qkv, num_heads, prepare)
    query, key, value = _heads(qkv, 3, num_heads)
    query, key = prepare(query, key)
    return _join(tf.matmul(_attention_weights(query, key), value))


class Scaling:
    """Queries are divided by sqrt(d); keys stay. The function is linear."""

    def __init__(self, scale):
        self.scale = scale

    def __call__(self, query, key):
        """The scaled queries, and the keys: `2 x (N, H, T, d)`."""
        return query * self.scale, key

    def gradient(self, d_query, d_key):
        """The gradients for the original queries and keys."""
        return d_query * self.scale, d_key


class Rotation:
    """Queries and keys are rotated, and queries are divided by sqrt(d). The function is linear.

    XLA compiles each rotation into one loop.

    Args:
        rotary: a `Rotary`.
        angles: (sine, cosine), NumPy arrays of shape `(T, d)`.
    """

    def __init__(self, rotary, angles):
        self.rotary = rotary
        self.sine, self.cosine = angles
        self.scale = self.sine.shape[-1] ** -0.5

    def __call__(self, query, key):
        """The rotated and scaled queries, and the rotated keys: `2 x (N, H, T, d)`."""
        return self.rotated(query, self.scale, 1), self.rotated(key, 1.0, 1)

    def gradient(self, d_query, d_key):
        """The gradients for the original queries and keys: they are rotated back."""
        return self.rotated(d_query, self.scale, -1), self.rotated(d_key, 1.0, -1)

    def rotated(self, x, scale, direction):
        """X rotated forward (1) or back (-1), times a scale."""

        @tf.custom_gradient
        def call(x):
            def gradient(dy):
                return self.rotated(dy, scale, -direction)

            sine = tf.constant(direction * scale * self.sine, x.dtype)
            y = _rotate(x, sine, tf.constant(scale * self.cosine, x.dtype), self.rotary)
            # Without this, the graph optimizer does not know the shape and logs a warning.
            return tf.reshape(y, (-1, *x.shape[1:])), gradient

        return call(x)


@compiled
def _rotate(x, sine, cosine, rotary):
    return x * cosine + swapped(rotary, x) * sine


def _attention_by_image(qkv, num_heads, prepare):
    """Attention in a loop over images, which stores the T x T weights of one image at a time."""

    def forward(qkv):
        query, key, value = _heads(qkv[None], 3, num_heads)
        query, key = prepare(query, key)
        return _join(tf.matmul(_attention_weights(query, key), value))[0]

    def backward(inputs):
        qkv, dy = inputs
        query, key, value = _heads(qkv[None], 3, num_heads)
        query, key = prepare(query, key)
        weights = _attention_weights(query, key)
        (d_mixed,) = _heads(dy[None], 1, num_heads)
        d_value = tf.matmul(weights, d_mixed, transpose_a=True)
        d_weights = tf.matmul(d_mixed, value, transpose_b=True)
        mean = tf.reduce_sum(d_weights * weights, -1, keepdims=True)
        d_logits = weights * (d_weights - mean)
        d_key = tf.matmul(d_logits, query, transpose_a=True)
        d_query, d_key = prepare.gradient(tf.matmul(d_logits, key), d_key)
        return tf.concat([_join(part)[0] for part in (d_query, d_key, d_value)], -1)

    @tf.custom_gradient
    def call(qkv):
        loop = functools.partial(tf.map_fn, parallel_iterations=1)
        y_spec = tf.TensorSpec((qkv.shape[1], qkv.shape[2] // 3), qkv.dtype)
        d_qkv_spec = tf.TensorSpec(qkv.shape[1:], qkv.dtype)

        def gradient(dy):
            return loop(backward, (qkv, dy), fn_output_signature=d_qkv_spec)

        return loop(forward, qkv, fn_output_signature=y_spec), gradient

    return call(qkv)


def _heads(x, parts, num_heads):
    """Split x into P tensors of heads with one transpose: `(N, T, P H d) -> P x (N, H, T, d)`."""
    _, tokens, width = x.shape
    split = tf.reshape(x, (-1, tokens, parts, num_heads, width // (parts * num_heads)))
    return tf.unstack(tf.transpose(split, (2, 0, 3, 1, 4)))


def _attention_weights(query, key):
    """`softmax(q k')`, for scaled queries: `2 x (N, H, T, d) -> (N, H, T, T)`."""
    return tf.nn.softmax(tf.matmul(query, key, transpose_b=True))


def _has_tangent(x):
    """Whether a `tf.autodiff.ForwardAccumulator` differentiates with respect to x."""
    try:
        from tensorflow.python.eager import forwardprop_util
    except ImportError:  # because the module is not public, and a later release may lack it
        return False
    return bool(forwardprop_util.pack_tangents([x]).tangents)


def _join(mixed):
    """Concatenate the heads: `(N, H, T, d) -> (N, T, H d)`."""
    _, heads, tokens, head_dim = mixed.shape
    return tf.reshape(tf.transpose(mixed, (0, 2, 1, 3)), (-1, tokens, heads * head_dim))
