"""The fused kernels of attention in bfloat16: exact within its rounding, and as exact as Keras."""

import keras
import numpy as np
import pytest

from keras_mixers import layers
from keras_mixers.layers import kernels
from keras_mixers.layers.rotary import tables

pytestmark = [
    pytest.mark.one_backend("the fused kernels are TensorFlow's"),
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow only"),
]
GRID, HEADS, HEAD_DIM = (2, 5), 2, 8
SHAPE = (2, GRID[0] * GRID[1], 3 * HEADS * HEAD_DIM)
ROTARIES = {
    "plain": None,
    "rotary": layers.Rotary(),
    "interleaved": layers.Rotary("index", base=10_000, interleaved=True),
}
forms = pytest.mark.parametrize("form", ROTARIES)


@pytest.fixture(params=["short", "long"], autouse=True)
def length(request, monkeypatch):
    """Run each test in the form for short sequences, and in the one that loops over the images."""
    from keras_mixers.layers.kernels.tensorflow_cpu import softmax_attention

    monkeypatch.setattr(softmax_attention, "LONG", 1 if request.param == "long" else 512)


def values(shape, seed, size=1.0):
    """Random float64 numbers that bfloat16 can hold."""
    import ml_dtypes

    numbers = size * np.random.default_rng(seed).normal(size=shape)
    return numbers.astype(ml_dtypes.bfloat16).astype("float64")


def reference(qkv, form):
    """Attention by the functions of the layer that are not fused."""
    import tensorflow as tf

    split = tf.reshape(qkv, (-1, SHAPE[1], 3, HEADS, HEAD_DIM))
    query, key, value = tf.unstack(split, axis=2)
    if ROTARIES[form]:
        angles = tables(ROTARIES[form], GRID, 0, HEAD_DIM)
        query, key = (layers.rotary.rotate(ROTARIES[form], x, *angles) for x in (query, key))
    y = keras.ops.dot_product_attention(query, key, value, scale=HEAD_DIM**-0.5)
    return tf.reshape(y, (-1, SHAPE[1], HEADS * HEAD_DIM))


def fused(qkv, form):
    from keras_mixers.layers.kernels import tensorflow_cpu

    rotary = ROTARIES[form]
    angles = rotary and tables(rotary, GRID, 0, HEAD_DIM)
    return tensorflow_cpu.attention(qkv, HEADS, rotary, angles)


def value_and_gradient(function, dtype, qkv, dy, form):
    """The output, and the gradient for qkv, as float64 arrays."""
    import tensorflow as tf

    @tf.function(autograph=False)
    def run(qkv, dy):
        with tf.GradientTape() as tape:
            tape.watch(qkv)
            y = function(qkv, form)
        return y, tape.gradient(y, qkv, dy)

    found = run(tf.cast(qkv, dtype), tf.cast(dy, dtype))
    return [np.asarray(tf.cast(each, "float64")) for each in found]


def relative_error(found, exact):
    """The norm of the difference, divided by the norm of the exact array."""
    return np.linalg.norm(found - exact) / np.linalg.norm(exact)


@forms
def test_bfloat16_attention_is_as_exact_as_its_rounding(form):
    qkv, dy = values(SHAPE, 0), values((*SHAPE[:2], HEADS * HEAD_DIM), 1)
    exact = value_and_gradient(reference, "float64", qkv, dy, form)
    found = value_and_gradient(fused, "bfloat16", qkv, dy, form)
    plain = value_and_gradient(reference, "bfloat16", qkv, dy, form)
    # Without oneDNN, TensorFlow's softmax rounds each step to bfloat16.
    roundings = 1.5 if kernels.has_onednn() else 8
    for here, there, truth in zip(found, plain, exact, strict=True):
        error = relative_error(here, truth)
        assert error < roundings * 2**-8
        if kernels.has_onednn():
            assert error < 1.2 * relative_error(there, truth)


def test_extreme_scores_do_not_overflow():
    """With scores of +-80, each query chooses a token or is undecided between equal ones."""
    query, key, value = (values((*SHAPE[:2], HEADS, HEAD_DIM), seed, 1.0) for seed in range(3))
    query, key = (x / np.abs(x).max(-1, keepdims=True) for x in (query, key))
    size = (80 * HEAD_DIM**0.5 / np.einsum("nqhd,nkhd->nhqk", query, key).max()) ** 0.5
    qkv = np.stack([size * query, size * key, value], 2).reshape(SHAPE)
    dy = values((*SHAPE[:2], HEADS * HEAD_DIM), 3)
    exact = value_and_gradient(reference, "float64", qkv, dy, "plain")
    found = value_and_gradient(fused, "bfloat16", qkv, dy, "plain")
    for here, truth in zip(found, exact, strict=True):
        assert np.isfinite(here).all()
        assert relative_error(here, truth) < 0.2  # because a score of 80 is rounded by up to 0.25


def test_second_derivatives_in_bfloat16(form="interleaved"):
    """They are those of float64, within the rounding of the first gradient's inputs."""
    import tensorflow as tf

    qkv, dy = values(SHAPE, 0), values((*SHAPE[:2], HEADS * HEAD_DIM), 1)

    def penalty_gradients(function, dtype):
        @tf.function(autograph=False)
        def run(qkv, dy):
            with tf.GradientTape() as outer:
                outer.watch([qkv, dy])
                with tf.GradientTape() as inner:
                    inner.watch(qkv)
                    y = function(qkv, form)
                gradient = inner.gradient(y, qkv, dy)
                size = tf.reduce_sum(tf.cast(gradient, "float64") ** 2)
            return outer.gradient(size, [qkv, dy])

        found = run(tf.cast(qkv, dtype), tf.cast(dy, dtype))
        return [np.asarray(tf.cast(each, "float64")) for each in found]

    exact = penalty_gradients(reference, "float64")
    found = penalty_gradients(fused, "bfloat16")
    for here, truth in zip(found, exact, strict=True):
        assert relative_error(here, truth) < 0.03
