"""Exports: the model's answers, from a file, in a runtime that has no Keras; or nothing at all."""

import pathlib
import subprocess
import sys

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from cases import MODELS

import keras_mixers as km
from keras_mixers.export import onnx as onnx_target, saved_model, verify

ids = pytest.mark.parametrize("case", MODELS, ids=lambda case: case.id)
PATHS = ["model.onnx", "saved_model"]


def snapshot(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@ids
def test_onnx_gives_the_models_answers(case, tmp_path):
    model = case.make()
    report = km.export(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(report.path)
    (image,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.type, image.shape[1:]) == ("images", "tensor(float)", [8, 12, 2])
    assert (logits.name, logits.shape[1:]) == ("logits", list(model.output_shape[1:]))
    images = case.images(5)  # a batch that was never traced
    expected = np.asarray(model(images, training=False))
    np.testing.assert_allclose(session.run(None, {"images": images})[0], expected, atol=1e-5)
    assert report.largest_difference < 1e-5
    assert report.size == report.path.stat().st_size


def test_onnx_file_has_standard_operators_and_no_randomness(tmp_path):
    model = km.Hybrid(
        "MA",
        input_shape=(8, 8, 3),
        patch_size=4,
        hidden_dim=16,
        dropout_rate=0.5,
        attention_dropout_rate=0.5,
        stochastic_depth_rate=0.5,
    )
    km.export(model, tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx")
    assert {domain.domain: domain.version for domain in graph.opset_import}[""] == 18
    assert {node.domain for node in graph.graph.node} == {""}
    operators = {node.op_type for node in graph.graph.node}
    assert not {op for op in operators if "Random" in op or op in ("Dropout", "Bernoulli")}


def test_saved_model_gives_the_models_answers(tmp_path):
    import tensorflow as tf

    for case in [case for case in MODELS if case.id in ("vit", "mlp_mixer", "hybrid_CM")]:
        model = case.make()
        report = km.export(model, tmp_path / case.id)
        loaded = tf.saved_model.load(str(report.path))
        images = case.images(5)
        answer = loaded.signatures["serving_default"](images=tf.constant(images))["logits"]
        np.testing.assert_allclose(answer, np.asarray(model(images)), atol=1e-6)
        assert report.format == "saved_model"


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


@pytest.mark.parametrize("name", PATHS)
def test_an_export_replaces_the_one_before_and_leaves_nothing_else(name, tmp_path):
    one, other = MODELS[0].make(), MODELS[0].make()
    km.export(one, tmp_path / name)
    before = snapshot(tmp_path)
    km.export(other, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert snapshot(tmp_path) != before


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_a_failed_export_leaves_the_one_before(name, error, tmp_path, monkeypatch):
    model = MODELS[0].make()
    km.export(model, tmp_path / name)
    before = snapshot(tmp_path)

    def fail(*_args):
        raise error("stopped")

    monkeypatch.setattr(verify, "largest_difference", fail)
    with pytest.raises(error, match="stopped"):
        km.export(model, tmp_path / name)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("target", [onnx_target, saved_model])
def test_a_file_with_other_answers_is_not_put_in_place(target, tmp_path, monkeypatch):
    run = target.run
    monkeypatch.setattr(target, "run", lambda path, images: run(path, images) + 2e-4)
    name = "model.onnx" if target is onnx_target else "saved_model"
    with pytest.raises(RuntimeError, match="differs from the model by 2.0.e-04.*batch 1.*1.00e-04"):
        km.export(MODELS[0].make(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_an_answer_that_is_not_a_number_is_not_put_in_place(tmp_path):
    model = MODELS[0].make()
    model.get_layer("head").bias.assign([np.nan] * 5)
    with pytest.raises(RuntimeError, match="differs from the model by nan"):
        km.export(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def two_outputs():
    inputs = keras.Input((4,))
    return keras.Model(inputs, [keras.layers.Dense(1)(inputs), keras.layers.Dense(2)(inputs)])


def any_size():
    inputs = keras.Input((None, None, 3))
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))


@pytest.mark.parametrize(
    ("model", "path", "message"),
    [
        (lambda: "vit", "model.onnx", "`model` must be a built functional.*'vit'"),
        (two_outputs, "model.onnx", "`model` must be a built functional.*one output"),
        (any_size, "model.onnx", r"`model` must have a fixed image size.*\(None, None, None, 3\)"),
        (MODELS[0].make, "model.tflite", "`path` must end in '.onnx'.*model.tflite"),
        (
            lambda: MODELS[0].make(dtype="mixed_float16"),
            "model.onnx",
            "`model` must compute in float32.*patch_embed.*dtype='float32'",
        ),
        (MODELS[0].make, "nowhere/model.onnx", "`path` must lie in a folder that exists.*nowhere"),
        (MODELS[0].make, "a_file", "`path` must end in '.onnx'.*a_file"),
        (MODELS[0].make, "a_folder", "`path` is a folder that holds something other.*a_folder"),
        (MODELS[0].make, "a_folder.onnx", "`path` is a folder, not a file.*a_folder.onnx"),
    ],
)
def test_what_cannot_be_exported_is_named(model, path, message, tmp_path):
    (tmp_path / "a_file").write_text("precious")
    (tmp_path / "a_folder").mkdir()
    (tmp_path / "a_folder" / "thesis.tex").write_text("precious")
    (tmp_path / "a_folder.onnx").mkdir()
    before = snapshot(tmp_path)
    with pytest.raises(ValueError, match=message):
        km.export(model(), tmp_path / path)
    assert snapshot(tmp_path) == before


def test_another_backend_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match="goes through TensorFlow.*'jax'.*KERAS_BACKEND"):
        km.export(MODELS[0].make(), tmp_path / "model.onnx")


def test_a_path_must_be_one():
    with pytest.raises(TypeError, match="`path` must be a string or a path.*path=3"):
        km.export(MODELS[0].make(), 3)


def test_an_answer_of_another_shape_is_not_taken():
    model = MODELS[0].make()
    with pytest.raises(
        RuntimeError, match=r"gives \(1, 1\) for \(1, 8, 12, 2\), the model \(1, 5\)"
    ):
        verify.largest_difference(model, lambda images: np.zeros((1, 1), "float32"))


def test_paths_may_be_strings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = km.export(MODELS[0].make(), "model.onnx")
    assert report.path == pathlib.Path("model.onnx")
    assert str(report).startswith("model.onnx: onnx, 0.")


def test_more_than_an_onnx_file_can_hold_is_refused_at_once(tmp_path, shapes_alone):
    with pytest.raises(ValueError, match="less than 2 GiB.*2,528,183,200.*SavedModel"):
        km.export(km.ViT("H/14"), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
