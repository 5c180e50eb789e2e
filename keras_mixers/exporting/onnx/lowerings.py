"""How each layer computes in the file: in few ONNX operators.

Without a lowering, a LayerNorm becomes ten nodes and a matrix product of tokens becomes eight.
Attention becomes einsums, which no runtime fuses. A lowering, `lower_...(layer, x)`, computes the
same as `layer.call(x)` at inference.
"""

import keras

from keras_mixers import layers
from keras_mixers.exporting.onnx.placeholders import CONTRIB, placeholder_op
from keras_mixers.layers.attention import sequence_shape
from keras_mixers.layers.conv_mixer import DepthwiseConv2D
from keras_mixers.layers.dense import Dense
from keras_mixers.layers.norms import BatchNormalization, LayerNormalization

# The scores that are a scaled dot product, and their scales.
DOT_SCALES = {"scaled_dot": lambda layer: layer.head_shape[1] ** -0.5, "dot": lambda layer: 1.0}


def lower_layer_normalization(layer, x):
    """`LayerNormalization`, if the layer normalizes the last axis and has both weights."""
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    last = axes in ([-1], [len(x.shape) - 1])
    by_root_mean_square = getattr(layer, "rms_scaling", False)  # only some Keras releases have it
    if not last or by_root_mean_square or layer.gamma is None or layer.beta is None:
        return type(layer).call(layer, x)
    weights = [_tensor(layer.gamma, x), _tensor(layer.beta, x)]
    return placeholder_op(
        "LayerNormalization", [x, *weights], x.shape, axis=-1, epsilon=layer.epsilon
    )


def _tensor(weight, x):
    """A layer's weight as a tensor in the dtype of x."""
    import tensorflow as tf

    return tf.cast(tf.convert_to_tensor(weight), x.dtype)


def lower_batch_normalization(layer, x):
    """`BatchNormalization`: TensorFlow has this operator for images, but Keras does not use it."""
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


def lower_dense(layer, x):
    """`MatMul` and `Add` at any rank; TensorFlow would reshape an x of more than two axes."""
    import tensorflow as tf

    if not x.dtype.is_floating:
        return type(layer).call(layer, x)
    y = tf.raw_ops.BatchMatMulV2(x=x, y=_tensor(layer.kernel, x))
    if layer.bias is not None:
        y = y + _tensor(layer.bias, x)
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
        y = tf.nn.bias_add(y, _tensor(layer.bias, y), data_format=data_format)
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
        y = tf.matmul(tf.transpose(_tensor(dense.kernel, x)), x)
        return y + _tensor(dense.bias, x)[:, None]

    return product(layer.fc2, layer.activation(product(layer.fc1, x)))


def lower_token_mixing_by_rows(layer, x):
    """The MLP on the rows of the transposed x: int8 needs the kernels on the right."""
    import tensorflow as tf

    _, tokens, width = x.shape
    rows = tf.reshape(tf.transpose(x, (0, 2, 1)), (-1, tokens))
    rows = layer.fc2(layer.activation(layer.fc1(rows)))
    return tf.transpose(tf.reshape(rows, (-1, width, tokens)), (0, 2, 1))


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

    query, key, value = layer.project(x)
    if layer.score in DOT_SCALES:
        query = query * DOT_SCALES[layer.score](layer)
        logits = tf.matmul(tf.transpose(query, (0, 2, 1, 3)), tf.transpose(key, (0, 2, 3, 1)))
    else:
        logits = layer.attention_logits(query, key)
    weights = tf.nn.softmax(logits)
    mixed = tf.transpose(tf.matmul(weights, tf.transpose(value, (0, 2, 1, 3))), (0, 2, 1, 3))
    batch, tokens = sequence_shape(x)
    heads, head_dim = layer.head_shape
    return layer.out(tf.reshape(mixed, (batch, tokens, heads * head_dim))), weights


def lower_attention_to_one_node(layer, x):
    """Onnxruntime's `Attention`: one node from the tokens to the joined heads."""
    import tensorflow as tf

    heads, head_dim = layer.head_shape
    if layer.score not in DOT_SCALES or layer.qk_norm:
        return lower_attention(layer, x)
    kernel = _tensor(layer.qkv.kernel, x)
    bias = _tensor(layer.qkv.bias, x) if layer.qkv_bias else tf.zeros(kernel.shape[1], x.dtype)
    mixed = placeholder_op(
        "Attention",
        [x, kernel, bias],
        (*x.shape[:2], heads * head_dim),
        domain=CONTRIB,
        num_heads=heads,
        qkv_hidden_sizes=[heads * head_dim] * 3,
        scale=DOT_SCALES[layer.score](layer),
    )
    return layer.out(mixed)


def lower_attention_pooling(layer, x):
    """Attention as in `lower_attention`, with one query for all images."""
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
    DepthwiseConv2D: lower_depthwise_conv,
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
