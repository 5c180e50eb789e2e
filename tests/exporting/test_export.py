"""Exports: the model's answers, from a file, in a runtime that has no Keras; or nothing at all."""

import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from cases import MODELS

import keras_mixers as km
from keras_mixers.exporting import verify
from keras_mixers.exporting.formats import FORMATS
from keras_mixers.exporting.serving import Serving

PATHS = [f"model{module.SUFFIX}" for module in FORMATS]


def snapshot(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_onnx_runs_in_a_process_without_tensorflow(tmp_path):
    case = MODELS[0]
    model = case.make()
    km.export(model, tmp_path / "model.onnx")
    np.save(tmp_path / "images.npy", case.images())
    program = """
import sys
for module in ("tensorflow", "keras", "keras_mixers", "jax"):
    sys.modules[module] = None  # importing it fails
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("model.onnx")
np.save("logits.npy", session.run(["logits"], {"images": np.load("images.npy")})[0])
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    expected = np.asarray(model(case.images(), training=False))
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, atol=1e-5)


def test_any_functional_model_of_these_layers_exports(tmp_path):
    inputs = keras.Input((8, 12, 2))
    features = MODELS[0].make(num_classes=0)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3, activation="gelu")(features))
    assert km.export(model, tmp_path / "outer.onnx").largest_difference < 1e-5


IN_STRUCTURES = {
    "Sequential": lambda x, inner: keras.Sequential([x, inner]),
    "list": lambda x, inner: keras.Model(x, [inner(x)]),
    "dict": lambda x, inner: keras.Model(x, {"o": inner(x)}),
}


@pytest.mark.parametrize(
    ("structure", "name"),
    [*((structure, PATHS[0]) for structure in IN_STRUCTURES), *(("dict", p) for p in PATHS[1:])],
)
def test_one_output_in_any_structure(structure, name, tmp_path):
    model = IN_STRUCTURES[structure](keras.Input((8, 12, 2)), MODELS[0].make())
    assert km.export(model, tmp_path / name).largest_difference < 1e-5


@pytest.mark.parametrize("name", PATHS)
def test_an_export_replaces_the_one_before_and_leaves_nothing_else(name, tmp_path):
    one, other = MODELS[0].make(), MODELS[0].make()
    km.export(one, tmp_path / name)
    before = snapshot(tmp_path)
    km.export(other, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert snapshot(tmp_path) != before


@pytest.mark.parametrize(
    ("error", "name"),
    [
        *((KeyboardInterrupt, name) for name in PATHS),
        *((e, PATHS[0]) for e in (RuntimeError, OSError)),
    ],
)
def test_a_failed_export_leaves_the_one_before(error, name, tmp_path, monkeypatch):
    model = MODELS[0].make()
    km.export(model, tmp_path / name)
    before = snapshot(tmp_path)

    def fail(*_args):
        raise error("stopped")

    monkeypatch.setattr(verify, "largest_difference", fail)
    with pytest.raises(error, match="stopped"):
        km.export(model, tmp_path / name)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(("runtime", "name"), list(zip(FORMATS, PATHS, strict=True)))
def test_a_file_with_other_answers_is_not_put_in_place(runtime, name, tmp_path, monkeypatch):
    load = runtime.load

    def wrong(path):
        run = load(path)
        return lambda images: {"logits": run(images)["logits"] + 2e-4}

    monkeypatch.setattr(runtime, "load", wrong)
    message = "'logits' differs from the model's by 2.0.e-04 at batch 1.*1.00e-04"
    with pytest.raises(RuntimeError, match=message):
        km.export(MODELS[0].make(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_an_answer_that_is_not_a_number_is_not_put_in_place(tmp_path):
    model = MODELS[0].make()
    model.get_layer("head").bias.assign([np.nan] * 5)
    with pytest.raises(RuntimeError, match="The model's own answers are not finite"):
        km.export(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def two_outputs():
    inputs = keras.Input((4,))
    return keras.Model(inputs, [keras.layers.Dense(1)(inputs), keras.layers.Dense(2)(inputs)])


def any_size():
    inputs = keras.Input((None, None, 3))
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))


def bytes_input():
    inputs = keras.Input((8, 12, 2), dtype="uint8")
    return keras.Model(inputs, MODELS[0].make()(keras.layers.Rescaling(1 / 255)(inputs)))


def no_attention():
    return next(case for case in MODELS if case.id == "mlp_mixer").make()


def quantized():
    inputs = keras.Input((8, 12, 2))
    dense = keras.layers.Dense(5, name="classes")
    model = keras.Model(inputs, dense(keras.layers.GlobalAveragePooling2D()(inputs)))
    dense.quantize("int8")
    return model


@pytest.mark.parametrize(
    ("model", "path", "message"),
    [
        (lambda: "vit", "model.onnx", "`model` must be a built functional.*'vit'"),
        (two_outputs, "model.onnx", "`model` must be a built functional.*one output"),
        (
            any_size,
            "model.onnx",
            r"`model` must take images.*of a known size.*\(None, None, None, 3\)",
        ),
        (MODELS[0].make, "model.keras", "`path` must end in '.onnx' or '.tflite'.*model.keras"),
        (
            lambda: MODELS[0].make(dtype="bfloat16"),
            "model.onnx",
            "`model` must hold its weights in float32.*patch_embed.*bfloat16.*dtype='float32'",
        ),
        (bytes_input, "model.onnx", "`model` must take images of floats.*uint8"),
        (no_attention, "model.onnx", "`attention_maps` needs a MultiHeadSelfAttention"),
        (quantized, "model.onnx", "`model` must not be quantized by Keras.*classes.*int8"),
        (MODELS[0].make, ".", "`path` must name a file or folder"),
        (MODELS[0].make, "nowhere/model.onnx", "`path` must lie in a folder that exists.*nowhere"),
        (MODELS[0].make, "a_file", "`path` must end in '.onnx'.*a_file"),
        (MODELS[0].make, "a_folder", "`path` is a folder that holds something other.*a_folder"),
        (MODELS[0].make, "a_folder.onnx", "`path` must name a file, not a folder.*a_folder.onnx"),
    ],
)
def test_what_cannot_be_exported_is_named(model, path, message, tmp_path, monkeypatch):
    (tmp_path / "a_file").write_text("precious")
    (tmp_path / "a_folder").mkdir()
    (tmp_path / "a_folder" / "thesis.tex").write_text("precious")
    (tmp_path / "a_folder.onnx").mkdir()
    before = snapshot(tmp_path)
    options = {"attention_maps": True} if model is no_attention else {}
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        km.export(model(), path, **options)
    assert snapshot(tmp_path) == before


def test_another_backend_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match="goes through TensorFlow.*'jax'.*KERAS_BACKEND"):
        km.export(MODELS[0].make(), tmp_path / "model.onnx")


def test_a_path_must_be_one():
    with pytest.raises(TypeError, match="`path` must be a string or a path.*path=3"):
        km.export(MODELS[0].make(), 3)


def test_an_answer_of_another_shape_is_not_taken():
    serving = Serving(MODELS[0].make())
    for answer, shape in ({"logits": np.zeros((1, 1))}, r"\(1, 1\)"), ({}, "None"):
        with pytest.raises(RuntimeError, match=rf"gives 'logits' of shape {shape}.*\(1, 5\)"):
            verify.largest_difference(serving, serving.compiled(), lambda _, a=answer: a)


def test_paths_may_be_strings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = km.export(MODELS[0].make(), "model.onnx")
    assert report.path == pathlib.Path("model.onnx")
    assert str(report).startswith("model.onnx: onnx in float32, 0.")


OPTIONS = [
    ("model.onnx", {"target": "tensorrt"}, "`target` must be one of 'onnx', 'onnxruntime'"),
    (
        "saved_model",
        {"target": "onnxruntime"},
        "`target` must be 'onnx' for the format 'saved_model'.*'onnxruntime'",
    ),
    ("model.onnx", {"dtype": "float64"}, "`dtype` must be one of 'float32', 'float16'"),
    (
        "model.tflite",
        {"dtype": "float16"},
        "`dtype` must be 'float32' for the format 'tflite'.*'float16'",
    ),
    ("model.onnx", {"quantize": "int4"}, "`quantize` must be one of None, 'int8', 'float16'"),
    (
        "saved_model",
        {"quantize": "int8"},
        "`quantize` must be None for the format 'saved_model'.*dtype='float16'",
    ),
    (
        "model.onnx",
        {"quantize": "int8", "dtype": "float16"},
        "`quantize` takes a model in float32.*dtype='float16'",
    ),
    ("model.onnx", {"attention_maps": 1}, "`attention_maps` must be True or False"),
    ("model.onnx", {"preprocessing": 224}, "`preprocessing` must be a keras_mixers.Preprocessing"),
    (
        "model.onnx",
        {"preprocessing": km.Preprocessing(8)},
        r"`preprocessing` must make images of the model's size.*\(8, 8\).*\(8, 12\)",
    ),
    (
        "model.onnx",
        {"preprocessing": km.Preprocessing((8, 12))},
        "`mean` must have one number for each channel.*2 channels",
    ),
    (
        "model.tflite",
        {"preprocessing": km.Preprocessing((8, 12), mean=0.5, std=0.5)},
        "`preprocessing` must be None for the format 'tflite'",
    ),
    ("model.onnx", {"class_names": ["a", "b"]}, "`class_names` must be 5 strings.*2: .'a', 'b'"),
    ("model.onnx", {"class_names": [1, 2, 3, 4, 5]}, "`class_names` must be 5 strings"),
    ("model.onnx", {"class_names": "abcde"}, "`class_names` must be 5 strings.*'abcde'"),
    (
        "model.onnx",
        {"quantize": "int8", "calibration_data": []},
        "`calibration_data` must have an image",
    ),
    (
        "model.onnx",
        {"quantize": "int8", "calibration_data": np.zeros((3, 8, 8, 2), "float32")},
        r"`calibration_data` must hold.*float32.*\(None, 8, 12, 2\).*\(3, 8, 8, 2\)",
    ),
    (
        "model.onnx",
        {"quantize": "int8", "calibration_data": np.zeros((3, 8, 12, 2), "uint8")},
        "`calibration_data` must hold what the file takes: float32.*uint8",
    ),
    (
        "model.onnx",
        {"quantize": "int8", "calibration_data": 5},
        "`calibration_data` must be an array.*calibration_data=5",
    ),
    (
        "model.onnx",
        {"calibration_data": np.zeros((3, 8, 12, 2), "float32")},
        "`calibration_data` is for `quantize`.*quantize=None",
    ),
    (
        "model.onnx",
        {"quantize": "int8", "calibration_data": np.full((3, 8, 12, 2), np.nan, "float32")},
        "`calibration_data` must be finite",
    ),
    ("model.onnx", {"class_names": 5}, "`class_names` must be 5 strings.*class_names=5"),
    (
        "model.tflite",
        {"class_names": list("abcde")},
        "`class_names` must be None for the format 'tflite'",
    ),
    (
        "model.onnx",
        {"dtype": "float16", "preprocessing": km.Preprocessing((8, 12), mean=0.5, std=0.5)},
        "`dtype` must be 'float32' for the format 'onnx'.*with `preprocessing`",
    ),
]


@pytest.mark.parametrize(("name", "options", "message"), OPTIONS, ids=lambda part: str(part)[:40])
def test_wrong_options_are_named_before_anything_is_written(name, options, message, tmp_path):
    with pytest.raises((ValueError, TypeError), match=message):
        km.export(MODELS[0].make(), tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


def test_a_model_that_ends_in_softmax_has_no_logits_to_serve(tmp_path):
    inputs = keras.Input((8, 12, 2))
    features = MODELS[0].make(num_classes=0)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3, "softmax", name="classes")(features))
    preprocessing = km.Preprocessing((8, 12), mean=0.5, std=0.5)
    with pytest.raises(ValueError, match="`model` must end in logits.*'classes', applies softmax"):
        km.export(model, tmp_path / "model.onnx", preprocessing=preprocessing)


class Undoable(keras.layers.Layer):
    """An operator that no target has."""

    def call(self, x):
        return keras.ops.erfinv(x)


class Shouting(keras.layers.Layer):
    """An operator that reaches outside."""

    def call(self, x):
        import tensorflow as tf

        @tf.function
        def say(x):
            tf.print(x)
            return x

        return say(x)


@pytest.mark.parametrize(
    ("layer", "name", "message"),
    [
        (Undoable, "model.onnx", "needs the operator 'Erfinv', of node '.*bad.*'"),
        (Undoable, "model.tflite", "TensorFlow Lite cannot hold the model.*Erfinv"),
        (Shouting, "saved_model", "needs the operator 'PrintV2', of node"),
    ],
)
def test_an_operator_that_is_not_to_be_had_is_named(layer, name, message, tmp_path):
    inputs = keras.Input((8, 12, 2))
    model = keras.Model(inputs, MODELS[0].make()(layer(name="bad")(inputs)))
    km.export(MODELS[0].make(), tmp_path / name)
    before = snapshot(tmp_path)
    with pytest.raises(RuntimeError, match=message):
        km.export(model, tmp_path / name)
    assert snapshot(tmp_path) == before


def test_a_full_disk_leaves_the_files_before(tmp_path):
    """The kernel refuses to write more than 20 kB, as a full disk refuses."""
    names = PATHS[::2]  # a TensorFlow Lite file is written as an ONNX file is
    for name in names:
        km.export(MODELS[0].make(), tmp_path / name)
    before = snapshot(tmp_path)
    program = f"""
import resource, signal, sys
sys.path.insert(0, {str(pathlib.Path(__file__).parents[1])!r})
from cases import MODELS
import keras_mixers as km
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for name in {names!r}:
    try:
        km.export(MODELS[0].make(), name)
    except Exception as error:
        print(name, str(error).replace(chr(10), " "))
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    refused = [line for line in ended.stdout.splitlines() if line.startswith(tuple(names))]
    assert [line.split()[0] for line in refused] == names, ended.stdout + ended.stderr[-500:]
    for why in refused:
        assert "File too large" in why or "out of space" in why, why
    assert snapshot(tmp_path) == before


def test_an_export_that_is_killed_leaves_the_file_before(tmp_path):
    """Killed when the new file is whole and about to take its place."""
    km.export(MODELS[0].make(), tmp_path / "model.onnx")
    before = (tmp_path / "model.onnx").read_bytes()
    program = f"""
import os, signal, sys
sys.path.insert(0, {str(pathlib.Path(__file__).parents[1])!r})
from cases import MODELS
import keras_mixers as km
from keras_mixers.exporting import verify
verify.latency = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
km.export(MODELS[0].make(), "model.onnx")
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=False)
    assert ended.returncode == -9
    assert (tmp_path / "model.onnx").read_bytes() == before


OPTIONS = [{}, {"target": "onnxruntime"}, {"attention_maps": True}, {"quantize": "int8"}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_model_is_as_it_was(options, tmp_path):
    """After exports of each kind and after one that fails; what a user has put on a layer too."""
    inputs = keras.Input((8, 12, 2))
    shift = keras.layers.Dense(2, activation="gelu")
    x = MODELS[0].make(dtype="mixed_float16")(shift(inputs))
    model = keras.Model(inputs, Undoable(name="bad")(x))
    fine = keras.Model(inputs, x)
    shift.call = lambda x, training=None: 2 * x
    model.layers[-1].activation = ["relu"]
    images = MODELS[0].images()
    before = np.asarray(fine(images))
    inside = model._flatten_layers()
    keys = ("call", "activation", "_dtype_policy")
    held = [{key: vars(layer).get(key) for key in keys} for layer in inside]
    km.export(fine, tmp_path / "model.onnx", **options)
    with pytest.raises(RuntimeError, match="Erfinv"):
        km.export(model, tmp_path / "model.onnx")
    for layer, values in zip(inside, held, strict=True):
        assert all(vars(layer).get(key) is value for key, value in values.items()), layer.path
    np.testing.assert_array_equal(np.asarray(fine(images)), before)


def test_a_folder_with_something_else_in_it_is_not_replaced(tmp_path):
    km.export(MODELS[0].make(), tmp_path / "saved_model")
    (tmp_path / "saved_model" / "notes.txt").write_text("precious")
    with pytest.raises(ValueError, match="holds something other than a SavedModel.*'notes.txt'"):
        km.export(MODELS[0].make(), tmp_path / "saved_model")


def test_what_stands_beside_a_file_goes_if_the_file_fails(tmp_path):
    from keras_mixers import files

    (tmp_path / "there").write_text("before")
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "in the way").write_text("precious")

    def fail():
        with files.replacing(tmp_path / "file") as temporary:
            temporary.with_name("beside").write_text("new")
            temporary.with_name("there").write_text("after")

    with pytest.raises(FileNotFoundError):  # the body has written no file of that name
        fail()
    assert {path.name for path in tmp_path.iterdir()} == {"there", "file"}
    assert (tmp_path / "file" / "in the way").read_text() == "precious"
