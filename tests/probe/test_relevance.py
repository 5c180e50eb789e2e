"""Relevance equals a NumPy implementation with gradients by finite differences."""

import keras
import numpy as np
import pytest
from backends import ON_JAX, ON_TORCH
from cases import case, random_weights

import keras_mixers as km
from keras_mixers import layers

# JAX has float64 only if it is enabled for the whole process.
DTYPE, STEP, TOLERANCE = ("float32", 1e-2, 1e-3) if ON_JAX or ON_TORCH else ("float64", 1e-4, 1e-6)
# One target under JAX, because outside a graph JAX compiles each operation for each shape.
TARGETS = (1,) if ON_JAX else (None, 1, [2, 0])
IMAGES = np.random.default_rng(1).normal(size=(np.size(TARGETS[-1]), 4, 4, 1)).astype(DTYPE)


class PerturbedAttention(layers.MultiHeadSelfAttention):
    """Attention that adds the array `change` to its weights."""

    mixes = frozenset({"tokens"})
    change = 0.0

    def attention_scores(self, query, key):
        change = keras.ops.array(self.change, DTYPE)  # because torch adds no NumPy array
        return super().attention_scores(query, key) + change

    def call(self, x, training=None, return_attention_scores=False):
        y, scores = super().call(x, training, return_attention_scores=True)
        return (y, scores) if return_attention_scores else y


def build(pool, **residual):
    """A classifier of 2 x 2 patches."""
    x = images = keras.Input((4, 4, 1))
    x = layers.PatchEmbed(8, 2, dtype=DTYPE)(x)
    if pool == "token":
        x = layers.PrefixTokens(dtype=DTYPE)(x)
    for _ in range(2):
        x = layers.Residual(PerturbedAttention(2, dtype=DTYPE), dtype=DTYPE, **residual)(x)
        x = layers.Residual(layers.ChannelMixing(6, dtype=DTYPE), dtype=DTYPE)(x)
    if pool == "token":
        x = layers.SelectToken(0, dtype=DTYPE)(x)
    else:
        x = keras.layers.GlobalAveragePooling1D(dtype=DTYPE)(x)
    model = keras.Model(images, keras.layers.Dense(3, dtype=DTYPE)(x))
    return random_weights(model)


def finite_differences(model, image, target):
    """d logit / d attention weight, `(heads, T, T)` for each layer, by central differences."""
    found = []
    for layer in [layer for layer in model.layers if isinstance(layer, layers.Residual)][::2]:
        shape = (2, layer.input.shape[1], layer.input.shape[1])
        step = STEP * np.eye(np.prod(shape)).reshape(-1, *shape)  # one weight for each image
        images = np.repeat(image[None], len(step), axis=0)
        logits = []
        for layer.mixer.change in (step, -step, 0.0):
            logits.append(keras.ops.convert_to_numpy(model(images))[:, target])
        found.append((logits[0] - logits[1]).reshape(shape) / (2 * STEP))
    return found


@pytest.mark.parametrize(
    ("pool", "residual"),
    [
        pytest.param("token", {}, id="token"),
        pytest.param("gap", {"layer_scale_init": 0.5}, id="gap", marks=pytest.mark.backends),
    ],
)
def test_relevance_is_gradient_times_attention(pool, residual):
    model = build(pool, **residual)
    maps = list(km.attention_maps(model, IMAGES).values())
    for target in TARGETS:
        found = km.probe.relevance(model, IMAGES, target, batch_size=1)
        for i, image in enumerate(IMAGES):
            classes = model.predict(IMAGES, verbose=0).argmax(axis=1) if target is None else target
            class_ = np.broadcast_to(classes, len(IMAGES))[i]
            slopes = finite_differences(model, image, class_)
            expected = relevance_oracle([m[i] for m in maps], slopes, pool)
            np.testing.assert_allclose(found[i], expected, rtol=TOLERANCE, atol=TOLERANCE)
        assert found.max() > 1e-2


@pytest.mark.backends
def test_attention_distance_on_every_backend():
    model = build("gap")
    for distances in km.probe.attention_distance(model, IMAGES).values():
        assert distances.shape == (len(IMAGES), 2) and (distances > 0).all()


def relevance_oracle(maps, slopes, pool):
    """Equations 5 and 6 of the paper."""
    flow = np.eye(maps[0].shape[-1])
    for weights, slope in zip(maps, slopes, strict=True):
        flow += np.clip(weights * slope, 0, None).mean(axis=0) @ flow
    row = flow[0, 1:] if pool == "token" else (flow - np.eye(4)).mean(axis=0)
    return row.reshape(2, 2)


def test_relevance_after_a_softmax_uses_log_probability():
    """For two logits a and 0, d log p / dA = (1 - p) da / dA, where p is the probability of a."""
    images = case("vit_gap").images(2)
    logits_model = random_weights(case("vit_gap").make(num_classes=2, depth=1))
    head = logits_model.get_layer("head")
    kernel = np.array(head.kernel)
    head.kernel.assign(np.stack([kernel[:, 0], 0 * kernel[:, 0]], axis=1))
    softmax_model = keras.Sequential([logits_model, keras.layers.Softmax()])
    factor = 1 - np.array(softmax_model(images))[:, 0]
    logits = km.probe.relevance(logits_model, images, 0)
    found = km.probe.relevance(softmax_model, images, 0)
    np.testing.assert_allclose(found, logits * factor[:, None, None], rtol=1e-3, atol=1e-7)


def test_relevance_of_nested_and_mixed_precision_models():
    images = case("vit").images(2)
    model = random_weights(case("deit_distilled").make())
    expected = km.probe.relevance(model, images, 1)
    nested = keras.Sequential([keras.Input((8, 12, 2)), keras.layers.Rescaling(0.5), model])
    np.testing.assert_allclose(km.probe.relevance(nested, 2 * images, 1), expected, rtol=1e-4)
    half = case("deit_distilled").make(dtype="mixed_bfloat16")
    half.set_weights(model.get_weights())
    found = km.probe.relevance(half, images, 1)
    assert np.abs(found - expected).max() < 0.1 * expected.max()


def test_relevance_of_a_hybrid_follows_named_layers():
    model, images = random_weights(case("hybrid_MA").make()), case("hybrid_MA").images(2)
    assert km.probe.relevance(model, images, 1, layers=-1).max() > 0


@pytest.mark.parametrize(
    ("name", "classes", "message"),
    [
        ("vit", 5, r"`target` must be numbers from 0 to 4. Received: target=5"),
        ("vit", -1, "`target` must be numbers from 0 to 4"),
        ("vit", [0, 1], "`target` must be one number, or one for each of the 4 images"),
        ("vit", 1.5, "`target` must be numbers from 0 to 4"),
        ("vit_sequence", None, r"`model` must end in logits.*'vit', which ends in 'norm'"),
        ("hybrid_MA", 0, "`layers` must name the attention layers to follow.*block_0_token_mixing"),
        ("mlp_mixer", 0, "must have a MultiHeadSelfAttention"),
    ],
)
def test_relevance_refuses_invalid_arguments(name, classes, message):
    with pytest.raises(ValueError, match=message):
        km.probe.relevance(case(name).make(), case(name).images(), classes)
