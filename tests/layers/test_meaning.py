"""Each layer equals a few lines of NumPy, and has the symmetries that it must have."""

import keras
import numpy as np
import pytest
from backends import compute
from keras import ops
from scipy.special import erf

from keras_mixers import layers

SCORES = ["scaled_dot", "dot", "bilinear", "additive"]


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def fill(layer, x):
    """Give the layer random weights, because zeros and ones hide mistakes."""
    layer(keras.Input(batch_shape=x.shape))
    for i, weight in enumerate(layer.trainable_weights):
        weight.assign(0.3 * random(*weight.shape, seed=i + 1))


def output(layer, x, **arguments):
    y = compute(layer, x, **arguments)
    return (
        [ops.convert_to_numpy(part) for part in y]
        if isinstance(y, tuple)
        else ops.convert_to_numpy(y)
    )


def run(layer, x, **arguments):
    """The output of the layer with random weights."""
    fill(layer, x)
    return output(layer, x, **arguments)


def weights(layer):
    return {weight.path.split("/", 1)[1]: ops.convert_to_numpy(weight) for weight in layer.weights}


def gelu(x):
    return x / 2 * (1 + erf(x / np.sqrt(2)))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def layer_norm(x, gamma, beta, epsilon):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon) * gamma + beta


def attention_oracle(x, w, heads, score, qk_norm=False):
    """Attention in a loop over heads, queries and keys."""
    batch, tokens, _ = x.shape
    qkv = x @ w["qkv/kernel"] + w["qkv/bias"]
    head_dim = qkv.shape[-1] // 3 // heads
    q, k, v = qkv.reshape(batch, tokens, 3, heads, head_dim).transpose(2, 0, 3, 1, 4)
    if qk_norm:
        q = layer_norm(q, w["query_norm/gamma"], w["query_norm/beta"], 1e-6)
        k = layer_norm(k, w["key_norm/gamma"], w["key_norm/beta"], 1e-6)
    logits = np.zeros((batch, heads, tokens, tokens))
    for n, h, i, j in np.ndindex(logits.shape):
        a, b = q[n, h, i], k[n, h, j]
        logits[n, h, i, j] = {
            "scaled_dot": lambda a=a, b=b: a @ b / np.sqrt(head_dim),
            "dot": lambda a=a, b=b: a @ b,
            "bilinear": lambda a=a, b=b, h=h: a @ w["score_kernel"][h] @ b,
            "additive": lambda a=a, b=b, h=h: w["score_kernel"][h] @ np.tanh(a + b),
        }[score]()
    scores = softmax(logits)
    mixed = (scores @ v).transpose(0, 2, 1, 3).reshape(batch, tokens, heads * head_dim)
    return mixed @ w["out/kernel"] + w["out/bias"], scores


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("more", [{}, {"head_dim": 3}, {"qk_norm": True}])
def test_attention(score, more):
    layer = layers.MultiHeadSelfAttention(2, score=score, **more)
    x = random(2, 5, 8)
    y, scores = run(layer, x, return_attention_scores=True)
    expected, expected_scores = attention_oracle(
        x, weights(layer), 2, score, qk_norm="qk_norm" in more
    )
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)
    np.testing.assert_allclose(scores.sum(-1), 1, atol=1e-6)
    np.testing.assert_allclose(y, expected, atol=2e-6)
    np.testing.assert_allclose(output(layer, x), expected, atol=2e-6)


@pytest.mark.parametrize("score", SCORES)
def test_attention_is_equivariant_to_token_order(score):
    layer = layers.MultiHeadSelfAttention(2, score=score)
    x = random(2, 6, 8)
    order = [3, 1, 5, 0, 2, 4]
    np.testing.assert_allclose(run(layer, x)[:, order], output(layer, x[:, order]), atol=2e-6)


@pytest.mark.parametrize(
    "layer",
    [
        layers.TokenMixing(5),
        layers.SpatialGating(12),
        layers.PoolMixing((2, 3)),
        layers.PositionEmbedding((2, 3)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_other_token_layers_depend_on_token_order(layer):
    x = random(2, 6, 8)
    order = [3, 1, 5, 0, 2, 4]
    assert np.abs(run(layer, x)[:, order] - output(layer, x[:, order])).max() > 1e-2


def test_learned_rotary_frequencies_keep_their_precision(monkeypatch):
    """In bfloat16, angles of some radians would be wrong by several percent of a radian."""
    recorded, sines, module = [], [], layers.attention
    monkeypatch.setattr(module, "rotate", lambda _, x, sine, cosine: recorded.append(sine) or x)
    rotary = layers.Rotary("learned", base=10)
    for dtype in ("float32", "mixed_bfloat16"):
        layer = layers.MultiHeadSelfAttention(2, rotary=rotary, grid=(1, 24), dtype=dtype)
        fill(layer, random(1, 24, 16))
        recorded.clear()
        layer(random(1, 24, 16), return_attention_scores=True)
        sines.append(ops.convert_to_numpy(recorded[0]))
    np.testing.assert_allclose(*sines, atol=1e-5)


def test_attention_dropout_drops_weights_in_training_only():
    layer = layers.MultiHeadSelfAttention(2, attention_dropout_rate=0.5)
    x = random(4, 16, 8)
    plain = run(layer, x)
    expected, _ = attention_oracle(x, weights(layer), 2, "scaled_dot")
    np.testing.assert_allclose(plain, expected, atol=2e-6)
    assert np.abs(output(layer, x, training=True) - plain).max() > 1e-3


def test_dropout_of_each_mixer_works_in_training_only():
    x = random(4, 16, 8)
    for layer in (
        layers.MultiHeadSelfAttention(2, dropout_rate=0.5),
        layers.ChannelMixing(12, dropout_rate=0.5),
        layers.TokenMixing(12, dropout_rate=0.5),
        layers.SpatialGating(12, dropout_rate=0.5),
    ):
        plain = run(layer, x)
        np.testing.assert_array_equal(plain, output(layer, x))
        dropped = output(layer, x, training=True)
        assert 0.3 < (dropped == 0).mean() < 0.7


def test_attention_pooling():
    layer = layers.AttentionPooling(2, mlp_dim=12)
    x = random(3, 5, 8)
    y = run(layer, x)
    w = weights(layer)
    q = (w["probe"][0] @ w["query/kernel"] + w["query/bias"]).reshape(1, 2, 4)
    kv = (x @ w["key_value/kernel"] + w["key_value/bias"]).reshape(3, 5, 2, 2, 4)
    scores = softmax(np.einsum("qhd,nkhd->nhqk", q, kv[:, :, 0]) / 2)
    pooled = np.einsum("nhqk,nkhd->nqhd", scores, kv[:, :, 1]).reshape(3, 8)
    pooled = pooled @ w["out/kernel"] + w["out/bias"]
    normed = layer_norm(pooled, w["norm/gamma"], w["norm/beta"], 1e-6)
    hidden = gelu(normed @ w["mlp/fc1/kernel"] + w["mlp/fc1/bias"])
    expected = pooled + hidden @ w["mlp/fc2/kernel"] + w["mlp/fc2/bias"]
    np.testing.assert_allclose(y, expected, atol=2e-6)


def test_token_mixing():
    layer = layers.TokenMixing(5)
    x = random(2, 6, 8)
    y = run(layer, x)
    w = weights(layer)
    for channel in range(8):  # because every channel has the same MLP
        hidden = gelu(x[:, :, channel] @ w["fc1/kernel"] + w["fc1/bias"])
        expected = hidden @ w["fc2/kernel"] + w["fc2/bias"]
        np.testing.assert_allclose(y[:, :, channel], expected, atol=2e-6)


def test_channel_mixing():
    layer = layers.ChannelMixing(12)
    x = random(2, 6, 8)
    y = run(layer, x)
    w = weights(layer)
    hidden = gelu(x @ w["fc1/kernel"] + w["fc1/bias"])
    np.testing.assert_allclose(y, hidden @ w["fc2/kernel"] + w["fc2/bias"], atol=2e-6)


def test_swiglu():
    layer = layers.ChannelMixing(12, activation="silu", gated=True)
    x = random(2, 6, 8)
    y = run(layer, x)
    w = weights(layer)
    a, b = np.split(x @ w["fc1/kernel"] + w["fc1/bias"], 2, axis=-1)
    hidden = a / (1 + np.exp(-a)) * b
    np.testing.assert_allclose(y, hidden @ w["fc2/kernel"] + w["fc2/bias"], atol=2e-6)


def test_gelu_tanh():
    x = np.linspace(-4, 4, 81, dtype="float32")
    expected = x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    np.testing.assert_allclose(
        ops.convert_to_numpy(layers.gelu_tanh(ops.array(x))), expected, atol=1e-6
    )
    assert np.abs(expected - gelu(x)).max() > 1e-4  # so the test distinguishes both GELUs


def test_spatial_gating():
    layer = layers.SpatialGating(12)
    x = random(2, 6, 8)
    y = run(layer, x)
    w = weights(layer)
    u, v = np.split(gelu(x @ w["fc1/kernel"] + w["fc1/bias"]), 2, axis=-1)
    v = layer_norm(v, w["norm/gamma"], w["norm/beta"], 1e-5)
    gate = np.einsum("ntd,ts->nsd", v, w["spatial/kernel"]) + w["spatial/bias"][:, None]
    np.testing.assert_allclose(y, (u * gate) @ w["fc2/kernel"] + w["fc2/bias"], atol=2e-6)


def test_spatial_gate_starts_open():
    layer = layers.SpatialGating(12)
    layer(random(2, 6, 8))
    w = weights(layer)
    assert 0 < np.abs(w["spatial/kernel"]).max() < 1e-5
    np.testing.assert_array_equal(w["spatial/bias"], 1)


def neighbourhoods(image, kernel):
    """The neighbours of each token, as TensorFlow pads for "SAME"; NaN outside of the grid.

    Shapes: `(N, H, W, D) -> (N, H, W, D, kernel height, kernel width)`.
    """
    before = [(side - 1) // 2 for side in kernel]
    after = [side // 2 for side in kernel]
    pads = [(0, 0), *zip(before, after, strict=True), (0, 0)]
    padded = np.pad(image, pads, constant_values=np.nan)
    return np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(1, 2))


def test_pool_mixing():
    layer = layers.PoolMixing((3, 4))
    x = random(2, 12, 5)
    image = x.reshape(2, 3, 4, 5)
    expected = np.nanmean(neighbourhoods(image, (3, 3)), axis=(-2, -1)) - image
    np.testing.assert_allclose(run(layer, x), expected.reshape(2, 12, 5), atol=1e-6)


def test_fourier_mixing():
    x = random(2, 12, 5)
    expected = np.fft.fft2(x.astype("float64"), axes=(1, 2)).real
    np.testing.assert_allclose(run(layers.FourierMixing(), x), expected, atol=1e-5)


# A side of 8 has 3 tokens of padding before the grid and 4 after it.
@pytest.mark.parametrize("kernel", [(3, 3), (8, 8), (2, 5)])
def test_conv_mixer_block(kernel):
    layer = layers.ConvMixerBlock(kernel)
    x = random(2, 9, 10, 5)
    run(layer, x)
    for i, norm in enumerate((layer.norm1, layer.norm2)):
        norm.moving_mean.assign(random(5, seed=20 + i))
        norm.moving_variance.assign(random(5, seed=30 + i) ** 2 + 0.5)
    w = weights(layer)

    def batch_norm(x, name):
        scaled = (x - w[f"{name}/moving_mean"]) / np.sqrt(w[f"{name}/moving_variance"] + 1e-5)
        return scaled * w[f"{name}/gamma"] + w[f"{name}/beta"]

    neighbours = np.nan_to_num(neighbourhoods(x, kernel))
    depthwise = np.einsum("nrcdhw,hwd->nrcd", neighbours, w["depthwise/kernel"][..., 0])
    mixed = x + batch_norm(gelu(depthwise + w["depthwise/bias"]), "norm1")
    pointwise = mixed @ w["pointwise/kernel"][0, 0] + w["pointwise/bias"]
    expected = batch_norm(gelu(pointwise), "norm2")
    np.testing.assert_allclose(output(layer, x), expected, atol=1e-5)


def test_conv_mixer_block_is_equivariant_to_translation():
    layer = layers.ConvMixerBlock(3)
    x = np.zeros((1, 9, 9, 4), "float32")
    x[0, 3:5, 3:5] = random(2, 2, 4)
    moved = np.roll(x, (1, 2), axis=(1, 2))
    np.testing.assert_allclose(
        np.roll(run(layer, x), (1, 2), axis=(1, 2)), output(layer, moved), atol=1e-6
    )


def test_batch_normalization_moves_its_averages_like_keras():
    x = random(3, 4, 4, 5) + 1
    norms = layers.norms.BatchNormalization, keras.layers.BatchNormalization
    ours, expected = (norm(momentum=0.8) for norm in norms)
    for norm in (ours, expected):
        norm(x, training=True)
    for name in ("moving_mean", "moving_variance"):
        moved = [ops.convert_to_numpy(getattr(norm, name)) for norm in (ours, expected)]
        np.testing.assert_allclose(*moved, rtol=1e-5)


def test_conv_mixer_block_has_pytorchs_momentum():
    layer = layers.ConvMixerBlock(3)
    layer(random(2, 4, 4, 5))
    layer.norm1.moving_mean.assign(np.ones(5))
    before = ops.convert_to_numpy(layer.norm1.moving_mean)
    layer(np.zeros((2, 4, 4, 5), "float32"), training=True)
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer.norm1.moving_mean), 0.9 * before, atol=1e-6
    )


@pytest.mark.parametrize("flatten", [True, False])
def test_patch_embed(flatten):
    layer = layers.PatchEmbed(5, (2, 3), flatten=flatten)
    x = random(2, 4, 9, 3)
    y = run(layer, x)
    w = weights(layer)
    patches = x.reshape(2, 2, 2, 3, 3, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 2, 3, 18)
    expected = patches @ w["projection/kernel"].reshape(18, 5) + w["projection/bias"]
    shape = (2, 6, 5) if flatten else (2, 2, 3, 5)
    np.testing.assert_allclose(y, expected.reshape(shape), atol=2e-6)


def test_built_patch_embed_rejects_indivisible_image():
    layer = layers.PatchEmbed(5, 4)
    layer(random(2, 8, 8, 3))
    with pytest.raises(ValueError, match=r"`patch_size` must divide.*\(8, 9\)"):
        layer(random(2, 8, 9, 3))


def test_position_embedding_learned():
    layer = layers.PositionEmbedding((2, 3), num_prefix=1)
    x = random(2, 7, 8)
    y = run(layer, x)
    np.testing.assert_allclose(y, x + weights(layer)["table"], atol=1e-7)


def test_position_embedding_sincos2d():
    layer = layers.PositionEmbedding((2, 3), num_prefix=1, kind="sincos2d")
    table = ops.convert_to_numpy(layer(np.zeros((1, 7, 8), "float32")))[0]
    assert not layer.weights
    np.testing.assert_array_equal(table[0], 0)
    for row, column in np.ndindex(2, 3):
        expected = [
            f(index * frequency)
            for index, f in ((column, np.sin), (column, np.cos), (row, np.sin), (row, np.cos))
            for frequency in (1, 1e-4)
        ]
        np.testing.assert_allclose(table[1 + row * 3 + column], expected, atol=1e-7)


def test_prefix_tokens_come_first_and_in_order():
    layer = layers.PrefixTokens(distillation_token=True, num_registers=2)
    x = random(2, 3, 4)
    y = run(layer, x)
    w = weights(layer)
    tokens = np.concatenate([w["class"], w["distillation"], w["registers"]], axis=1)
    np.testing.assert_array_equal(y[:, :4], np.repeat(tokens, 2, axis=0))
    np.testing.assert_array_equal(y[:, 4:], x)


def test_residual():
    layer = layers.Residual(keras.layers.Dense(8, name="dense"), layer_scale_init=0.5, epsilon=1e-3)
    x = random(2, 6, 8)
    y = run(layer, x)
    w = weights(layer)
    branch = layer_norm(x, w["norm/gamma"], w["norm/beta"], 1e-3)
    branch = (branch @ w["dense/kernel"] + w["dense/bias"]) * w["layer_scale/gamma"]
    np.testing.assert_allclose(y, x + branch, atol=2e-6)


def test_layer_scale_starts_at_init():
    layer = layers.LayerScale(1e-5)
    np.testing.assert_allclose(output(layer, np.ones((1, 2), "float32")), 1e-5)


def test_select_token():
    x = random(2, 6, 8)
    np.testing.assert_array_equal(ops.convert_to_numpy(layers.SelectToken(1)(x)), x[:, 1])


def test_stochastic_depth_identity_at_inference_and_rate_0():
    x = random(4, 3, 2)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(layers.StochasticDepth(0.0)(x, training=True)), x
    )
    np.testing.assert_array_equal(ops.convert_to_numpy(layers.StochasticDepth(0.5)(x)), x)


def test_stochastic_depth_drops_samples_and_keeps_mean():
    layer = layers.StochasticDepth(0.25, seed=1)
    y = ops.convert_to_numpy(layer(np.ones((4000, 2, 3), "float32"), training=True))
    samples = y.reshape(4000, 6)
    np.testing.assert_array_equal(samples, np.repeat(samples[:, :1], 6, axis=1))
    np.testing.assert_allclose(np.unique(samples), [0, 1 / 0.75], rtol=1e-6)
    assert abs(samples.mean() - 1) < 0.03


def test_stochastic_depth_differs_by_layer_and_by_call():
    ones = np.ones((64, 1), "float32")
    first, second = layers.StochasticDepth(0.5), layers.StochasticDepth(0.5)
    outputs = [ops.convert_to_numpy(layer(ones, training=True)) for layer in (first, second, first)]
    assert not np.array_equal(outputs[0], outputs[1])
    assert not np.array_equal(outputs[0], outputs[2])


def test_residual_drops_only_its_branch():
    layer = layers.Residual(keras.layers.Dense(3), stochastic_depth_rate=0.5)
    x = random(64, 2, 3)
    plain = run(layer, x) - x
    branch = output(layer, x, training=True) - x
    dropped = np.abs(branch).max((1, 2)) == 0
    assert 0.2 < dropped.mean() < 0.8
    np.testing.assert_allclose(branch[~dropped], 2 * plain[~dropped], atol=1e-5)
