"""Keras's own files: read as data, with adapt and head as for other files."""

import functools
import io
import json
import pathlib
import shutil
import zipfile

import goldens
import h5py
import keras
import numpy as np
import pytest
from cases import MODELS

import keras_mixers as km

VIT = "timm_vit.safetensors"
SUFFIXES = ["model.keras", "model.weights.h5"]
files = pytest.mark.parametrize("file", SUFFIXES)


def randomised(model):
    for i, weight in enumerate(model.weights):
        weight.assign(np.random.default_rng(i).uniform(0.1, 1, weight.shape))
    return model


def saved(model, path):
    (model.save if path.suffix == ".keras" else model.save_weights)(path)
    return path


def changed(path, change):
    """Apply `change(h5 file)` to the weights of a file of either kind."""
    if path.suffix == ".h5":
        with h5py.File(path, "a") as file:
            change(file)
        return path
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    stream = io.BytesIO(members["model.weights.h5"])
    with h5py.File(stream, "a") as file:
        change(file)
    members["model.weights.h5"] = stream.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def put(name, array, **how):
    """A change that replaces a dataset."""

    def change(file):
        if name in file:
            del file[name]
        file.create_dataset(name, data=array, **how)

    return change


def refuse(model, path, message, **how):
    """Assert that a load fails and that neither the weights nor the optimizer change."""
    variables = [*model.variables, *getattr(getattr(model, "optimizer", None), "variables", ())]
    before = [np.array(v) for v in variables]
    with pytest.raises(ValueError, match=message):
        km.load_weights(model, path, **how)
    for one, variable in zip(before, variables, strict=True):
        np.testing.assert_array_equal(one, np.array(variable))


def trained(model):
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    for i, slot in enumerate(model.optimizer.variables[2:]):
        slot.assign(np.full(slot.shape, i))
    return model


@pytest.mark.parametrize("case", MODELS, ids=lambda case: case.id)
def test_keras_files_of_every_model_load_bit_equal(case, tmp_path):
    one, other = randomised(case.make()), case.make()
    report = km.load_weights(other, saved(one, tmp_path / "model.weights.h5"))
    assert report.loaded == len(one.weights)
    assert not report.untouched
    for a, b in zip(one.weights, other.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)


@files
@pytest.mark.parametrize("rate", ["dropout_rate", "stochastic_depth_rate"])
def test_keras_files_of_a_model_with_dropout_load(rate, file, tmp_path):
    """Such a file also has the states of generators of random numbers."""
    size = {"patch_size": 4, "hidden_dim": 8, "depth": 2, "num_heads": 2, "mlp_dim": 8}
    make = functools.partial(km.ViT, "Ti/16", input_shape=(8, 8, 3), num_classes=2, **size)
    source, model = randomised(make(**{rate: 0.1})), make()
    report = km.load_weights(model, saved(source, tmp_path / file))
    assert "state of dropout's random numbers" in str(report)
    for name in ("patch_embed", "head"):
        kernels = (each.get_layer(name).get_weights()[0] for each in (source, model))
        np.testing.assert_array_equal(*kernels)


@files
def test_keras_files_load_at_another_size_with_another_head(file, tmp_path):
    """The result equals that of the same weights in a file with timm's names."""
    source = randomised(goldens.make(VIT))
    path = saved(source, tmp_path / file)
    timm = km.save_weights(source, tmp_path / "w.safetensors")
    more = {"input_shape": (48, 40, 3), "num_classes": 3}
    refuse(goldens.make(VIT, **more), path, "with adapt=True: resized from 4 x 4 to 6 x 5")
    model, expected = goldens.make(VIT, **more), goldens.make(VIT, **more)
    for each in (model, expected):
        each.get_layer("head").kernel.assign(np.zeros((64, 3)))
    report = km.load_weights(model, path, adapt=True)
    km.load_weights(expected, timm, adapt=True)
    for a, b in zip(expected.weights, model.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)
    reason = "'layers/dense/vars/0' has 10 classes, the model has 3"
    assert report.untouched == {"head/kernel": reason, "head/bias": reason}
    assert list(report.adapted) == ["positions"]


@files
def test_keras_files_respect_head(file, tmp_path):
    path = saved(randomised(goldens.make(VIT)), tmp_path / file)
    model = goldens.make(VIT)
    before = model.get_layer("head").kernel.numpy()
    report = km.load_weights(model, path, head="skip")
    np.testing.assert_array_equal(model.get_layer("head").kernel.numpy(), before)
    assert report.untouched["head/kernel"] == "head='skip'"
    refuse(goldens.make(VIT, num_classes=3), path, "`head`='keep' needs a head", head="keep")
    features = goldens.make(VIT, num_classes=0)
    report = km.load_weights(features, path)
    assert report.skipped["layers/dense/vars/0"] == "the model has no head"


def wrapped(classes, hidden=20, **more):
    """A user's classifier: augmentation, a nested backbone and two Dense layers."""
    backbone = goldens.make(VIT, num_classes=0, **more)
    return keras.Sequential(
        [
            keras.Input(backbone.input_shape[1:]),
            keras.layers.RandomFlip(),
            backbone,
            keras.layers.Dense(hidden, "relu"),
            keras.layers.Dense(classes),
        ]
    )


@files
def test_keras_files_fill_nested_models(file, tmp_path):
    source = randomised(wrapped(3))
    path = saved(source, tmp_path / file)
    again = wrapped(3)
    assert km.load_weights(again, path).loaded == len(source.weights)
    for a, b in zip(source.weights, again.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)

    other = wrapped(7, input_shape=(48, 48, 3))
    report = km.load_weights(other, path, adapt=True)
    np.testing.assert_array_equal(other.layers[2].kernel, source.layers[2].kernel)
    assert len(report.untouched) == 2, "the last Dense layer"
    refuse(wrapped(7), path, "`head`='keep' needs a head", head="keep")

    flat = goldens.make(VIT, num_classes=5)
    report = km.load_weights(flat, path)
    norm = source.layers[1].get_layer("norm").gamma.numpy()
    np.testing.assert_array_equal(flat.get_layer("norm").gamma, norm)
    assert set(report.untouched) == {"head/kernel", "head/bias"}

    plain = saved(randomised(goldens.make(VIT)), tmp_path / f"plain_{file}")
    report = km.load_weights(wrapped(3), plain)
    assert report.skipped["layers/dense/vars/0"] == "the model has no head"


@files
def test_keras_files_of_a_head_with_batch_norm_load(file, tmp_path):
    def make(classes):
        features = goldens.make(VIT, num_classes=0)
        x = keras.layers.BatchNormalization()(features.output)
        return keras.Model(features.input, keras.layers.Dense(classes, name="mine")(x))

    source, again, flat = randomised(make(4)), make(4), goldens.make(VIT, num_classes=7)
    path = saved(source, tmp_path / file)
    assert km.load_weights(again, path).loaded == len(source.weights)
    report = km.load_weights(flat, path)
    reason = "a layer that the model does not have in this shape"
    assert report.skipped["layers/batch_normalization/vars/0"] == reason
    assert set(report.untouched) == {"head/kernel", "head/bias"}


def test_builders_accept_keras_files(tmp_path):
    source = randomised(goldens.make(VIT))
    path = saved(source, tmp_path / "model.keras")
    model = goldens.make(VIT, weights=str(path), input_shape=(64, 64, 3), num_classes=2)
    norm = source.get_layer("norm").gamma
    np.testing.assert_array_equal(model.get_layer("norm").gamma, norm)


@files
def test_normalization_layers_use_loaded_statistics(file, tmp_path):
    def make():
        backbone = goldens.make(VIT, num_classes=2)
        images = keras.Input((32, 32, 3))
        norm = keras.layers.Normalization()
        return keras.Model(images, backbone(norm(images))), norm

    images = np.random.default_rng(0).normal(3, 2, (4, 32, 32, 3))
    source, norm = make()
    norm.adapt(images)
    path = saved(source, tmp_path / file)
    model, _ = make()
    km.load_weights(model, path)
    np.testing.assert_allclose(model(images), source(images), atol=1e-6)


@files
def test_keras_files_restore_the_optimizer_if_it_fits(file, tmp_path):
    source = trained(goldens.make(VIT))
    path = saved(source, tmp_path / file)
    model = goldens.make(VIT)
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    km.load_weights(model, path)
    for a, b in zip(source.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    slot = model.optimizer.variables[5]
    slot.assign(slot + 1)
    for other, how in (
        (model, {"adapt": True}),
        (model, {"head": "skip"}),
        (goldens.make(VIT), {}),
    ):
        report = km.load_weights(other, path, **how)
        assert report.skipped["optimizer/vars/5"] == "optimizer state"
    np.testing.assert_array_equal(slot.numpy(), source.optimizer.variables[5].numpy() + 1)


BAD = {
    "overflow": (
        put("layers/dense/vars/1", np.full(10, 1e300)),
        "'layers/dense/vars/1' must be finite as float32 for head/bias",
    ),
    "nan in a slot": (
        put("optimizer/vars/5", np.full(64, np.nan, "float32")),
        "'optimizer/vars/5' must be finite",
    ),
    "another block": (
        put("layers/residual_4/norm/vars/0", np.zeros(64, "float32")),
        r"without a place in the model:\n    'layers/residual_4/norm/vars/0' \(64,\)",
    ),
    "integers": (put("layers/dense/vars/1", np.zeros(10, "int32")), "must have a float dtype"),
    "empty": (
        put("layers/position_embedding/vars/0", np.zeros((1, 0, 64), "float32")),
        "'layers/position_embedding/vars/0' must not be empty",
    ),
    "more tables": (
        put("layers/position_embedding/vars/1", np.zeros((1, 17, 64), "float32")),
        r"without a place in the model:\n    'layers/position_embedding/vars/1' \(1, 17, 64\)",
    ),
    "huge": (
        lambda file: (
            file.__delitem__("layers/layer_normalization/vars/0"),
            file.create_dataset(
                "layers/layer_normalization/vars/0", (2**31,), "f4", chunks=(2**20,)
            ),
        ),
        r"'layers/layer_normalization/vars/0' has shape \(2147483648,\)",
    ),
    "compressed": (
        put("layers/layer_normalization/vars/0", np.zeros(64, "f4"), compression="gzip"),
        "at 'layers/layer_normalization/vars/0'.*stored in one piece",
    ),
    "chunks": (
        put("layers/layer_normalization/vars/0", np.zeros(64, "f4"), chunks=(2,)),
        "at 'layers/layer_normalization/vars/0'.*stored in one piece",
    ),
    "link to another file": (
        lambda file: file.__setitem__("other", h5py.ExternalLink("/etc/passwd", "/")),
        "'other' is a link",
    ),
    "link to itself": (
        lambda file: file["layers"].__setitem__("again", file["layers"]),
        "two places",
    ),
    "levels": (lambda file: file.create_group("g/" * 70), "more than 64 levels"),
    "text": (
        put("layers/dense/vars/1", "ten"),
        r"'layers/dense/vars/1' has shape \(\), head/bias needs \(10,\)",
    ),
}


@pytest.fixture(scope="module")
def trained_vit():
    """One model for all refused files, because `refuse` asserts that it does not change."""
    return trained(goldens.make(VIT))


@pytest.fixture(scope="module")
def trained_files(trained_vit, tmp_path_factory):
    """A folder with a file of each kind."""
    folder = tmp_path_factory.mktemp("trained")
    for file in SUFFIXES:
        saved(trained_vit, folder / file)
    return folder


@pytest.mark.parametrize("case", BAD)
@files
def test_wrong_keras_files_are_refused(file, case, trained_vit, trained_files, tmp_path):
    change, message = BAD[case]
    path = changed(pathlib.Path(shutil.copy(trained_files / file, tmp_path)), change)
    refuse(trained_vit, path, message)


def with_members(path, **members):
    """Replace members of a zip file; the keyword is the name with "_" for "."."""
    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist()}
    kept |= {name.replace("_", "."): content for name, content in members.items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in kept.items():
            archive.writestr(name, content)
    return path


def test_deflated_keras_files_load(tmp_path):
    source = randomised(goldens.make(VIT))
    path = with_members(saved(source, tmp_path / "model.keras"))
    model = goldens.make(VIT)
    km.load_weights(model, path)
    np.testing.assert_array_equal(model.weights[0].numpy(), source.weights[0].numpy())


def test_zip_bombs_are_refused_before_they_are_read(tmp_path, monkeypatch):
    from keras_mixers.weights import keras_files

    path = saved(goldens.make(VIT), tmp_path / "model.keras")
    refuse(goldens.make(VIT), with_members(path, model_weights_h5=bytes(2**29)), "needs fewer")
    monkeypatch.setattr(keras_files, "LARGEST_CONFIG", 100)
    path = saved(goldens.make(VIT), tmp_path / "config.keras")
    refuse(goldens.make(VIT), path, "`source` is damaged.*config.json.*needs fewer")


CONFIGS = {
    "no JSON": "{",
    "deep": "[" * 100_000,
    "long number": json.dumps({"class_name": "PatchEmbed"})[:-1] + ', "x": ' + "9" * 5000 + "}",
    "no shape": json.dumps({"class_name": "PatchEmbed", "build_config": {"input_shape": 3}}),
    "no patch": json.dumps(
        {"class_name": "PatchEmbed", "build_config": {"input_shape": [None, 8, 8, 3]}}
    ),
}


@pytest.mark.parametrize("config", CONFIGS)
def test_hostile_configs_are_refused(config, tmp_path):
    path = saved(goldens.make(VIT), tmp_path / "model.keras")
    refuse(
        goldens.make(VIT),
        with_members(path, config_json=CONFIGS[config]),
        "`source` is damaged or cut short at 'config.json'",
    )


def test_flipped_bits_in_keras_archives_are_refused(tmp_path):
    path = saved(goldens.make(VIT), tmp_path / "model.keras")
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    refuse(goldens.make(VIT), path, "Bad CRC-32")


def test_grid_of_a_keras_archive_is_compared(tmp_path):
    path = saved(goldens.make(VIT), tmp_path / "model.keras")
    wide = goldens.make(VIT, input_shape=(16, 64, 3))
    refuse(wide, path, "position_embedding.* only with adapt=True: resized from 4 x 4 to 2 x 8")
    report = km.load_weights(wide, path, adapt=True)
    assert report.adapted["positions"].startswith("resized from 4 x 4 to 2 x 8")


def test_load_weights_writes_nothing_for_keras_files(tmp_path, monkeypatch):
    """So the load needs neither a temporary folder nor symbolic links."""
    path = saved(goldens.make(VIT), tmp_path / "model.keras")
    monkeypatch.setattr("os.symlink", None)
    monkeypatch.setattr("tempfile.mkdtemp", None)
    km.load_weights(goldens.make(VIT), path)
