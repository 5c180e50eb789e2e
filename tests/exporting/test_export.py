"""`km.export`: the file returns the model's outputs, or nothing is written."""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

import keras
import numpy as np
import onnx
import pytest
from cases import ModelCase, case, random_weights

import keras_mixers as km
from keras_mixers import files
from keras_mixers.exporting import onnx as onnx_format, verify
from keras_mixers.exporting.formats import FORMATS
from keras_mixers.exporting.onnx import file as onnx_file
from keras_mixers.exporting.serving import Serving
from keras_mixers.graph import all_layers

BY_PATH = [module for module in FORMATS if module.FORMAT != "web"]  # which needs `format`
PATHS = [f"model{module.SUFFIX}" for module in BY_PATH]


def smallest(_variant, input_shape, num_classes, dtype=None):
    """A model that is exported in 0.1 s, because most tests here are about files."""
    images = keras.Input(input_shape)
    x = km.layers.PatchEmbed(8, 4, dtype=dtype, name="patch_embed")(images)
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(images, keras.layers.Dense(num_classes, name="head")(x))


MODELS = [ModelCase("smallest", smallest, "", {})]


def snapshot(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.slow
def test_onnx_runs_without_tensorflow(tmp_path):
    vit = case("vit")
    model = vit.make()
    km.export(model, tmp_path / "model.onnx")
    np.save(tmp_path / "images.npy", vit.images())
    program = """
import sys
for module in ("tensorflow", "keras", "keras_mixers", "jax"):
    sys.modules[module] = None  # importing it fails
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("model.onnx")
np.save("logits.npy", session.run(["logits"], {"images": np.load("images.npy")})[0])
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    expected = np.asarray(model(vit.images(), training=False))
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, atol=1e-5)


def test_export_accepts_nested_functional_model(tmp_path):
    inputs = keras.Input((8, 12, 2))
    features = case("vit").make(num_classes=0)(inputs)
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
def test_export_accepts_output_in_any_structure(structure, name, tmp_path):
    model = IN_STRUCTURES[structure](keras.Input((8, 12, 2)), MODELS[0].make())
    report = km.export(model, tmp_path / name, class_names=list("abcde"))
    assert report.largest_difference < 1e-5


def two_outputs(first="my_map", second="raw"):
    images = keras.Input((8, 12, 2))
    raw = keras.layers.Conv2D(3, 4, name=second)(images)
    return keras.Model(images, [keras.layers.ReLU(name=first)(raw), raw])


@pytest.mark.parametrize(("file_format", "name"), list(zip(BY_PATH, PATHS, strict=True)))
def test_several_outputs_have_the_names_of_their_layers(file_format, name, tmp_path):
    model, images = random_weights(two_outputs()), case("vit").images(2)
    report = km.export(model, tmp_path / name)
    outputs = file_format.load(tmp_path / name)(images)
    assert sorted(outputs) == ["my_map", "raw"]
    for output, expected in zip(("my_map", "raw"), model(images), strict=True):
        np.testing.assert_allclose(outputs[output], expected, atol=1e-4)
    assert report.largest_difference < 1e-4
    with pytest.raises(ValueError, match="`class_names` must be None for a model with several"):
        km.export(model, tmp_path / name, class_names=["a"] * 3)


def test_several_outputs_may_have_the_names_of_a_classifiers_outputs():
    model = random_weights(two_outputs("logits", "probabilities"))
    preprocessing = km.Preprocessing((8, 12), mean=0.5, std=0.5)
    images = np.random.default_rng(0).integers(0, 256, (1, 8, 12, 2), "uint8")
    outputs = Serving(model, preprocessing)(images)
    for name, expected in zip(
        ("logits", "probabilities"), model(preprocessing(images)), strict=True
    ):
        np.testing.assert_allclose(outputs[name], expected, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"quantize": "int8"}, {"preprocessing": "uint8"}])
def test_feature_maps_are_exported(options, tmp_path):
    model = random_weights(case("vit").make(input_shape=(8, 12, 3)))
    maps = km.feature_maps(model, (0, 1), prefix_tokens=True)
    if "preprocessing" in options:
        options = {"preprocessing": km.Preprocessing((8, 12), mean=0.5, std=0.5)}
    report = km.export(maps, tmp_path / "maps.onnx", **options)
    outputs = onnx.load(report.path).graph.output
    assert [output.name for output in outputs] == [
        *("block_0_map", "block_0_prefix_tokens", "block_1_map", "block_1_prefix_tokens")
    ]
    assert report.agreement is None
    assert report.largest_difference < (1 if options.get("quantize") else 1e-4)


@pytest.mark.parametrize("name", PATHS)
def test_export_replaces_previous_export(name, tmp_path):
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
def test_failed_export_keeps_previous_export(error, name, tmp_path, monkeypatch):
    model = MODELS[0].make()
    km.export(model, tmp_path / name)
    before = snapshot(tmp_path)

    def fail(*_args):
        raise error("stopped")

    monkeypatch.setattr(verify, "largest_difference", fail)
    with pytest.raises(error, match="stopped"):
        km.export(model, tmp_path / name)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(("file_format", "name"), list(zip(BY_PATH, PATHS, strict=True)))
def test_export_rejects_file_with_wrong_outputs(file_format, name, tmp_path, monkeypatch):
    load = file_format.load

    def load_wrong(path):
        run = load(path)
        return lambda images: {"logits": run(images)["logits"] + 2e-4}

    monkeypatch.setattr(file_format, "load", load_wrong)
    message = "'logits' differs from the model's by 2.0.e-04 at batch 1.*1.00e-04"
    with pytest.raises(RuntimeError, match=message):
        km.export(MODELS[0].make(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_export_rejects_nan_outputs(tmp_path):
    model = MODELS[0].make()
    model.get_layer("head").bias.assign([np.nan] * 5)
    with pytest.raises(RuntimeError, match="The model's outputs are NaN or infinite"):
        km.export(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def two_inputs():
    inputs = [keras.Input((8, 12, 2)), keras.Input((8, 12, 2))]
    return keras.Model(inputs, keras.layers.Add()(inputs))


def equal_names():
    inner = two_outputs()
    return keras.Model(inner.input, [*inner.outputs, inner.outputs[0]])


def any_size():
    inputs = keras.Input((None, None, 3))
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))


def uint8_input():
    inputs = keras.Input((8, 12, 2), dtype="uint8")
    return keras.Model(inputs, MODELS[0].make()(keras.layers.Rescaling(1 / 255)(inputs)))


def no_attention():
    return case("mlp_mixer").make()


def quantized():
    inputs = keras.Input((8, 12, 2))
    dense = keras.layers.Dense(5, name="classes")
    model = keras.Model(inputs, dense(keras.layers.GlobalAveragePooling2D()(inputs)))
    dense.quantize("int8")
    return model


@pytest.mark.parametrize(
    ("model", "path", "message"),
    [
        (
            lambda: "vit",
            "model.onnx",
            "`model` must be a built functional.*'vit'; load it with keras.models.load_model$",
        ),
        (two_inputs, "model.onnx", "`model` must be a built functional.*one input"),
        (equal_names, "model.onnx", "`model` must have outputs of different names.*'my_map', 'ra"),
        (
            lambda: two_outputs("attention_0"),
            "model.onnx",
            "`model` must have outputs of.*not 'images' or 'attention_0'.*'raw'",
        ),
        (
            any_size,
            "model.onnx",
            r"`model` must take images.*of a known size.*\(None, None, None, 3\)",
        ),
        (MODELS[0].make, "model.keras", "`path` must end in '.onnx' or '.tflite'.*model.keras"),
        (MODELS[0].make, "model.onx", "`path` must end in '.onnx' or '.tflite'.*model.onx"),
        (MODELS[0].make, "model.TFlit", "`path` must end in '.onnx' or '.tflite'.*model.TFlit"),
        (
            lambda: MODELS[0].make(dtype="bfloat16"),
            "model.onnx",
            "`model` must hold its weights in float32.*patch_embed.*bfloat16.*dtype='float32'",
        ),
        (uint8_input, "model.onnx", "`model` must take images in a float dtype.*uint8"),
        (
            no_attention,
            "model.onnx",
            "`attention_maps` must be False for a model without MultiHeadSelfAttention",
        ),
        (quantized, "model.onnx", "`model` must not be quantized by Keras.*classes.*int8"),
        (MODELS[0].make, ".", "`path` must name a file or folder"),
        (
            MODELS[0].make,
            "nowhere/model.onnx",
            "`path` must lie in a folder that exists.*the folder 'nowhere' does not exist$",
        ),
        (MODELS[0].make, "a_file", "`path` must end in '.onnx'.*a_file.*not a folder"),
        (MODELS[0].make, "/dev/null", "`path` must end in '.onnx'.*/dev/null.*not a folder"),
        (
            MODELS[0].make,
            "a_folder",
            "`path` must name a new or empty folder.*for the format 'saved_model'.*a_folder",
        ),
        (MODELS[0].make, "a_folder.onnx", "`path` must name a file, not a folder.*a_folder.onnx"),
    ],
)
def test_export_rejects_invalid_model_or_path(model, path, message, tmp_path, monkeypatch):
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


def test_export_rejects_path_of_wrong_type():
    with pytest.raises(TypeError, match="`path` must be a string or a path.*path=3"):
        km.export(MODELS[0].make(), 3)


def test_verify_rejects_missing_or_misshaped_outputs():
    serving = Serving(MODELS[0].make())
    for outputs, shape in ({"logits": np.zeros((1, 1))}, r"\(1, 1\)"), ({}, "None"):
        with pytest.raises(RuntimeError, match=rf"returns 'logits' of shape {shape}.*\(1, 5\)"):
            verify.largest_difference(serving, serving.compiled(), lambda _, y=outputs: y)


def test_export_accepts_path_as_string(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = km.export(MODELS[0].make(), "model.onnx")
    assert report.path == pathlib.Path("model.onnx")
    assert str(report).startswith("model.onnx: onnx in float32, 0.")


INVALID_OPTIONS = [
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
        "`quantize` must be None if `dtype` is not 'float32'.*dtype='float16'",
    ),
    ("model.onnx", {"attention_maps": 1}, "`attention_maps` must be True or False"),
    ("model.onnx", {"sensitivity": 1}, "`sensitivity` must be True or False"),
    ("model.onnx", {"keep_float": "head"}, "`keep_float` must be a tuple of paths.*'head'"),
    (
        "model.onnx",
        {"keep_float": ("head",)},
        r"`keep_float` and `sensitivity` must be .* without quantize='int8'.*\('head',\)",
    ),
    (
        "model.onnx",
        {"quantize": "int8", "keep_float": ["head", "patch_embed"]},
        r"`keep_float` must name layers that.*: , or.*Received: keep_float=\['patch_embed'\]",
    ),
    (
        "model.tflite",
        {"quantize": "int8", "sensitivity": True},
        "`sensitivity` must be False for the format 'tflite'.*'.onnx'",
    ),
    ("model.onnx", {"preprocessing": 224}, "`preprocessing` must be .*Preprocessing, 'model'"),
    ("model.onnx", {"preprocessing": "inside"}, "'outside' .* or None.*preprocessing='inside'"),
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
        r"`picture_size` must be \(height, width\) for the format 'tflite'.*float64.*'outside'",
    ),
    (
        "model.tflite",
        {"preprocessing": None, "picture_size": 40},
        "`picture_size` must be None, except.*picture_size=40.*preprocessing=None$",
    ),
    (
        "model.tflite",
        {"picture_size": 40},
        "picture_size=40.*preprocessing='model', which the model lacks; set model.preprocessing$",
    ),
    (
        "model.tflite",
        {
            "preprocessing": km.Preprocessing((8, 12), mean=0.5, std=0.5),
            "picture_size": (1, 2**18 + 1),
        },
        r"`picture_size` must have at most 67108864 .* 262144 on one side.*\(1, 262145\)",
    ),
    (
        "model.onnx",
        {"preprocessing": km.Preprocessing((8, 12), mean=0.5, std=0.5), "picture_size": 40},
        "`picture_size` must be None, except.*picture_size=40 for the format 'onnx'",
    ),
    (
        "model.tflite",
        {
            "preprocessing": km.Preprocessing((8, 12), mean=0.5, std=0.5),
            "picture_size": 40,
            "quantize": "int8",
        },
        "`quantize` must not be 'int8' with `picture_size`.*'float16'",
    ),
    ("model.onnx", {"class_names": ["a", "b"]}, "`class_names` must be 5 strings.*2: .'a', 'b'"),
    ("model.onnx", {"class_names": [1, 2, 3, 4, 5]}, "`class_names` must be 5 strings"),
    ("model.onnx", {"class_names": "abcde"}, "`class_names` must be 5 strings.*'abcde'"),
    (
        "model.onnx",
        {"quantize": "int8", "calibration_data": []},
        "`calibration_data` must hold at least one image",
    ),
    (
        "model.onnx",
        {"quantize": "int8", "calibration_data": np.zeros((3, 8, 8, 2), "float32")},
        r"`calibration_data` must hold.*float32.*\(None, 8, 12, 2\).*\(3, 8, 8, 2\)",
    ),
    (
        "model.onnx",
        {"quantize": "int8", "calibration_data": np.zeros((3, 8, 12, 2), "uint8")},
        "`calibration_data` must hold images as the file takes them: float32.*uint8",
    ),
    (
        "model.onnx",
        {"quantize": "int8", "calibration_data": 5},
        "`calibration_data` must be an array.*calibration_data=5",
    ),
    *(
        (
            "model.onnx",
            {"quantize": "int8", "calibration_data": data},
            r"`calibration_data` must hold .* not paths: .*PIL.Image.open.*cat.jpg'",
        )
        for data in ("cat.jpg", ["cat.jpg"], [pathlib.Path("cat.jpg")])
    ),
    (
        "model.onnx",
        {"calibration_data": np.zeros((3, 8, 12, 2), "float32")},
        "`calibration_data` must be None without `quantize`.*quantize=None",
    ),
    (
        "model.onnx",
        {"quantize": "int8", "calibration_data": np.full((3, 8, 12, 2), np.nan, "float32")},
        "`calibration_data` must be finite",
    ),
    ("model.onnx", {"class_names": 5}, "`class_names` must be 5 strings.*class_names=5"),
    ("model.onnx", {"batch": 0}, "`batch` must be an integer from 1.*batch=0"),
    ("model.tflite", {"batch": "1"}, "`batch` must be an integer from 1.*batch='1'"),
    (
        "model.onnx",
        {"dtype": "float16", "preprocessing": km.Preprocessing((8, 12), mean=0.5, std=0.5)},
        "`dtype` must be 'float32' for the format 'onnx'.*with `preprocessing`",
    ),
]


def test_misspelt_layer_is_refused_before_the_conversion(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_format, "save", None)  # calling it is a TypeError
    model, int8 = case("vit").make(), {"quantize": "int8"}
    for name, message in [
        ("block_0_attention/qkv", "Did you mean 'block_0_attention/attention/qkv'.*?"),
        ("nowhere", r"\['nowhere'\]; layers: \['patch_embed/projection', 'block_0_atten.*'head'\]"),
    ]:
        with pytest.raises(ValueError, match=f"must name layers of the model.*{message}$"):
            km.export(model, tmp_path / "m.onnx", keep_float=["head", name], **int8)
    for known in ("block_0_attention", "head", "block_1_attention/MatMul_2"):
        with pytest.raises(TypeError, match="not callable"):
            km.export(model, tmp_path / "m.onnx", keep_float=[known], **int8)


@pytest.mark.parametrize(
    ("name", "options", "message"), INVALID_OPTIONS, ids=lambda part: str(part)[:40]
)
def test_export_rejects_invalid_options_before_writing(name, options, message, tmp_path):
    with pytest.raises((ValueError, TypeError), match=message):
        km.export(MODELS[0].make(), tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


def with_facts(classes=5):
    model = MODELS[0].make(num_classes=classes)
    model = km.ImageModel(model.input, model.output)
    model.preprocessing = km.Preprocessing((8, 12), mean=0.5, std=0.5)
    model.class_names = ["good", "bad"] if classes == 1 else list("abcde")
    return model


def file_facts(path):
    """The dtype of the images in an ONNX file, and its class names."""
    model = onnx.load(path)
    names = {fact.key: fact.value for fact in model.metadata_props}.get("class_names")
    return model.graph.input[0].type.tensor_type.elem_type, names


def test_other_facts_than_the_models_can_be_exported(tmp_path):
    model, path = with_facts(), tmp_path / "model.onnx"
    km.export(model, path, preprocessing=None, class_names=None)
    assert file_facts(path) == (onnx.TensorProto.FLOAT, None)
    km.export(model, path, preprocessing=None, class_names=list("vwxyz"))
    assert file_facts(path)[1] == '["v", "w", "x", "y", "z"]'


def test_tflite_stores_the_models_class_names_and_ignores_its_preprocessing(tmp_path):
    (file_format,) = [module for module in FORMATS if module.FORMAT == "tflite"]
    model, images = with_facts(), case("vit").images(2)
    names = model.class_names = ["cat\nnip", *"bcde"]
    km.export(model, tmp_path / "model.tflite")
    outputs = file_format.load(tmp_path / "model.tflite")(images)
    np.testing.assert_allclose(outputs["logits"], model(images), atol=1e-4)
    assert list(outputs) == ["logits"]
    with zipfile.ZipFile(tmp_path / "model.tflite") as archive:
        assert archive.read("labels.txt").decode() == "cat\\nnip\nb\nc\nd\ne\n"
        assert json.loads(archive.read("keras_mixers.json"))["class_names"] == names


@pytest.mark.parametrize(("quantize", "tolerance"), [(None, 1e-5), ("float16", 1e-3)])
def test_tflite_prepares_pictures_of_one_size(quantize, tolerance, tmp_path):
    """Half precision rounds mean and std, but the bytes are exact: one level is 0.013."""
    (file_format,) = [module for module in FORMATS if module.FORMAT == "tflite"]
    images = keras.Input((8, 12, 2))
    model = km.ImageModel(images, keras.layers.Flatten()(images))
    model.preprocessing = km.Preprocessing((8, 12), mean=(0.4, 0.5), std=(0.3, 0.2))
    km.export(model, tmp_path / "model.tflite", picture_size=(30, 41), quantize=quantize)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 30, 41, 2), "uint8")
    outputs = file_format.load(tmp_path / "model.tflite")(pictures)
    found = outputs["logits"].reshape(2, 8, 12, 2)
    np.testing.assert_allclose(found, model.preprocessing(pictures), rtol=0, atol=tolerance)
    assert sorted(outputs) == ["logits", "probabilities"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float16"}, "`dtype` must.*with `preprocessing`"),
        (
            {"quantize": "int8", "calibration_data": np.zeros((3, 8, 12, 2), "float32")},
            "`calibration_data` must hold.*uint8.*Received: float32.*keras_mixers.data.images",
        ),
    ],
)
def test_option_that_conflicts_with_the_models_preprocessing_names_none(options, message, tmp_path):
    with pytest.raises(ValueError, match=f"{message}.*preprocessing=None"):
        km.export(with_facts(), tmp_path / "model.onnx", **options)
    assert not list(tmp_path.iterdir())
    assert km.export(with_facts(), tmp_path / "model.onnx", preprocessing=None, **options)


def test_file_of_one_output_stores_the_name_of_its_logit(tmp_path):
    model = with_facts(1)
    model.compile(loss="mse")
    with pytest.raises(ValueError, match="'mse'; preprocessing=None exports it without"):
        km.export(model, tmp_path / "model.onnx")
    km.export(model, tmp_path / "model.onnx", preprocessing=None)
    assert file_facts(tmp_path / "model.onnx") == (onnx.TensorProto.FLOAT, '["bad"]')


def test_export_rejects_softmax_model_with_preprocessing(tmp_path):
    inputs = keras.Input((8, 12, 2))
    features = case("vit").make(num_classes=0)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3, "softmax", name="classes")(features))
    preprocessing = km.Preprocessing((8, 12), mean=0.5, std=0.5)
    with pytest.raises(ValueError, match="`model` must end in logits.*'classes', applies softmax"):
        km.export(model, tmp_path / "model.onnx", preprocessing=preprocessing)


class Erfinv(keras.layers.Layer):
    """Uses an operator that no format supports."""

    def call(self, x):
        return keras.ops.erfinv(x)


class Printing(keras.layers.Layer):
    """Uses an operator that writes to the terminal."""

    def call(self, x):
        import tensorflow as tf

        @tf.function
        def print_and_return(x):
            tf.print(x)
            return x

        return print_and_return(x)


@pytest.mark.parametrize(
    ("layer", "name", "message"),
    [
        (Erfinv, "model.onnx", "needs the operator 'Erfinv', of node '.*bad.*'"),
        (Erfinv, "model.tflite", "TensorFlow Lite cannot convert the model.*Erfinv"),
        (Printing, "saved_model", "needs the operator 'PrintV2', of node"),
    ],
)
def test_export_names_unsupported_operator(layer, name, message, tmp_path):
    inputs = keras.Input((8, 12, 2))
    model = keras.Model(inputs, MODELS[0].make()(layer(name="bad")(inputs)))
    km.export(MODELS[0].make(), tmp_path / name)
    before = snapshot(tmp_path)
    with pytest.raises(RuntimeError, match=message):
        km.export(model, tmp_path / name)
    assert snapshot(tmp_path) == before


def test_full_disk_keeps_previous_files(tmp_path, limited_files):
    """Each write over 20 kB fails, as on a full disk."""
    names = ["model.onnx", "saved_model"]  # not TensorFlow Lite, which is written like ONNX
    for name in names:
        km.export(MODELS[0].make(), tmp_path / name)
    before = snapshot(tmp_path)
    for name in names:
        with limited_files(20_000), pytest.raises(Exception, match="File too large|out of space"):
            km.export(case("vit").make(), tmp_path / name)
    assert snapshot(tmp_path) == before


def test_killed_export_keeps_previous_file(tmp_path, monkeypatch):
    """What a kill leaves when the new file is complete, just before it replaces the old one."""
    km.export(random_weights(MODELS[0].make(), 1), tmp_path / "model.onnx")
    before, latencies, left = snapshot(tmp_path), verify.latencies, []

    def measured(*arguments):
        left.append(snapshot(tmp_path))
        return latencies(*arguments)

    monkeypatch.setattr(verify, "latencies", measured)
    km.export(random_weights(MODELS[0].make(), 2), tmp_path / "model.onnx")
    (left,) = left
    assert before.items() < left.items(), "the old file, and the new one in a hidden folder"
    assert snapshot(tmp_path)["model.onnx"] in set(left.values()) - set(before.values())


def test_killed_export_leaves_previous_weights_of_two_files(tmp_path, monkeypatch):
    """What a kill leaves between the moves of the second file and of the first."""
    monkeypatch.setattr(onnx_file, "LARGEST_FILE", 4_000)
    folder, killed, move = tmp_path / "folder", tmp_path / "killed", files.move

    def copy_and_move(*paths):
        shutil.copytree(folder, killed)
        move(*paths)

    def names():
        onnx.load(killed / "model.onnx")  # raises if its second file is missing
        return [path.name for path in killed.iterdir() if not path.name.startswith(".")]

    folder.mkdir()
    km.export(random_weights(case("vit").make(), 1), folder / "model.onnx")
    with monkeypatch.context() as patch:
        patch.setattr(files, "move", copy_and_move)
        km.export(random_weights(case("vit").make(), 2), folder / "model.onnx")
    assert (killed / "model.onnx").read_bytes() != (folder / "model.onnx").read_bytes()
    assert len(names()) == 3
    km.export(random_weights(case("vit").make(), 3), killed / "model.onnx")
    assert len(names()) == 2


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("model.onnx", {"quantize": "int8"}),
        ("model.onnx", {"quantize": "int8", "calibration_data": np.ones((1, 8, 12, 2), "float32")}),
        ("model.tflite", {}),
    ],
)
def test_export_writes_no_copies_into_the_system_folder(name, options, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "system"))  # which does not exist
    km.export(MODELS[0].make(), tmp_path / name, **options)
    assert [path.name for path in tmp_path.iterdir()] == [name]


OPTIONS = [{}, {"target": "onnxruntime"}, {"attention_maps": True}, {"quantize": "int8"}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_export_does_not_change_model(options, tmp_path):
    """No export, successful or failed, changes the model or a `call` that the user has set."""
    inputs = keras.Input((8, 12, 2))
    shift = keras.layers.Dense(2, activation="gelu")
    x = case("vit").make(dtype="mixed_float16")(shift(inputs))
    model = keras.Model(inputs, Erfinv(name="bad")(x))
    valid = keras.Model(inputs, x)
    shift.call = lambda x, training=None: 2 * x
    model.layers[-1].activation = ["relu"]
    images = case("vit").images()
    before = np.asarray(valid(images))
    parts = [model, *all_layers(model)]
    keys = ("call", "activation", "_dtype_policy")
    original = [{key: vars(layer).get(key) for key in keys} for layer in parts]
    km.export(valid, tmp_path / "model.onnx", **options)
    with pytest.raises(RuntimeError, match="Erfinv"):
        km.export(model, tmp_path / "model.onnx")
    for layer, values in zip(parts, original, strict=True):
        assert all(vars(layer).get(key) is value for key, value in values.items()), layer.path
    np.testing.assert_array_equal(np.asarray(valid(images)), before)


FOREIGN_FOLDERS = {
    "file": (["notes.txt"], "notes.txt"),
    "only assets": (["assets/logo.png"], "assets/logo.png"),
    "only variables": (["variables/model.csv"], "variables/model.csv"),
    "empty folders": (["assets/", "variables/"], "without 'assets.extra/keras_mixers.json'"),
    "another SavedModel": (
        ["saved_model.pb", "variables/variables.index"],
        "without 'assets.extra/keras_mixers.json'",
    ),
    "another SavedModel with assets": (["saved_model.pb", "assets/words.txt"], "assets/words.txt"),
    "no graph": (["assets.extra/keras_mixers.json"], "without 'saved_model.pb'"),
    "hidden folder": ([".git/"], ".git"),
    "folder with a known name": (["saved_model.pb/"], "saved_model.pb"),
}


@pytest.mark.parametrize(("names", "found"), FOREIGN_FOLDERS.values(), ids=FOREIGN_FOLDERS)
def test_export_rejects_folder_of_others(names, found, tmp_path):
    for name in names:
        file = tmp_path / "site" / name
        (file if name.endswith("/") else file.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            file.write_text("precious")
    before = sorted(tmp_path.rglob("*")), snapshot(tmp_path)
    with pytest.raises(ValueError, match=f"holds only what `export` wrote.*site.*{found}"):
        km.export(MODELS[0].make(), tmp_path / "site")
    assert (sorted(tmp_path.rglob("*")), snapshot(tmp_path)) == before


@pytest.mark.parametrize(
    "name", ["notes.txt", "assets/x", "assets.extra/x", "variables/x", "variables/link"]
)
def test_export_keeps_other_files_in_an_export(name, tmp_path):
    path = tmp_path / "saved_model"
    km.export(MODELS[0].make(), path)
    if name.endswith("link"):
        (path / name).symlink_to(path / "saved_model.pb")
    else:
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text("precious")
    before = snapshot(tmp_path)
    with pytest.raises(ValueError, match=f"holds only what `export` wrote.*{name}"):
        km.export(MODELS[0].make(), path)
    assert snapshot(tmp_path) == before


def test_export_keeps_files_written_during_the_export(tmp_path, monkeypatch):
    path = tmp_path / "saved_model"
    km.export(MODELS[0].make(), path)
    latencies = verify.latencies

    def write_notes(*arguments):
        (path / "notes.txt").write_text("precious")
        return latencies(*arguments)

    monkeypatch.setattr(verify, "latencies", write_notes)
    before = snapshot(tmp_path)
    with pytest.raises(IsADirectoryError, match="saved_model"):
        km.export(MODELS[0].make(), path)
    assert snapshot(tmp_path) == {**before, "saved_model/notes.txt": b"precious"}


def test_export_replaces_empty_folder_and_target_of_link(tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "link").symlink_to("new")
    for _ in range(2):
        km.export(MODELS[0].make(), tmp_path / "link")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "new" / "saved_model.pb").is_file()


def test_replacing_removes_companions_after_failure(tmp_path):
    (tmp_path / "existing").write_text("before")
    (tmp_path / "file").write_text("precious")

    def fail():
        with files.replacing(tmp_path / "file") as temporary:
            temporary.with_name("companion").write_text("new")
            temporary.with_name("existing").write_text("after")

    with pytest.raises(FileNotFoundError):  # because `fail` does not write `temporary`
        fail()
    assert {path.name for path in tmp_path.iterdir()} == {"existing", "file"}
    assert (tmp_path / "file").read_text() == "precious"


def test_saved_model_leaves_no_temporary_files(tmp_path, monkeypatch):
    """AutoGraph removes its files when the process ends, so a killed process would leave them."""
    from tensorflow.python.autograph.impl import api

    monkeypatch.setattr(api, "_TRANSPILER", api.PyToTF())  # which has converted nothing yet
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    km.export(MODELS[0].make(), tmp_path / "site")
    assert not list(temporary.glob("*.py"))
    assert {path.name for path in tmp_path.iterdir()} == {"site", "temporary"}
