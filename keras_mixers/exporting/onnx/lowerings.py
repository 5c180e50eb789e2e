"""How each layer computes in the file: in few ONNX operators.

Without a lowering, a LayerNorm becomes ten nodes and a matrix product of tokens becomes eight.
Attention becomes einsums, which no runtime fuses. A lowering, `lower_...(layer, x)`, computes the
same as `layer.call(x)` at inference.
"""

import keras
import numpy as np

from keras_mixers import layers
from keras_mixers.exporting.onnx.placeholders import CONTRIB, placeholder_op
from keras_mixers.layers.attention import sequence_shape
from keras_mixers.layers.conv_mixer import DepthwiseConv2D, PointwiseConv2D
from keras_mixers.layers.dense import Dense, QueryKeyValue
from keras_mixers.layers.norms import BatchNormalization, LayerNormalization
from keras_mixers.layers.patch_embed import PatchConv2D

# The scores that are a scaled dot product, and their scales.
DOT_SCALES = {"scaled_dot": lambda layer: layer.head_shape[1] ** -0.5, "dot": lambda layer: 1.0}


def lower_layer_normalization(layer, x):
    """`LayerNormalization`, if the layer normalizes the last axis and has both weights."""
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    last = axes in ([-1], [len(x.shape) - 1])
    by_root_mean_square = getattr(layer, "rms_scaling", False)  # only some Keras releases have it
    if not last or by_root_mean_square or layer.gamma is None or layer.beta is None:
        return type(layer).call(layer, x)
    weights = [as_tensor(layer.gamma, x), as_tensor(layer.beta, x)]
    return placeholder_op(
        "LayerNormalization", [x, *weights], x.shape, axis=-1, epsilon=layer.epsilon
    )


def as_tensor(weight, x):
    """A layer's weight as a tensor in the dtype of x."""
    import tensorflow as tf

    return tf.cast(tf.convert_to_tensor(weight), x.dtype)


def lower_batch_normalization(layer, x):
    """`BatchNormalization`: TensorFlow has this operator for images, but Keras does not use it."""
    import tensorflow as tf

    if len(x.shape) != 4 or layer.axis not in (3, -1):
        return type(layer).call(layer, x, training=False)
    mean, variance = as_tensor(layer.moving_mean, x), as_tensor(layer.moving_variance, x)
    y, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x,
        scale=as_tensor(layer.gamma, x) if layer.scale else tf.ones_like(mean),
        offset=as_tensor(layer.beta, x) if layer.center else tf.zeros_like(mean),
        mean=mean,
        variance=variance,
        epsilon=layer.epsilon,
        is_training=False,
    )
    return y


def lower_dense(layer, x):
    """`MatMul` and `Add` at any rank; TensorFlow would reshape an x of more than two axes."""
    import tensorflow as tf

    if not x.dtype.is_floating:
        return type(layer).call(layer, x)
    y = tf.raw_ops.BatchMatMulV2(x=x, y=as_tensor(layer.kernel, x))
    bias = layer.bias_tensor() if isinstance(layer, Dense) else layer.bias
    if bias is not None:
        y = y + as_tensor(bias, x)
    return y if layer.activation is None else layer.activation(y)


def lower_conv(layer, x):
    """`Conv` with the bias inside; Keras would add the bias in another operator."""
    return _biased_and_activated(layer, keras.ops.conv(x, layer.kernel, **_geometry(layer)))


def lower_depthwise_conv(layer, x):
    """`Conv` in groups with the bias inside."""
    y = keras.ops.depthwise_conv(x, layer.kernel, **_geometry(layer))
    return _biased_and_activated(layer, y)


def _geometry(layer):
    return {
        "strides": layer.strides,
        "padding": layer.padding,
        "dilation_rate": layer.dilation_rate,
        "data_format": layer.data_format,
    }


def _biased_and_activated(layer, y):
    import tensorflow as tf

    if layer.bias is not None:
        data_format = {"channels_last": "NHWC", "channels_first": "NCHW"}[layer.data_format]
        y = tf.nn.bias_add(y, as_tensor(layer.bias, y), data_format=data_format)
    return y if layer.activation is None else layer.activation(y)


def lower_reshape(layer, x):
    """`Reshape` to constant sizes after the batch axis."""
    import tensorflow as tf

    sizes = layer.compute_output_shape(x.shape)[1:]
    if None in sizes:
        return type(layer).call(layer, x)
    return tf.reshape(x, (-1, *sizes))


def lower_channel_mixing(layer, x):
    """The MLP on tokens as rows of one matrix, because onnxruntime then fuses product and bias."""
    import tensorflow as tf

    if len(x.shape) == 2:
        return type(layer).call(layer, x)
    rows = type(layer).call(layer, tf.reshape(x, (-1, x.shape[-1])))
    return tf.reshape(rows, (*_reshape_sizes(x)[:-1], x.shape[-1]))


def _reshape_sizes(x):
    """The sizes of x for a reshape: constants and -1 for the batch, if the others are known."""
    import tensorflow as tf

    return (-1, *x.shape[1:]) if None not in x.shape[1:] else tuple(tf.unstack(tf.shape(x)))


def lower_token_mixing(layer, x):
    """The MLP as `fc2^T activation(fc1^T x)`: with kernels on the left, x needs no transpose."""
    import tensorflow as tf

    def product(dense, x):
        y = tf.matmul(tf.transpose(as_tensor(dense.kernel, x)), x)
        return y + as_tensor(dense.bias, x)[:, None]

    return product(layer.fc2, layer.activation(product(layer.fc1, x)))


def lower_token_mixing_by_rows(layer, x):
    """The MLP on the rows of the transposed x: int8 needs the kernels on the right.

    The rows stay in three axes. With a reshape to two, OpenVINO 2026.4 was off by 0.1 for a hybrid
    with calibration.
    """
    import tensorflow as tf

    rows = layer.fc2(layer.activation(layer.fc1(tf.transpose(x, (0, 2, 1)))))
    return tf.transpose(rows, (0, 2, 1))


def lower_select_token(layer, x):
    """One `Gather`."""
    import tensorflow as tf

    return tf.gather(x, layer.index, axis=1)


def lower_attention(layer, x):
    """Attention in `MatMul`s; each transpose is where onnxruntime fuses it into a product."""
    return attention_with_weights(layer, x)[0]


def attention_with_weights(layer, x):
    """The output of attention and its weights, `(N, T, D), (N, H, T, T)`."""
    import tensorflow as tf

    if layer.rotary and not layer.qk_norm:
        query, key, value = _rotated_parts(layer, x)
    else:
        query, key, value = layer.project(x)
        query = query * DOT_SCALES[layer.score](layer) if layer.score in DOT_SCALES else query
    weights = tf.nn.softmax(_attention_logits(layer, query, key))
    mixed = tf.transpose(tf.matmul(weights, tf.transpose(value, (0, 2, 1, 3))), (0, 2, 1, 3))
    batch, tokens = sequence_shape(x)
    heads, head_dim = layer.head_shape
    mixed = tf.reshape(mixed, (batch, tokens, heads * head_dim))
    return layer.project_out(mixed), weights


def _attention_logits(layer, query, key):
    """Scores of scaled queries, without einsum: `2 x (N, T, H, d) -> (N, H, T, T)`.

    The weights of scores are the first factors of products. As the second factor of a product with
    five axes, they made additive scores wrong in OpenCV 5.0.
    """
    import tensorflow as tf

    if layer.score == "additive":
        return _additive_logits(layer, query, key)
    query, key = tf.transpose(query, (0, 2, 1, 3)), tf.transpose(key, (0, 2, 3, 1))
    if layer.score == "bilinear":
        key = tf.matmul(as_tensor(layer.score_kernel, key)[None], key)
    return tf.matmul(query, key)


def _additive_logits(layer, query, key):
    """Additive scores in tensors of at most four axes, which more runtimes compute than five.

    A product with a matrix of one row computes the weighted sum of d values.
    """
    import tensorflow as tf

    batch, tokens = sequence_shape(query)
    heads, head_dim = layer.head_shape
    query, key = (tf.transpose(part, (0, 2, 3, 1)) for part in (query, key))
    query = tf.reshape(query, (-1, head_dim, tokens, 1))  # with the heads of all images in one axis
    key = tf.reshape(key, (-1, head_dim, 1, tokens))
    hidden = tf.reshape(tf.tanh(query + key), (batch, heads, head_dim, tokens * tokens))
    row = as_tensor(layer.score_kernel, hidden)[None, :, None]
    return tf.reshape(tf.matmul(row, hidden), (batch, heads, tokens, tokens))


def _rotated_parts(layer, x):
    """Rotated and scaled queries, rotated keys, and values: `(N, T, D) -> 3 x (N, T, H, d)`.

    One multiplication scales and rotates, and queries and keys share it, because they are
    neighbours in the product. The channels of a head are ordered so that the two of a pair lie half
    a head apart: attention does not depend on the order of the channels of queries and keys, and
    halves need fewer operators than neighbours.
    """
    import tensorflow as tf

    batch, tokens = sequence_shape(x)
    heads, head_dim = layer.head_shape
    halves = np.arange(head_dim)
    if layer.rotary.interleaved:
        halves = halves.reshape(-1, 2).T.reshape(-1)
    width = heads * head_dim
    joined, value = tf.split(_ordered_product(layer, x, halves), [2 * width, width], axis=-1)
    joined = tf.reshape(joined, (batch, tokens, 2, heads, head_dim))
    scale = DOT_SCALES.get(layer.score, lambda layer: 1.0)(layer)
    scales = tf.reshape(tf.constant([scale, 1.0], x.dtype), (1, 2, 1, 1))
    sine, cosine = (
        scales * tf.reshape(tf.gather(tf.cast(table, x.dtype), halves, axis=-1), shape)
        for table in layer.rotary_tables()
        for shape in [(tokens, 1, -1, head_dim)]
    )
    first, second = tf.split(joined, 2, axis=-1)
    rotated = joined * cosine + tf.concat([second, first], -1) * sine
    query, key = tf.split(tf.reshape(rotated, (batch, tokens, 2 * width)), 2, axis=-1)
    return [tf.reshape(part, (batch, tokens, heads, head_dim)) for part in (query, key, value)]


def _ordered_product(layer, x, order):
    """`layer.qkv(x)` with the channels of each query and key in another order."""
    import tensorflow as tf

    heads, head_dim = layer.head_shape
    channels = np.arange(3 * heads * head_dim).reshape(3, heads, head_dim)
    channels[:2] = channels[:2][..., order]
    kernel = tf.gather(as_tensor(layer.qkv.kernel, x), channels.reshape(-1), axis=1)
    bias = tf.gather(_qkv_bias(layer, x), channels.reshape(-1))
    return tf.raw_ops.BatchMatMulV2(x=x, y=kernel) + bias


def lower_attention_to_one_node(layer, x):
    """Onnxruntime's `Attention`: one node from the tokens to the joined heads."""
    learned = bool(layer.rotary and layer.rotary.learned)  # the node rotates all heads alike
    if layer.score not in DOT_SCALES or layer.qk_norm or learned:
        return lower_attention(layer, x)
    if layer.rotary:
        return _lower_rotary_attention(layer, x)
    heads, head_dim = layer.head_shape
    mixed = placeholder_op(
        "Attention",
        [x, as_tensor(layer.qkv.kernel, x), _qkv_bias(layer, x)],
        (*x.shape[:2], heads * head_dim),
        domain=CONTRIB,
        num_heads=heads,
        scale=DOT_SCALES[layer.score](layer),
    )
    return layer.project_out(mixed)


def _qkv_bias(layer, x):
    """The bias of queries, keys and values `(3 H d,)`, which may be zero."""
    import tensorflow as tf

    bias = layer.qkv.bias_tensor()
    return tf.zeros(layer.qkv.units, x.dtype) if bias is None else tf.cast(bias, x.dtype)


def _lower_rotary_attention(layer, x):
    """Onnxruntime's `RotaryEmbedding` for queries and keys, then its `MultiHeadAttention`."""
    import tensorflow as tf

    heads, head_dim = layer.head_shape
    query, key, value = tf.split(layer.qkv(x), 3, axis=-1)
    first = slice(None, None, 2) if layer.rotary.interleaved else slice(None, head_dim // 2)
    sine, cosine = (tf.constant(table[:, first], x.dtype) for table in layer.rotary_tables())
    # The node's positions are the rows of its tables; `-sine` because ours has the other sign.
    query, key = (
        placeholder_op(
            "RotaryEmbedding",
            [part, tf.constant([0], "int64"), cosine, -sine],
            part.shape,
            domain=CONTRIB,
            num_heads=heads,
            interleaved=int(layer.rotary.interleaved),
        )
        for part in (query, key)
    )
    mixed = placeholder_op(
        "MultiHeadAttention",
        [query, key, value],
        (*x.shape[:2], heads * head_dim),
        domain=CONTRIB,
        num_heads=heads,
        scale=DOT_SCALES[layer.score](layer),
    )
    return layer.project_out(mixed)


def lower_attention_pooling(layer, x):
    """Attention as in `lower_attention`, with one query for all images."""
    import tensorflow as tf

    _, _, width = x.shape
    batch, tokens = sequence_shape(x)
    heads = (layer.num_heads, width // layer.num_heads)
    query = tf.reshape(layer.query(as_tensor(layer.probe, x)), (1, heads[0], 1, heads[1]))
    key, value = (
        tf.reshape(part, (batch, tokens, *heads)) for part in tf.split(layer.key_value(x), 2, -1)
    )
    logits = tf.matmul(query * heads[1] ** -0.5, tf.transpose(key, (0, 2, 3, 1)))
    mixed = tf.matmul(tf.nn.softmax(logits), tf.transpose(value, (0, 2, 1, 3)))
    y = layer.out(tf.reshape(mixed, (-1, width)))
    return y + layer.mlp(layer.norm(y))


def lower_gelu(x):
    """The five standard nodes that runtimes recognize as GELU."""
    import tensorflow as tf

    return x * 0.5 * (1 + tf.math.erf(x * 2**-0.5))


def lower_gelu_to_one_node(x):
    """Onnxruntime's `Gelu`."""
    return placeholder_op("Gelu", [x], x.shape, domain=CONTRIB)


def lower_gelu_tanh_to_one_node(x):
    """Onnxruntime's `FastGelu`, the tanh approximation."""
    return placeholder_op("FastGelu", [x], x.shape, domain=CONTRIB)


LOWERINGS = {
    keras.layers.LayerNormalization: lower_layer_normalization,
    keras.layers.BatchNormalization: lower_batch_normalization,
    keras.layers.Conv2D: lower_conv,
    keras.layers.Dense: lower_dense,
    keras.layers.DepthwiseConv2D: lower_depthwise_conv,
    keras.layers.Reshape: lower_reshape,
    LayerNormalization: lower_layer_normalization,
    BatchNormalization: lower_batch_normalization,
    Dense: lower_dense,
    QueryKeyValue: lower_dense,
    DepthwiseConv2D: lower_depthwise_conv,
    PatchConv2D: lower_conv,
    PointwiseConv2D: lower_conv,
    layers.ChannelMixing: lower_channel_mixing,
    layers.MultiHeadSelfAttention: lower_attention,
    layers.TokenMixing: lower_token_mixing,
    layers.SelectToken: lower_select_token,
    layers.AttentionPooling: lower_attention_pooling,
}
ACTIVATIONS = {
    "onnx": {keras.activations.gelu: lower_gelu},
    "onnxruntime": {
        keras.activations.gelu: lower_gelu_to_one_node,
        layers.gelu_tanh: lower_gelu_tanh_to_one_node,
    },
}
