"""Hostile arguments: each error is a TypeError or ValueError that names the argument, and short."""

import fractions
import itertools
import json
import struct

import keras
import numpy as np
import pytest
from cases import case

import keras_mixers as km
from keras_mixers import arguments
from keras_mixers.serialization import parse_json


class FailingRepr:
    def __repr__(self):
        raise KeyError("repr")


class HugeRepr:
    def __repr__(self):
        return "r" * 1_000_000


class BytesPath:
    def __fspath__(self):
        return b"model.onnx"


class FailingPath:
    def __fspath__(self):
        raise RuntimeError("fspath")


class FailingIterator:
    def __iter__(self):
        raise RuntimeError("iter")


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


HOSTILE = {
    "larger than a float": 10**400,
    "too many digits": 10**5000,
    "larger than float32": 1e300,
    "NaN": float("nan"),
    "fraction": fractions.Fraction(10**400),
    "0-d array": np.array(3),
    "array": np.ones((2, 2)),
    "tensor": keras.ops.ones(2),
    "symbolic": keras.KerasTensor((2,)),
    "bytes": b"x",
    "null byte": "a\0b",
    "long text": "x" * 1_000_000,
    "endless": itertools.count(),
    "nested": nested(100_000),
    "failing repr": FailingRepr(),
    "huge repr": HugeRepr(),
    "failing iterator": FailingIterator(),
    "bytes path": BytesPath(),
    "failing path": FailingPath(),
}
IMAGES = case("vit").images(2)
CALLS = {
    "integer": lambda value, _: arguments.integer("x", value),
    "real": lambda value, _: arguments.real("x", value, 0.0),
    "pair": lambda value, _: arguments.pair("x", value),
    "flag": lambda value, _: arguments.flag("x", value),
    "choice": lambda value, _: arguments.choice("x", value, ["a", "b"]),
    "class_names": lambda value, _: arguments.class_names(value, 3),
    "attention_maps(x)": lambda value, _: km.attention_maps(value, IMAGES),
    "attention_maps(images)": lambda value, model: km.attention_maps(model, value),
    "attention_maps(layers)": lambda value, model: km.attention_maps(model, IMAGES, value),
    "relevance(target)": lambda value, model: km.probe.relevance(model, IMAGES, value),
    "count_flops": lambda value, _: km.count_flops(value),
    "plot_attention": lambda value, model: km.visualize.plot_attention(model, value),
    "plot_history": lambda value, _: km.visualize.plot_history({"loss": value}),
    "within_budget": lambda value, _: km.tuning.within_budget(value),
    "infeasible": lambda value, _: km.tuning.infeasible(value),
    "results": lambda value, _: km.tuning.results(value),
    "plot_search": lambda value, _: km.visualize.plot_search(value),
    "HyperFineTune": lambda value, _: km.tuning.HyperFineTune(value, (8, 8, 3), 3),
    "HyperViT": lambda value, _: km.tuning.HyperViT((8, 8, 1), 3, learning_rate=value),
    "dtype": lambda value, _: km.ConvMixer("256/8-k5-p2", dtype=value),
    "activation": lambda value, _: km.layers.ChannelMixing(8, activation=value),
    "Crossentropy": lambda value, _: km.training.Crossentropy(name=value),
    "Accuracy": lambda value, _: km.training.Accuracy(name=value),
    "LayerwiseAdamW(name)": lambda value, _: km.training.LayerwiseAdamW(name=value),
    "LayerwiseAdamW(rate)": lambda value, _: km.training.LayerwiseAdamW(learning_rate=value),
    "LayerwiseAdamW(beta_1)": lambda value, _: km.training.LayerwiseAdamW(beta_1=value),
    "Backup": lambda value, _: km.training.Backup(value),
    "Recipe.load": lambda value, _: km.Recipe.load(value),
    "Augmentation": lambda value, _: km.data.Augmentation(crop_scale=value),
    "check": lambda value, _: km.data.check(value),
    "images": lambda value, _: km.data.images(value),
    "load(augmentation)": lambda value, _: km.data.load("digits", augmentation=value),
    "load(start)": lambda value, _: km.data.load("digits", start=value),
    "load(data_dir)": lambda value, _: km.data.load("digits", data_dir=value),
    "predict(files)": lambda value, model: km.predict(
        model, value, km.Preprocessing(model.input_shape[1:3], mean=0.5, std=0.5)
    ),
    "predict(model)": lambda value, _: km.predict(value, IMAGES, km.Preprocessing(8)),
    "export(model)": lambda value, _: km.export(value, "model.onnx"),
    "export(path)": lambda value, model: km.export(model, value),
    "export(preprocessing)": lambda value, model: km.export(
        model, "model.onnx", preprocessing=value
    ),
    "export(calibration_data)": lambda value, model: km.export(
        model, "model.onnx", quantize="int8", calibration_data=value
    ),
    "save_weights(model)": lambda value, _: km.save_weights(value, "w.safetensors"),
    "save_weights(path)": lambda value, model: km.save_weights(model, value),
    "load_weights(model)": lambda value, _: km.load_weights(value, "w.safetensors"),
    "load_weights(source)": lambda value, model: km.load_weights(model, value),
    "weights": lambda value, _: case("vit").make(weights=value),
}
NAMES = {
    "class_names": "class_names",
    "attention_maps(x)": "model",
    "attention_maps(images)": "images",
    "attention_maps(layers)": "layers",
    "relevance(target)": "target",
    "count_flops": "model",
    "plot_attention": "image",
    "plot_history": "history",
    "within_budget": "tuner",
    "infeasible": "tuner",
    "results": "tuner",
    "plot_search": "results",
    "HyperFineTune": "backbones",
    "HyperViT": "learning_rate",
    "dtype": "dtype",
    "activation": "activation",
    "Crossentropy": "name",
    "Accuracy": "name",
    "LayerwiseAdamW(name)": "name",
    "LayerwiseAdamW(rate)": "learning_rate",
    "LayerwiseAdamW(beta_1)": "beta_1",
    "Backup": "path",
    "Recipe.load": "path",
    "Augmentation": "crop_scale",
    "check": "name",
    "images": "name",
    "load(augmentation)": "augmentation",
    "load(start)": "start",
    "load(data_dir)": "data_dir",
    "predict(files)": "files",
    "predict(model)": "model",
    "export(model)": "model",
    "export(path)": "path",
    "export(preprocessing)": "preprocessing",
    "export(calibration_data)": "calibration_data",
    "save_weights(model)": "model",
    "save_weights(path)": "path",
    "load_weights(model)": "model",
    "load_weights(source)": "source",
    "weights": "weights",
}

SKIPPED = {
    ("activation", "nested"),  # because Keras flattens the arguments of a layer first
    ("plot_history", "tensor"),  # valid
    ("relevance(target)", "0-d array"),  # valid
    *itertools.product(  # valid names
        ["Crossentropy", "Accuracy", "LayerwiseAdamW(name)"], ["long text", "null byte"]
    ),
}


@pytest.fixture(scope="module")
def model():
    return case("vit").make()


@pytest.mark.parametrize("call", CALLS)
def test_error_names_argument_and_is_short(call, model):
    for kind, value in HOSTILE.items():
        if (call, kind) in SKIPPED:
            continue
        with pytest.raises((TypeError, ValueError)) as raised:
            CALLS[call](value, model)
        assert f"`{NAMES.get(call, 'x')}`" in str(raised.value), kind
        assert len(str(raised.value)) < 3000, kind


@pytest.mark.parametrize("value", [5, b"x", BytesPath(), FailingPath(), "a\0.html", None])
def test_path_is_checked(value, model):
    with pytest.raises((TypeError, ValueError), match="`path` must"):
        km.visualize.attention_explorer(model, IMAGES, value)


@pytest.mark.parametrize("call", [call for call, name in NAMES.items() if name == "path"])
@pytest.mark.parametrize("path", ["\ud800", "x" * 5_000])
def test_path_that_no_file_can_have_is_refused(call, path, model):
    with pytest.raises(ValueError, match="`path` must be a (name that files can have|path of at)"):
        CALLS[call](path, model)


@pytest.mark.parametrize(
    "call", ["Crossentropy", "Accuracy", "LayerwiseAdamW(name)", "load(data_dir)", "export(path)"]
)
def test_text_that_utf8_cannot_hold_is_refused(call, model):
    with pytest.raises(ValueError, match=f"`{NAMES[call]}` must be text that UTF-8 can hold"):
        CALLS[call]("\udc80", model)


def failing_batches():
    yield IMAGES
    raise OSError("the disk failed")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([()], "must be an array of images or batches of them.*IndexError"),
        (failing_batches(), "must be an array of images.*OSError: the disk failed"),
        (itertools.repeat(IMAGES[:0]), "must hold at least one image"),
        (np.full(IMAGES.shape, 1j), "must hold images as the file takes them.*complex"),
        (np.full(IMAGES.shape, 1e300), "must be finite as float32"),
    ],
    ids=["empty batch", "failing", "endless without images", "complex", "too large"],
)
def test_calibration_data_is_checked(data, message, model):
    with pytest.raises(ValueError, match=f"`calibration_data` {message}"):
        CALLS["export(calibration_data)"](data, model)


LONG = "k" * 20_000


@pytest.mark.parametrize(
    "config",
    [{LONG: 1}, {"augmentation": {LONG: 1}}, {"source": [LONG]}],
    ids=["key", "key of the augmentation", "value"],
)
def test_error_about_recipe_file_is_short(config, tmp_path):
    (tmp_path / "recipe.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="`path` must be a JSON file of a recipe") as raised:
        km.Recipe.load(tmp_path / "recipe.json")
    assert len(str(raised.value)) < 3000


@pytest.mark.parametrize(
    "entry",
    [
        {LONG: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}},
        {LONG: {"dtype": "F32", "shape": [3], "data_offsets": [0, 0]}},
        {"norm.bias": {"dtype": LONG, "shape": [3], "data_offsets": [0, 12]}},
        {"norm.bias": {"dtype": "F32", "shape": [LONG], "data_offsets": [0, 12]}},
    ],
    ids=["unknown key", "damaged key", "dtype", "shape"],
)
def test_error_about_weight_file_is_short(entry, model, tmp_path):
    header = json.dumps(entry).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ValueError, match="`source` ") as raised:
        km.load_weights(model, path)
    assert len(str(raised.value)) < 3000


@pytest.mark.parametrize(
    "rate", ["a", 10**400, float("nan"), -1.0], ids=["text", "large", "NaN", "negative"]
)
def test_learning_rate_that_is_assigned_is_checked(rate):
    optimizer = km.training.LayerwiseAdamW(km.training.WarmUp(0.1, steps=10))
    with pytest.raises((TypeError, ValueError), match="`learning_rate` must be a finite number"):
        optimizer.learning_rate = rate


@pytest.mark.parametrize("suffix", [".html", ".gif"])
def test_folder_at_path_is_kept(suffix, model, tmp_path):
    folder = tmp_path / f"folder{suffix}"
    folder.mkdir()
    (folder / "data").write_text("kept")
    with pytest.raises(ValueError, match="`path` must name a file, not a folder"):
        if suffix == ".html":
            km.visualize.attention_explorer(model, IMAGES, folder)
        else:
            km.visualize.animate_attention(model, IMAGES[0], folder)
    assert (folder / "data").read_text() == "kept"


def test_numbers_of_numpy_are_accepted():
    assert arguments.integer("x", np.int32(3)) == 3
    assert arguments.real("x", np.float32(0.5), 0.0) == 0.5
    assert arguments.flag("x", np.bool_(True)) is True
    assert arguments.class_names(np.array(["a", "b"]), 2) == ["a", "b"]


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "{", ""])
def test_parse_json_raises_value_error(text):
    with pytest.raises(ValueError):
        parse_json(text)
