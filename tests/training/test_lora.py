"""Recipes that train LoRA matrices."""

import keras
import numpy as np
import pytest
from backends import ON_JAX, ON_TORCH
from keras import ops

import keras_mixers as km
from keras_mixers.training.backup_file import restore, state_of

pytestmark = pytest.mark.backends

IMAGES = np.random.RandomState(0).randn(4, 8, 8, 1).astype("float32")
LABELS = np.arange(4) % 2
SIZE = {"input_shape": (8, 8, 1), "patch_size": 4, "hidden_dim": 8, "num_classes": 2}


def hybrid():
    """Attention, token mixing, spatial gating, and a block with moving averages."""
    sizes = {"num_heads": 2, "mlp_dim": 16, "tokens_mlp_dim": 4, "kernel_size": 3}
    return km.Hybrid("CAMG", **SIZE, **sizes)


def train(model):
    recipe = km.Recipe(epochs=4, learning_rate=0.05, layer_decay=0.9, lora_rank=2)
    recipe.compile(model, 1)
    model.fit(IMAGES, LABELS, batch_size=4, epochs=3, verbose=0)
    return model


def values_of(model):
    return {variable.path: ops.convert_to_numpy(variable) for variable in model.weights}


def outputs(model):
    return ops.convert_to_numpy(model(IMAGES, training=False))


def vit():
    return km.ViT("Ti/16", depth=2, num_heads=2, mlp_dim=16, gated_mlp=True, **SIZE)


@pytest.fixture(scope="module")
def trained():
    return train(vit())


def test_training_changes_only_lora_and_head():
    model = hybrid()
    expected, predicted = outputs(model), model.predict(IMAGES, verbose=0)
    km.Recipe(epochs=1, lora_rank=2).compile(model, 1)
    before = values_of(model)
    np.testing.assert_array_equal(outputs(model), expected)  # because B is zero
    train(model)
    changed = {path for path, value in values_of(model).items() if np.any(value != before[path])}
    assert changed == {path for path in before if "lora" in path or path.startswith("head")}
    # Two in attention, in the mixing of tokens and in each of three MLPs; three in spatial gating.
    assert sum("lora" in path for path in changed) >= 2 * 10
    assert np.abs(outputs(model) - expected).max() > 0.1
    now = model.predict(IMAGES, verbose=0)
    assert np.abs(now - predicted).max() > 0.1
    np.testing.assert_allclose(now, outputs(model), atol=1e-5)


def test_matrices_are_trained_at_the_rate_of_their_block(trained):
    for variable, rate, decay in zip(
        trained.trainable_variables,
        trained.optimizer.factors,
        trained.optimizer.decays,
        strict=True,
    ):
        distance = 0 if variable.path.startswith("head") else 2 - int(variable.path[len("block_")])
        assert rate == pytest.approx(0.9**distance), variable.path
        assert bool(decay) == (variable.path == "head/kernel")


def test_compile_keeps_matrices_of_the_same_rank(trained):
    before = values_of(trained)
    km.Recipe(epochs=1, lora_rank=2).compile(trained, 1)
    assert before.keys() == values_of(trained).keys()
    for path, value in values_of(trained).items():
        np.testing.assert_array_equal(value, before[path])


def test_saved_models_equal_lora(trained, tmp_path):
    km.save_weights(trained, tmp_path / "merged.safetensors", format="timm")
    trained.save(tmp_path / "model.keras")
    loaded = [vit(), keras.models.load_model(tmp_path / "model.keras", compile=False)]
    km.load_weights(loaded[0], tmp_path / "merged.safetensors")
    for model in loaded:
        assert not any("lora" in path for path in values_of(model))
        np.testing.assert_allclose(outputs(model), outputs(trained), atol=1e-5)


@pytest.mark.skipif(ON_JAX or ON_TORCH, reason="only TensorFlow exports")
def test_exported_model_equals_lora(trained, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(km.export(trained, tmp_path / "model.onnx").path)
    exported = session.run(["logits"], {"images": IMAGES})[0]
    np.testing.assert_allclose(exported, outputs(trained), atol=1e-5)


def test_backup_restores_matrices(trained):
    """Keras's own files hold the sum of a kernel and its matrices, and set both matrices to 0."""
    other, content = vit(), state_of(trained)
    km.Recipe(epochs=1, lora_rank=2).compile(other, 1)
    restore("backup.weights.h5", content, other)
    expected = values_of(trained)
    for path, value in values_of(other).items():
        np.testing.assert_array_equal(value, expected[path], err_msg=path)
    np.testing.assert_array_equal(outputs(other), outputs(trained))


def test_lora_raises_and_changes_nothing(trained):
    with pytest.raises(ValueError, match="`lora_rank` must be 2.*=3.*save the model"):
        km.Recipe(epochs=1, lora_rank=3).compile(trained, 1)
    conv = km.ConvMixer("256/8-k5-p2", depth=1, **SIZE)
    with pytest.raises(ValueError, match="`lora_rank` must be None.*without Dense.*=2"):
        km.Recipe(epochs=1, lora_rank=2).compile(conv, 1)
    assert conv.get_layer("patch_embed").trainable and not conv.compiled
    with pytest.raises(ValueError, match="`frozen_blocks` must be None with `lora_rank`.*='all'"):
        km.Recipe(epochs=1, lora_rank=2, frozen_blocks="all")
