"""load_weights fills any functional model and reports what it did."""

import json
import struct

import goldens
import keras
import numpy as np
import pytest

import keras_mixers as km
from keras_mixers.weights import checkpoint, roles, safetensors
from keras_mixers.weights.plan import make_plan
from keras_mixers.weights.source import Source

VIT = "timm_vit.safetensors"


@pytest.mark.parametrize("name", goldens.GOLDENS)
def test_plan_uses_each_key_and_weight_once(name):
    path = goldens.FOLDER / name
    model = goldens.make(name)
    with Source(path) as source:
        entries, _ = checkpoint.read_entries(source, checkpoint.container(source))
    plan = make_plan(entries, roles.index_weights(model), path, "keep", False, None)
    used = [entry.key for assignment in plan.assignments for entry in assignment.entries]
    assert sorted([*used, *plan.skipped]) == sorted(entries)
    filled = [assignment.weight.variable.path for assignment in plan.assignments]
    assert sorted(filled) == sorted(weight.path for weight in model.weights)


def by_hand():
    """The architecture of the timm_vit golden, assembled from layers with other names."""
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            km.layers.PatchEmbed(64, 8, name="cut"),
            km.layers.PrefixTokens(),
            km.layers.PositionEmbedding(4, num_prefix=1),
            *(
                km.layers.Residual(mixer)
                for _ in range(2)
                for mixer in (km.layers.MultiHeadSelfAttention(4), km.layers.ChannelMixing(256))
            ),
            keras.layers.LayerNormalization(epsilon=1e-6),
            km.layers.SelectToken(),
            keras.layers.Dense(10),
        ]
    )


def nested():
    backbone = goldens.make(VIT, num_classes=0)
    images = keras.Input((32, 32, 3))
    return keras.Model(images, keras.layers.Dense(10, name="mine")(backbone(images)))


@pytest.mark.parametrize("make", [by_hand, nested])
def test_load_weights_fills_any_functional_model(make):
    model = make()
    report = km.load_weights(model, goldens.FOLDER / VIT, head="keep")
    goldens.assert_golden(model, VIT)
    assert report.loaded == len(model.weights)


def test_load_weights_fills_a_reloaded_model(tmp_path):
    goldens.make(VIT).save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    km.load_weights(model, goldens.FOLDER / VIT)
    goldens.assert_golden(model, VIT)


def test_load_weights_reports_untouched_user_layers():
    backbone = goldens.make(VIT, num_classes=0)
    x = keras.layers.Dense(20, activation="relu", name="mine")(backbone.output)
    model = keras.Model(backbone.input, keras.layers.Dense(3, name="classes")(x))
    before = [w.numpy() for layer in ("mine", "classes") for w in model.get_layer(layer).weights]
    report = km.load_weights(model, goldens.FOLDER / VIT)
    after = [w.numpy() for layer in ("mine", "classes") for w in model.get_layer(layer).weights]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
    assert set(report.untouched) == {
        f"{layer}/{kind}" for layer in ("mine", "classes") for kind in ("kernel", "bias")
    }
    assert set(report.skipped) == {"head.weight", "head.bias"}


def test_load_weights_fills_low_precision_models():
    for dtype, atol in (("mixed_bfloat16", 0.1), ("bfloat16", 0.2)):
        model = goldens.make(VIT, dtype=dtype)
        km.load_weights(model, goldens.FOLDER / VIT)
        expected = goldens.answers(VIT)
        found = np.asarray(keras.ops.cast(model(expected["image"]), "float32"))
        np.testing.assert_allclose(found, expected["logits"], atol=atol)


@pytest.mark.parametrize("file", ["model.keras", "model.weights.h5"])
def test_keras_files_load(file, tmp_path):
    name = "timm_vit.safetensors"
    source = goldens.make(name)
    km.load_weights(source, goldens.FOLDER / name)
    (source.save if file.endswith("keras") else source.save_weights)(tmp_path / file)
    model = goldens.make(name)
    km.load_weights(model, tmp_path / file)
    goldens.assert_golden(model, name)

    other = goldens.make(name, mlp_dim=128)
    before = other.get_weights()
    with pytest.raises(ValueError, match="which is unchanged"):
        km.load_weights(other, tmp_path / file)
    for one, again in zip(before, other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, again)


def test_load_report_text():
    model = goldens.make(VIT, num_classes=3, input_shape=(48, 48, 3))
    report = km.load_weights(model, goldens.FOLDER / VIT, adapt=True)
    reason = "'head.weight' has 10 classes, the model has 3"
    assert str(report) == (
        "timm ViT: 30 weights set\n"
        "  adapted: positions: resized from 4 x 4 to 6 x 6 (bicubic_antialias)\n"
        f"  skipped in the file: head.bias, head.weight: {reason}\n"
        f"  untouched in the model: head/kernel, head/bias: {reason}"
    )


@pytest.fixture(scope="module")
def trained_vit():
    """One model for all refused files, because the test asserts that it does not change."""
    model = goldens.make(VIT)
    model.compile("adam", "mse", run_eagerly=True)
    model.fit(np.zeros((2, 32, 32, 3)), np.zeros((2, 10)), verbose=0)
    return model


@pytest.mark.parametrize("damage", ["deeper", "shallower", "nan"])
@pytest.mark.parametrize("file", ["model.keras", "model.weights.h5"])
def test_keras_files_that_differ_are_refused(file, damage, trained_vit, tmp_path):
    model = trained_vit
    depth = {"deeper": 3, "shallower": 1, "nan": 2}[damage]
    other = goldens.make(VIT, depth=depth)
    if damage == "nan":
        bias = other.get_layer("head").bias
        bias.assign([np.nan] * 10)
    (other.save if file.endswith("keras") else other.save_weights)(tmp_path / file)
    before = [v.numpy() for v in [*model.variables, *model.optimizer.variables]]
    message = {"deeper": "without a place in the model", "shallower": "missing in the file"}
    with pytest.raises(ValueError, match=message.get(damage, "dense/vars/1' must be finite")):
        km.load_weights(model, tmp_path / file)
    for one, again in zip(before, [*model.variables, *model.optimizer.variables], strict=True):
        np.testing.assert_array_equal(one, again.numpy())


def test_keras_files_load_by_any_name(tmp_path):
    source = goldens.make(VIT)
    source.save(tmp_path / "model.keras")
    (tmp_path / "model.keras").rename(tmp_path / "weights.bin")
    model = goldens.make(VIT)
    km.load_weights(model, tmp_path / "weights.bin")
    for one, other in zip(source.weights, model.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_float64_models_round_trip(tmp_path):
    model = goldens.make(VIT, dtype="float64")
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=weight.shape) for weight in model.weights])
    again = goldens.make(VIT, dtype="float64")
    km.load_weights(again, km.save_weights(model, tmp_path / "w.safetensors"))
    for one, other in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


@pytest.mark.parametrize("before", [2**24, 2**30 + 1])
def test_arrays_behind_large_ones_are_read(before, tmp_path):
    """The file is sparse: it declares a large array and takes no room on the disk."""
    small = np.arange(6, dtype="float32").reshape(2, 3)
    end = 4 * before
    header = {
        "large": {"dtype": "F32", "shape": [before], "data_offsets": [0, end]},
        "small": {"dtype": "F32", "shape": [2, 3], "data_offsets": [end, end + 24]},
    }
    text = json.dumps(header).encode()
    path = tmp_path / "large.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.seek(8 + len(text) + end)
        file.write(small.tobytes())
    with Source(path) as source:
        entries, _ = safetensors.read_entries(source)
        np.testing.assert_array_equal(entries["small"].read(), small)
