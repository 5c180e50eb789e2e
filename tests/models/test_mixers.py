"""A new letter of the table of blocks works in patterns, training, files and tools."""

import keras
import numpy as np
import pytest
from backends import ON_JAX, ON_TORCH
from cases import MODELS
from keras import ops

import keras_mixers as km
from keras_mixers.layers.base import Layer
from keras_mixers.models.blocks import Block, metaformer
from keras_mixers.models.mixers import LETTERS, MIXERS
from keras_mixers.models.variants import variant_of

# The letters that no pattern in cases.py has, because its models are exported and ONNX cannot hold
# these layers.
WITHOUT_CASE = ["F"]


@keras.saving.register_keras_serializable("test_mixers")
class Shift(Layer):
    """A token mixer that the package does not have: each token takes the one before it."""

    rank = 3
    mixes = frozenset(["tokens"])
    role = "shift"

    def call(self, x):
        return ops.roll(x, 1, axis=1)


@pytest.fixture
def letter_s(monkeypatch):
    """The row that adds the letter S."""
    row = Block("shift", metaformer(lambda _: Shift(name="shift")))
    monkeypatch.setitem(MIXERS, "S", row)
    monkeypatch.setitem(LETTERS, "S", row.meaning)


def with_attention(letter, **more):
    return km.Hybrid(
        f"{letter}A",
        input_shape=(8, 12, 2),
        patch_size=4,
        hidden_dim=16,
        num_heads=2,
        num_classes=5,
        **more,
    )


@pytest.mark.parametrize("letter", WITHOUT_CASE if ON_JAX else ["S", *WITHOUT_CASE])
@pytest.mark.parametrize("pool", ["gap"] if ON_JAX else ["gap", "token"])
def test_new_letter_trains_and_saves(pool, letter, letter_s, tmp_path):
    model = with_attention(letter, pool=pool)
    images = np.random.default_rng(0).normal(size=(4, 8, 12, 2)).astype("float32")
    model.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=ON_JAX
    )
    before = model.get_weights()
    model.train_on_batch(images, np.arange(4))
    assert any((old != new).any() for old, new in zip(before, model.get_weights(), strict=True))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    expected = ops.convert_to_numpy(model(images, training=False))
    np.testing.assert_array_equal(ops.convert_to_numpy(loaded(images, training=False)), expected)


def test_new_letter_is_known_to_tools(letter_s):
    model = with_attention("S")
    images = np.zeros((1, 8, 12, 2), "float32")
    with pytest.raises(ValueError, match="mix.*block_0_shift"):
        km.attention_rollout(model, images)
    assert list(km.attention_maps(model, images)) == ["block_1_attention"]
    assert variant_of(model) is None
    assert km.count_flops(model) > 0


def test_fourier_hybrid_is_refused_by_rollout_and_onnx(tmp_path):
    model = with_attention("F")
    with pytest.raises(ValueError, match="mix.*block_0_fourier_mixing"):
        km.attention_rollout(model, np.zeros((1, 8, 12, 2), "float32"))
    if ON_JAX or ON_TORCH:  # because only TensorFlow exports
        return
    with pytest.raises(RuntimeError, match="operator '(Complex|FFT2D|Real)'"):
        km.export(model, tmp_path / "fourier.onnx")
    assert km.export(model, tmp_path / "fourier").largest_difference < 1e-4


def test_pattern_errors_list_all_letters(letter_s):
    with pytest.raises(ValueError, match=r"A attention, .*S shift\).*unknown: 'X'"):
        km.Hybrid("SX")


def test_letters_are_those_of_the_table():
    assert list(km.models.LETTERS) == list(MIXERS) == ["A", "M", "C", "P", "F", "G"]


def test_every_letter_is_in_a_tested_model():
    patterns = [case.variant for case in MODELS if case.builder is km.Hybrid]
    assert set("".join(patterns)) | set(WITHOUT_CASE) == set(MIXERS)
