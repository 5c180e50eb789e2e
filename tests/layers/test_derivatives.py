"""Derivatives on TensorFlow that training does not need: second ones, and forward mode."""

import gc

import keras
import numpy as np
import pytest
from backends import WAYS
from cases import case

from keras_mixers import layers
from keras_mixers.layers import kernels
from keras_mixers.layers.norms import BatchNormalization, LayerNormalization

pytestmark = pytest.mark.one_backend("TensorFlow has the moments and the kernels in question")

NORMS = [
    (LayerNormalization, (2, 6, 8)),
    (LayerNormalization, (3, 200, 64)),
    (BatchNormalization, (2, 4, 5, 8)),
]


def in_way(function, way):
    import tensorflow as tf

    if "run_eagerly" in way:
        return function
    return tf.function(function, autograph=False, **way)


def values(shape, seed, dtype="float32"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def gradient_of(layer, x, training):
    """The gradient of `sum(layer(x)^2 * w)` with unequal w."""
    import tensorflow as tf

    uneven = tf.sin(tf.reshape(tf.range(float(np.prod(x.shape))), x.shape))
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x, training=training) ** 2 * tf.cast(uneven, x.dtype))
    return tape.gradient(loss, x)


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("norm", "shape"), NORMS)
def test_norm_has_right_second_derivative(norm, shape, training, way):
    import tensorflow as tf

    layer, precise = norm(epsilon=1e-3), norm(epsilon=1e-3, dtype="float64")
    direction, x64 = values(shape, 1, "float64"), values(shape, 0, "float64")
    layer.build(shape)
    precise.build(shape)

    def product(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            gradient = gradient_of(layer, x, training)
        return tape.gradient(gradient, x, output_gradients=tf.constant(direction, "float32"))

    found = in_way(product, way)(tf.constant(x64, "float32"))
    step = 1e-5 * direction
    above, below = (
        gradient_of(precise, tf.constant(x), training) for x in (x64 + step, x64 - step)
    )
    expected = (above - below).numpy() / 2e-5
    assert np.abs(found.numpy() - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("family", ["vit", "vit_registers", "mlp_mixer", "conv_mixer"])
def test_models_have_no_norm_of_keras(family):
    norms = (keras.layers.LayerNormalization, keras.layers.BatchNormalization)
    parts = case(family).make()._flatten_layers()
    found = [layer for layer in parts if isinstance(layer, norms)]
    assert found and all(
        isinstance(each, (LayerNormalization, BatchNormalization)) for each in found
    )


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_long_attention_has_forward_mode(way, monkeypatch):
    import tensorflow as tf

    from keras_mixers.layers.kernels.tensorflow_cpu import softmax_attention

    monkeypatch.setattr(softmax_attention, "LONG", 16)
    monkeypatch.setattr(kernels, "is_small", lambda x: False)  # or one kernel computes few tokens
    layer = layers.MultiHeadSelfAttention(2)
    x, direction = values((2, 16, 4), 0), values((2, 16, 4), 1)
    layer(x)

    def product(x):
        with tf.autodiff.ForwardAccumulator(x, tf.constant(direction)) as accumulator:
            y = layer(x)
        return accumulator.jvp(y)

    found = in_way(product, way)(tf.constant(x)).numpy()
    step = 1e-2 * direction
    expected = (layer(x + step) - layer(x - step)).numpy() / 2e-2
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()


def test_registered_gradients_do_not_grow_with_models():
    from tensorflow.python.framework import ops

    counts = []
    images, labels = values((4, 8, 8, 3), 0), np.arange(4)
    for _ in range(3):
        model = case("vit").make(input_shape=(8, 8, 3), depth=1)
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(images, labels, verbose=0)
        del model
        keras.backend.clear_session()
        gc.collect()
        counts.append(len(ops.gradient_registry.list()))
    assert counts[1] == counts[2], counts
