"""`km.export` on JAX and torch: another process exports a copy of the model in TensorFlow.

On TensorFlow, these tests call in one process what the other process runs.
"""

import errno
import sys
import warnings

import keras
import numpy as np
import pytest

import keras_mixers as km
from keras_mixers.exporting import in_tensorflow

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), "uint8")
OTHER = keras.backend.backend() != "tensorflow"
on_tensorflow = pytest.mark.skipif(OTHER, reason="The other process runs TensorFlow")


def tiny_model():
    model = km.ViT("Ti/16", input_shape=(4, 4, 3), patch_size=2, hidden_dim=8, depth=1, num_heads=2)
    model.preprocessing = km.Preprocessing(4, crop_fraction=1.0)
    return model


@pytest.fixture
def in_one_process(monkeypatch):
    """Let `in_tensorflow.export` call the function that the other process runs."""

    def run(folder):
        in_tensorflow.answer(folder, km.export)
        return 0

    monkeypatch.setattr(in_tensorflow, "run", run)


@pytest.mark.backends
@pytest.mark.slow  # so that only JAX runs it
@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="For the other backends")
def test_another_process_exports_the_model(tmp_path):
    import onnxruntime

    model = km.ViT("Ti/16", input_shape=(4, 4, 3), patch_size=2, hidden_dim=8, depth=1, num_heads=2)
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype("float32")
    report = km.export(model, tmp_path / "model.onnx", quantize="float16")
    assert (report.path, report.precision) == (tmp_path / "model.onnx", "float16")
    session = onnxruntime.InferenceSession(report.path)
    found = session.run(["logits"], {"images": images})[0]
    np.testing.assert_allclose(found, keras.ops.convert_to_numpy(model(images)), atol=2e-2)
    assert list(tmp_path.iterdir()) == [report.path]


@on_tensorflow
def test_request_holds_all_arguments(in_one_process, tmp_path):
    model = tiny_model()
    model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True))
    options = {
        "preprocessing": "model",
        "class_names": [f"class {i}" for i in range(1000)],
        "quantize": "int8",
        "calibration_data": iter([(IMAGES, np.zeros(3))]),
    }
    report = in_tensorflow.export(model, str(tmp_path / "model.onnx"), **options)
    assert report.precision == "int8" and report.agreement is not None
    import onnxruntime

    session = onnxruntime.InferenceSession(report.path)
    logits, probabilities = session.run(["logits", "probabilities"], {"images": IMAGES})
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-logits)), atol=1e-5)
    assert "class 999" in session.get_modelmeta().custom_metadata_map["class_names"]


@on_tensorflow
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"quantize": "int4"}, ValueError, "`quantize` must be one of"),
        ({"class_names": 3}, TypeError, "`class_names` must be"),
    ],
)
def test_errors_of_the_other_process_are_raised(in_one_process, options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        in_tensorflow.export(tiny_model(), tmp_path / "model.onnx", **options)
    assert not list(tmp_path.iterdir())


@on_tensorflow
def test_system_errors_keep_their_number_and_warnings_their_kind(
    in_one_process, tmp_path, monkeypatch
):
    class Other(Warning):
        pass

    def export(*_args, **_options):
        warnings.warn("soon", FutureWarning, stacklevel=2)
        warnings.warn("other", Other, stacklevel=2)
        raise PermissionError(errno.EACCES, "Permission denied", "model.onnx")

    monkeypatch.setattr(km, "export", export)
    model = tiny_model()

    def warn(message, category):  # as with a user's filter that makes warnings errors
        raise category(message)

    with pytest.warns(Warning) as issued:
        with pytest.raises(PermissionError) as raised:
            in_tensorflow.export(model, tmp_path / "model.onnx")
        monkeypatch.setattr(in_tensorflow.arguments, "warn", warn)
        with pytest.raises(PermissionError):
            in_tensorflow.export(model, tmp_path / "model.onnx")
    found = [(str(each.message), each.category, each.filename) for each in issued]
    found = [each for each in found if each[0] in ("soon", "other")]  # others are Keras's
    assert found == [("soon", FutureWarning, __file__), ("other", UserWarning, __file__)]
    assert (raised.value.errno, raised.value.filename) == (errno.EACCES, "model.onnx")


@on_tensorflow
def test_lines_of_the_other_process_go_to_stderr(tmp_path, monkeypatch, capsys):
    program = "import sys; print('I0000 noise'); print('progress', file=sys.stderr); sys.exit(3)"
    monkeypatch.setattr(in_tensorflow, "PROGRAM", program)
    assert in_tensorflow.run(tmp_path) == 3
    assert capsys.readouterr().err == "progress\n"


@on_tensorflow
def test_interrupt_ends_the_other_process(tmp_path, monkeypatch):
    class Interrupted:
        def write(self, _):
            raise KeyboardInterrupt

    program = "import time; print('started', flush=True); time.sleep(600)"
    monkeypatch.setattr(in_tensorflow, "PROGRAM", program)
    monkeypatch.setattr(sys, "stderr", Interrupted())
    with pytest.raises(KeyboardInterrupt):  # after the end of the process
        in_tensorflow.run(tmp_path)


@on_tensorflow
def test_process_without_an_answer_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(in_tensorflow, "run", lambda folder: -9)
    with pytest.raises(RuntimeError, match="ended without an answer, with exit status -9"):
        in_tensorflow.export(tiny_model(), tmp_path / "model.onnx")


@on_tensorflow
def test_copy_that_computes_other_outputs_is_an_error(in_one_process, tmp_path, monkeypatch):
    shifts = iter((2e-4, 0))
    monkeypatch.setattr(in_tensorflow, "as_float32", lambda x: np.asarray(x) + next(shifts))
    with pytest.raises(RuntimeError, match="'logits' in TensorFlow differs .* 2.0.e-04"):
        in_tensorflow.export(tiny_model(), tmp_path / "model.onnx")


class NotRegistered(keras.layers.Layer):
    def call(self, x):
        return x


@on_tensorflow
def test_model_that_cannot_be_loaded_is_an_error(in_one_process, tmp_path):
    images = keras.Input((4, 4, 3))
    model = keras.Model(images, NotRegistered()(images))
    with pytest.raises(ValueError, match="`model` must be .* can load(?s:.*)NotRegistered"):
        in_tensorflow.export(model, tmp_path / "model.onnx")


@on_tensorflow
def test_layer_of_a_script_is_an_error_before_the_other_process_starts(tmp_path):
    members = {"call": lambda self, x: x, "__module__": "__main__"}
    layer = type("InScript", (keras.layers.Layer,), members)
    keras.saving.register_keras_serializable("script")(layer)
    images = keras.Input((4, 4, 3))
    model = keras.Model(images, layer()(images))
    with pytest.raises(ValueError, match="a script or a notebook"):
        in_tensorflow.export(model, tmp_path / "model.onnx")
