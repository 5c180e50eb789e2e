"""Recipes that train LoRA matrices."""

import h5py
import keras
import numpy as np
import pytest
from backends import ON_JAX, ON_TORCH
from keras import ops

import keras_mixers as km
from keras_mixers.exporting.formats import format_of
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


@pytest.mark.slow
@pytest.mark.skipif(ON_JAX or ON_TORCH, reason="only TensorFlow exports")
@pytest.mark.parametrize("name", ["model.onnx", "model.tflite"])
def test_exported_model_equals_lora(trained, tmp_path, name):
    if name == "model.onnx":
        pytest.importorskip("onnxruntime")
    path = km.export(trained, tmp_path / name).path
    exported = format_of(path).load(path)(IMAGES)
    np.testing.assert_allclose(exported["logits"], outputs(trained), atol=1e-5)


def test_backup_restores_matrices(trained):
    """Keras's own files hold the sum of a kernel and its matrices, and set both matrices to 0."""
    other, content = vit(), state_of(trained)
    km.Recipe(epochs=1, lora_rank=2).compile(other, 1)
    restore("backup.weights.h5", content, other)
    expected = values_of(trained)
    for path, value in values_of(other).items():
        np.testing.assert_array_equal(value, expected[path], err_msg=path)
    np.testing.assert_array_equal(outputs(other), outputs(trained))


@pytest.mark.slow
@pytest.mark.skipif(ON_JAX or ON_TORCH, reason="the matrices are in the file on each backend")
def test_training_of_lora_resumes_within_an_epoch(tmp_path, digits_folder):
    def train(path, *callbacks):
        backup = km.training.Backup(path, every=1)
        start = (backup.epoch, backup.batch)
        batches, _, _ = km.data.load("digits", batch_size=256, start=start)
        keras.utils.set_random_seed(0)
        model = km.ViT("Ti/16", depth=1, num_heads=2, **{**SIZE, "num_classes": 10})
        km.Recipe(epochs=1, learning_rate=0.05, lora_rank=2).compile(model, 6)
        model.run_eagerly = True  # because tracing a step takes longer than all steps
        model.fit(batches, callbacks=[backup, *callbacks], shuffle=False, verbose=0)
        return values_of(model)

    whole, after_two = tmp_path / "whole.weights.h5", tmp_path / "two.weights.h5"

    def copy(batch, logs):
        if batch == 1:
            after_two.write_bytes(whole.read_bytes())

    expected = train(whole, keras.callbacks.LambdaCallback(on_train_batch_end=copy))
    assert km.training.Backup(after_two).batch == 2
    found = train(after_two)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-6, err_msg=name)


@pytest.fixture(scope="module")
def lora_file(trained, tmp_path_factory):
    return km.training.save_lora_weights(trained, tmp_path_factory.mktemp("lora") / "x.lora.h5")


def base_of(trained):
    """The model before the LoRA run, and its outputs."""
    model, values = vit(), values_of(trained)
    for variable in model.weights:
        variable.assign(values[variable.path])
    model.get_layer("head").bias.assign([1.0, -1.0])  # because the run changed the head
    return model, outputs(model)


def test_lora_weights_belong_to_any_model_with_the_base(trained, lora_file):
    base, before = base_of(trained)
    around = keras.Sequential([keras.Input((8, 8, 1)), base])  # the backbone is in another model
    assert np.abs(base.predict(IMAGES, verbose=0) - outputs(trained)).max() > 0.1
    for _ in range(2):  # the second time replaces equal matrices
        km.training.load_lora_weights(around, lora_file)
        np.testing.assert_array_equal(outputs(base), outputs(trained))
        np.testing.assert_array_equal(outputs(around), outputs(trained))
        # Also by the function that Keras had compiled.
        found = base.predict(IMAGES, verbose=0)
        np.testing.assert_allclose(found, outputs(trained), atol=1e-5)
    km.Recipe(epochs=1, lora_rank=2).compile(base, 1)
    expected = values_of(trained)
    for path, value in values_of(base).items():
        np.testing.assert_array_equal(value, expected[path], err_msg=path)
    assert np.abs(before - outputs(base)).max() > 0.1


def test_lora_file_has_only_what_trained(trained, lora_file):
    with h5py.File(lora_file) as file:
        names = []
        file.visititems(lambda name, item: names.append(name) if hasattr(item, "shape") else None)
        assert {name for name in names if not name.startswith("lora/")} == {
            "base",
            "trained/head.kernel",
            "trained/head.bias",
        }
        name = "lora/blocks.1.channel_mixing.fc1.kernel/lora_kernel_b"
        matrix = trained.get_layer("block_1_channel_mixing").mixer.fc1.lora_kernel_b
        np.testing.assert_array_equal(file[name], ops.convert_to_numpy(matrix))
        assert len(names) == 3 + 3 * 2 * 4  # two layers in attention and two in each MLP


def test_lora_weights_fit_a_model_with_another_head(trained, lora_file):
    base, _ = base_of(trained)
    features = keras.Model(base.input, base.get_layer("pool").output)
    with pytest.raises(ValueError, match=r"`path` must fit.*head.* head='skip' skips the head"):
        km.training.load_lora_weights(features, lora_file)
    assert not any("lora" in path for path in values_of(features))
    km.training.load_lora_weights(features, lora_file, head="skip")
    expected = keras.Model(trained.input, trained.get_layer("pool").output)
    np.testing.assert_array_equal(outputs(features), outputs(expected))


def test_lora_weights_of_another_base_warn(lora_file):
    with pytest.warns(UserWarning, match="were trained with other kernels than those of 'vit'"):
        km.training.load_lora_weights(vit(), lora_file)


def test_lora_file_keeps_weights_of_user_layers(tmp_path):
    """A BatchNormalization that trains has moving averages, and the run changes them too."""

    def build():
        inner = km.ViT("Ti/16", depth=1, num_heads=2, **{**SIZE, "num_classes": 0})
        layers = [keras.layers.BatchNormalization(), keras.layers.Dense(3), keras.layers.Dense(2)]
        return keras.Sequential([keras.Input((8, 8, 1)), inner, *layers])

    model, other = build(), build()
    other.set_weights(model.get_weights())
    km.Recipe(epochs=1, lora_rank=2).compile(model, 1)
    averages = model.layers[1].non_trainable_variables
    for variable in (*model.trainable_variables, *averages):
        variable.assign(variable + 0.5)
    path = km.training.save_lora_weights(model, tmp_path / "x.lora.h5")
    km.training.load_lora_weights(other, path)
    np.testing.assert_array_equal(outputs(other), outputs(model))


def changed(path, name, value):
    """A copy of a LoRA file in which one array has another value, or is absent."""
    copy = path.with_name("changed.lora.h5")
    copy.write_bytes(path.read_bytes())
    with h5py.File(copy, "r+") as file:
        del file[name]
        if value is not None:
            file[name] = value
    return copy


A = "lora/blocks.0.attention.out.kernel/lora_kernel_a"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            A,
            np.zeros((9, 2)),
            r"matrices \(9, 2\) and \(2, 8\) for blocks.0.attention.out.kernel, a",
        ),
        (A, np.full((8, 2), np.nan), f"{A} must have finite floats"),
        (A, None, "blocks.0.attention.out.kernel must have lora_kernel_a, .* not lora_alpha, "),
        (A, np.zeros((8, 3)), r"two matrices of one rank and a number, not \(8, 3\), \(2, 8\)"),
        ("lora/blocks.0.attention.out.kernel", None, "no matrices for blocks.0.attention.out"),
        ("trained/head.bias", np.zeros(3), r"head.bias of shape \(3,\), not \(2,\)"),
        ("base", None, "'base'"),
    ],
)
def test_lora_file_that_does_not_fit_changes_nothing(trained, lora_file, name, value, message):
    before = values_of(trained)
    with pytest.raises(ValueError, match=f"`path` must.*Received: path=.*{message}"):
        km.training.load_lora_weights(trained, changed(lora_file, name, value))
    for path, now in values_of(trained).items():
        np.testing.assert_array_equal(now, before[path])


def test_lora_weights_raise_for_other_ranks_models_and_files(trained, lora_file, tmp_path):
    other = vit()
    km.Recipe(epochs=1, lora_rank=3).compile(other, 1)
    with pytest.raises(ValueError, match="rank 2 and alpha 2 for .*, where the model has rank 3"):
        km.training.load_lora_weights(other, lora_file)
    with pytest.raises(ValueError, match=r"matrices for blocks.1.*, which the model does not have"):
        shallow = km.ViT("Ti/16", depth=1, num_heads=2, mlp_dim=16, gated_mlp=True, **SIZE)
        km.training.load_lora_weights(shallow, lora_file)
    with pytest.raises(ValueError, match="`model` must have LoRA matrices, .*'vit' without any"):
        km.training.save_lora_weights(vit(), tmp_path / "x.lora.h5")
    with pytest.raises(ValueError, match=r"`path` must end in '.lora.h5'. Received: .*x.h5"):
        km.training.save_lora_weights(trained, "x.h5")
    with pytest.raises(FileNotFoundError):
        km.training.load_lora_weights(trained, tmp_path / "none.lora.h5")
    (tmp_path / "text.lora.h5").write_text("no HDF5")
    with pytest.raises(ValueError, match="must be a file of km.training.save_lora_weights"):
        km.training.load_lora_weights(trained, tmp_path / "text.lora.h5")
    with pytest.raises(ValueError, match="`head` must be one of 'keep', 'skip'"):
        km.training.load_lora_weights(trained, lora_file, head="auto")


def test_lora_raises_and_changes_nothing(trained):
    with pytest.raises(ValueError, match="`lora_rank` must be 2.*=3.*save the model"):
        km.Recipe(epochs=1, lora_rank=3).compile(trained, 1)
    conv = km.ConvMixer("256/8-k5-p2", depth=1, **SIZE)
    with pytest.raises(ValueError, match="`lora_rank` must be None.*without Dense.*=2"):
        km.Recipe(epochs=1, lora_rank=2).compile(conv, 1)
    assert conv.get_layer("patch_embed").trainable and not conv.compiled
    with pytest.raises(ValueError, match="`frozen_blocks` must be None with `lora_rank`.*='all'"):
        km.Recipe(epochs=1, lora_rank=2, frozen_blocks="all")


def test_matrices_train_after_keras_has_loaded_weights(trained, tmp_path):
    """Keras loads the sum of a kernel and its matrices, and both matrices as zeros."""
    file = tmp_path / "trained.weights.h5"
    trained.save_weights(file)
    model = vit()
    km.Recipe(epochs=1, lora_rank=2).compile(model, 1)
    model.load_weights(file)
    km.Recipe(epochs=1, lora_rank=2).compile(model, 1)
    np.testing.assert_allclose(outputs(model), outputs(trained), atol=1e-5)
    before = values_of(model)
    train(model)
    assert all(
        np.any(value != before[path]) for path, value in values_of(model).items() if "lora" in path
    )
