"""Layers in the operators that ONNX has, few where TensorFlow has many.

TensorFlow spells a LayerNorm in ten nodes and a matrix product of tokens in eight, and hides
attention in einsums that no runtime fuses. A form, `form(layer, x)`, computes what the layer's own
`call` does at inference.
"""

import keras

from keras_mixers import layers
from keras_mixers.exporting.onnx.placeholders import CONTRIB, mark
from keras_mixers.layers.attention import sequence_shape
from keras_mixers.layers.conv_mixer import DepthwiseConv2D
from keras_mixers.layers.dense import Dense
from keras_mixers.layers.norms import BatchNormalization, LayerNormalization

# The scores that are a dot product, and what it is multiplied by.
DOTS = {"scaled_dot": lambda layer: layer.head_shape[1] ** -0.5, "dot": lambda layer: 1.0}


def layer_normalization(layer, x):
    """`LayerNormalization`, where it is over the last axis and has both weights."""
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    last = axes in ([-1], [len(x.shape) - 1])
    by_root_mean_square = getattr(layer, "rms_scaling", False)  # in some releases of Keras
    if not last or by_root_mean_square or layer.gamma is None or layer.beta is None:
        return type(layer).call(layer, x)
    weights = [_tensor(layer.gamma, x), _tensor(layer.beta, x)]
    return mark("LayerNormalization", [x, *weights], x.shape, axis=-1, epsilon=layer.epsilon)


def _tensor(weight, x):
    """A layer's weight as a tensor of x's dtype."""
    import tensorflow as tf

    return tf.cast(tf.convert_to_tensor(weight), x.dtype)


def batch_normalization(layer, x):
    """`BatchNormalization`, which TensorFlow has for images and Keras spells out."""
    import tensorflow as tf

    if len(x.shape) != 4 or layer.axis not in (3, -1):
        return type(layer).call(layer, x, training=False)
    mean, variance = _tensor(layer.moving_mean, x), _tensor(layer.moving_variance, x)
    y, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x,
        scale=_tensor(layer.gamma, x) if layer.scale else tf.ones_like(mean),
        offset=_tensor(layer.beta, x) if layer.center else tf.zeros_like(mean),
        mean=mean,
        variance=variance,
        epsilon=layer.epsilon,
        is_training=False,
    )
    return y


def dense(layer, x):
    """`MatMul` and `Add` at any rank, where TensorFlow reshapes what has more than two axes."""
    import tensorflow as tf

    if not x.dtype.is_floating:
        return type(layer).call(layer, x)
    y = tf.raw_ops.BatchMatMulV2(x=x, y=_tensor(layer.kernel, x))
    if layer.bias is not None:
        y = y + _tensor(layer.bias, x)
    return y if layer.activation is None else layer.activation(y)


def convolution(layer, x):
    """`Conv` with its bias, which Keras adds on its own."""
    return _with_bias(layer, keras.ops.conv(x, layer.kernel, **_geometry(layer)))


def depthwise_convolution(layer, x):
    """`Conv` in groups with its bias."""
    return _with_bias(layer, keras.ops.depthwise_conv(x, layer.kernel, **_geometry(layer)))


def _geometry(layer):
    return {
        "strides": layer.strides,
        "padding": layer.padding,
        "dilation_rate": layer.dilation_rate,
        "data_format": layer.data_format,
    }


def _with_bias(layer, y):
    import tensorflow as tf

    if layer.bias is not None:
        format = {"channels_last": "NHWC", "channels_first": "NCHW"}[layer.data_format]
        y = tf.nn.bias_add(y, _tensor(layer.bias, y), data_format=format)
    return y if layer.activation is None else layer.activation(y)


def reshape(layer, x):
    """`Reshape` to known sizes behind the batch."""
    import tensorflow as tf

    sizes = layer.compute_output_shape(x.shape)[1:]
    if None in sizes:
        return type(layer).call(layer, x)
    return tf.reshape(x, (-1, *sizes))


def channel_mixing(layer, x):
    """The MLP on all tokens as rows of one matrix: onnxruntime then adds biases in the product."""
    import tensorflow as tf

    if len(x.shape) == 2:
        return type(layer).call(layer, x)
    rows = type(layer).call(layer, tf.reshape(x, (-1, x.shape[-1])))
    return tf.reshape(rows, (*_sizes(x)[:-1], x.shape[-1]))


def token_mixing(layer, x):
    """The MLP from the left, `fc2' activation(fc1' x)`: no token is moved."""
    import tensorflow as tf

    def product(dense, x):
        y = tf.matmul(tf.transpose(_tensor(dense.kernel, x)), x)
        return y + _tensor(dense.bias, x)[:, None]

    return product(layer.fc2, layer.activation(product(layer.fc1, x)))


def token_mixing_of_rows(layer, x):
    """The MLP on the rows of the transposed tokens: weights from the right, as int8 wants them."""
    import tensorflow as tf

    _, tokens, width = x.shape
    rows = tf.reshape(tf.transpose(x, (0, 2, 1)), (-1, tokens))
    rows = layer.fc2(layer.activation(layer.fc1(rows)))
    return tf.transpose(tf.reshape(rows, (-1, width, tokens)), (0, 2, 1))


def _sizes(x):
    """The sizes of x for a reshape: numbers, and -1 for the batch, where the others are known."""
    import tensorflow as tf

    return (-1, *x.shape[1:]) if None not in x.shape[1:] else tuple(tf.unstack(tf.shape(x)))


def select_token(layer, x):
    """`Gather`, one node."""
    import tensorflow as tf

    return tf.gather(x, layer.index, axis=1)


def attention(layer, x):
    """Attention in `MatMul`s, with each transpose where onnxruntime folds it into a product."""
    return mixed_by_scores(layer, x)[0]


def mixed_by_scores(layer, x):
    """Attention's output and its weights, `(N, T, D), (N, H, T, T)`."""
    import tensorflow as tf

    query, key, value = layer.project(x)
    if layer.score in DOTS:
        query = query * DOTS[layer.score](layer)
        logits = tf.matmul(tf.transpose(query, (0, 2, 1, 3)), tf.transpose(key, (0, 2, 3, 1)))
    else:
        logits = layer.attention_logits(query, key)
    weights = tf.nn.softmax(logits)
    mixed = tf.transpose(tf.matmul(weights, tf.transpose(value, (0, 2, 1, 3))), (0, 2, 1, 3))
    batch, tokens = sequence_shape(x)
    heads, head_dim = layer.head_shape
    return layer.out(tf.reshape(mixed, (batch, tokens, heads * head_dim))), weights


def fused_attention(layer, x):
    """Onnxruntime's `Attention`: queries, keys, values and the heads' mixture in one node."""
    import tensorflow as tf

    heads, head_dim = layer.head_shape
    if layer.score not in DOTS or layer.qk_norm:
        return attention(layer, x)
    kernel = _tensor(layer.qkv.kernel, x)
    bias = _tensor(layer.qkv.bias, x) if layer.qkv_bias else tf.zeros(kernel.shape[1], x.dtype)
    mixed = mark(
        "Attention",
        [x, kernel, bias],
        (*x.shape[:2], heads * head_dim),
        domain=CONTRIB,
        num_heads=heads,
        qkv_hidden_sizes=[heads * head_dim] * 3,
        scale=DOTS[layer.score](layer),
    )
    return layer.out(mixed)


def attention_pooling(layer, x):
    """As `attention`, with the one query that all images share."""
    import tensorflow as tf

    _, _, width = x.shape
    batch, tokens = sequence_shape(x)
    heads = (layer.num_heads, width // layer.num_heads)
    query = tf.reshape(layer.query(_tensor(layer.probe, x)), (1, heads[0], 1, heads[1]))
    key, value = (
        tf.reshape(part, (batch, tokens, *heads)) for part in tf.split(layer.key_value(x), 2, -1)
    )
    logits = tf.matmul(query * heads[1] ** -0.5, tf.transpose(key, (0, 2, 3, 1)))
    mixed = tf.matmul(tf.nn.softmax(logits), tf.transpose(value, (0, 2, 1, 3)))
    y = layer.out(tf.reshape(mixed, (-1, width)))
    return y + layer.mlp(layer.norm(y))


def erf_gelu(x):
    """The five standard nodes that runtimes know for GELU."""
    import tensorflow as tf

    return x * 0.5 * (1 + tf.math.erf(x * 2**-0.5))


def contrib_gelu(x):
    """Onnxruntime's `Gelu`."""
    return mark("Gelu", [x], x.shape, domain=CONTRIB)


def contrib_gelu_tanh(x):
    """Onnxruntime's `FastGelu`, which is the tanh form."""
    return mark("FastGelu", [x], x.shape, domain=CONTRIB)


FORMS = {
    keras.layers.LayerNormalization: layer_normalization,
    keras.layers.BatchNormalization: batch_normalization,
    keras.layers.Conv2D: convolution,
    keras.layers.Dense: dense,
    keras.layers.DepthwiseConv2D: depthwise_convolution,
    keras.layers.Reshape: reshape,
    LayerNormalization: layer_normalization,
    BatchNormalization: batch_normalization,
    Dense: dense,
    DepthwiseConv2D: depthwise_convolution,
    layers.ChannelMixing: channel_mixing,
    layers.MultiHeadSelfAttention: attention,
    layers.TokenMixing: token_mixing,
    layers.SelectToken: select_token,
    layers.AttentionPooling: attention_pooling,
}
ACTIVATIONS = {
    "onnx": {keras.activations.gelu: erf_gelu},
    "onnxruntime": {
        keras.activations.gelu: contrib_gelu,
        layers.gelu_tanh: contrib_gelu_tanh,
    },
}
