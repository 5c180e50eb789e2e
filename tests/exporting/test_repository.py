"""`km.export(version=...)`: the folders that TensorFlow Serving and Triton read."""

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf

import keras_mixers as km
from keras_mixers import files
from keras_mixers.exporting import pipeline

NAMES = ["ant", 'bee "b"', "cat\nnip"]
PREPROCESSING = km.Preprocessing((4, 6), crop_fraction=1.0, mean=0.5, std=0.5)


def snapshot(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def model():
    """Each channel's mean is a logit, so that the reddest image is an ant."""
    images = keras.Input((4, 6, 3))
    logits = keras.layers.GlobalAveragePooling2D(name="logits")(images)
    return keras.Model(images, keras.layers.Dense(3, "linear", True, "identity")(logits))


def export(model, path, version=1, **options):
    facts = {"preprocessing": PREPROCESSING, "class_names": NAMES}
    return km.export(model, path, version=version, **{**facts, **options})


CONFIG = """\
name: "vit"
backend: "onnxruntime"
max_batch_size: 32
dynamic_batching {}
input {
  name: "images"
  data_type: TYPE_UINT8
  dims: [-1, -1, 3]
}
output {
  name: "logits"
  data_type: TYPE_FP32
  dims: [3]
}
output {
  name: "probabilities"
  data_type: TYPE_FP32
  dims: [3]
  label_filename: "labels.txt"
}
"""


def test_triton_repository_has_versions_and_one_description(model, tmp_path):
    path = tmp_path / "vit"
    report = export(model, path, format="onnx")
    assert (report.path, report.format) == (path / "1" / "model.onnx", "onnx")
    assert (path / "config.pbtxt").read_text() == CONFIG
    assert (path / "labels.txt").read_text() == 'ant\nbee "b"\ncat\\nnip\n'
    assert set(snapshot(tmp_path)) == {
        f"vit/{n}" for n in ("config.pbtxt", "labels.txt", "1/model.onnx")
    }
    session = onnxruntime.InferenceSession(path / "1" / "model.onnx")
    assert session.run(["logits"], {"images": np.full((2, 9, 9, 3), 255, "uint8")})[0].shape == (
        2,
        3,
    )

    # A user's settings stay, and so do other versions.
    (path / "config.pbtxt").write_text(f"instance_group {{ count: 2 }}\n{CONFIG}")
    (path / "1" / "model.onnx").write_bytes(b"first")
    export(model, path, 12, format="onnx")
    before = snapshot(path)
    assert before["1/model.onnx"] == b"first"
    assert before["config.pbtxt"].startswith(b"instance_group")
    assert len(before["12/model.onnx"]) > 100

    # A version is replaced, and nothing else.
    export(model, path, format="onnx")
    assert snapshot(path) == {**before, "1/model.onnx": (path / "1" / "model.onnx").read_bytes()}
    assert (path / "1" / "model.onnx").stat().st_size > 100


@pytest.mark.parametrize(
    "others",
    [
        {"class_names": ["a", "b", "c"]},
        {"preprocessing": None},
        {"class_names": ["x", *NAMES[1:]]},
        {"batch": 1},
        {"class_names": None},
    ],
)
def test_triton_version_must_fit_the_description(model, others, tmp_path, monkeypatch):
    path = tmp_path / "vit"
    export(model, path, format="onnx")
    if others != {"class_names": None}:  # of which only the outputs differ
        monkeypatch.setattr(pipeline, "Progress", None)  # what follows the checks is a TypeError
    before = snapshot(tmp_path)
    with pytest.raises(
        ValueError, match=r"one whose (labels.txt|config.pbtxt) describes this model"
    ):
        export(model, tmp_path / "vit", 2, format="onnx", **others)
    assert snapshot(tmp_path) == before


def test_triton_takes_prepared_images_without_preprocessing(model, tmp_path):
    export(model, tmp_path / "vit", format="onnx", preprocessing=None, class_names=None)
    config = (tmp_path / "vit" / "config.pbtxt").read_text()
    assert 'name: "images"\n  data_type: TYPE_FP32\n  dims: [4, 6, 3]\n' in config
    assert "label" not in config
    assert not (tmp_path / "vit" / "labels.txt").exists()


def test_serving_folder_has_versions_and_class_names(model, tmp_path):
    path = tmp_path / "models" / "new" / "vit"
    report = export(model, path, 1, top=2)
    assert (report.path, report.format) == (path / "1", "saved_model")
    first = snapshot(path)
    export(model, path, 2, top=9)
    assert {name: data for name, data in snapshot(path).items() if name.startswith("1/")} == first
    assert {folder.name for folder in path.iterdir()} == {"1", "2"}

    red, blue = np.zeros((2, 5, 7, 3), "uint8")
    red[..., 0], red[..., 1], blue[..., 2] = 255, 99, 200
    encoded = tf.constant([tf.io.encode_png(image).numpy() for image in (red, blue)])
    loaded = tf.saved_model.load(str(path / "1"))
    outputs = loaded.signatures["serve_encoded"](encoded=encoded)
    names = [[name.decode() for name in row] for row in outputs["class_names"].numpy()]
    assert names == [["ant", 'bee "b"'], ["cat\nnip", "ant"]]
    best = np.sort(outputs["probabilities"])[:, :-3:-1]
    np.testing.assert_array_equal(outputs["class_probabilities"], best)
    loaded = tf.saved_model.load(str(path / "2"))
    assert loaded.signatures["serve_encoded"](encoded=encoded)["class_names"].shape == (2, 3)
    with pytest.warns(UserWarning, match="replaced version 2 in 'vit'.*does not load it again"):
        export(model, path, 2, preprocessing=None, class_names=None)


def test_server_never_sees_a_part_of_a_version(model, tmp_path, monkeypatch):
    """A file is compared in a folder that is not named by a number. An error leaves nothing."""
    seen = []

    def compare(*_):
        seen.extend(p.relative_to(tmp_path).parts for p in tmp_path.rglob("*") if p.is_file())
        raise RuntimeError("differs")

    monkeypatch.setattr(pipeline.verify, "largest_difference", compare)
    for path, options in [("new", {"format": "onnx"}), ("a/b/new", {}), ("old", {})]:
        (tmp_path / "old").mkdir(exist_ok=True)
        with pytest.raises(RuntimeError, match="differs"):
            export(model, tmp_path / path, **options)
    for parts in seen:
        folder = parts[len({"a", "b", "old"}.intersection(parts))]
        assert folder.startswith(files.TEMPORARY)
    assert [p.name for p in tmp_path.rglob("*")] == ["old"]


def test_version_is_refused_where_something_else_is(model, tmp_path):
    (tmp_path / "mine" / "1").mkdir(parents=True)
    (tmp_path / "mine" / "1" / "notes.txt").touch()
    km.export(model, tmp_path / "plain")
    export(model, tmp_path / "vit", format="onnx")
    before = snapshot(tmp_path)
    for path, options, message in [
        ("mine", {}, "hold only versions of the same format"),
        ("vit", {"version": 2}, "'1', which has no 'saved_model.pb'"),
        ("plain", {}, "must not hold a model"),
        ("vit.onnx", {}, r"format='onnx' writes"),
        (
            "plain/saved_model.pb/vit",
            {},
            "in a folder that exists.*folder '.*saved_model.pb' does not exist",
        ),
        ("vit.tflite", {}, "`version` must be None for the format 'tflite'"),
        ("vit", {"version": 0, "format": "onnx"}, "`version` must be an integer from 1"),
        ("vit", {"version": None, "format": "onnx"}, r"`path` must end in '.onnx'"),
        (
            "vit.onnx",
            {"version": None, "format": "saved_model"},
            "name a folder for .* 'saved_model'",
        ),
        ("new", {"format": "pb"}, "`format` must be one of None, 'onnx'"),
        ("vit", {"version": 2, "format": "onnx", "top": 2}, "`top` must be None, except"),
        ("new", {"top": 2, "class_names": None}, "`top` must be None, except"),
        ("new", {"top": 0}, "`top` must be an integer"),
    ]:
        with pytest.raises(ValueError, match=message):
            export(model, tmp_path / path, **options)
    assert snapshot(tmp_path) == before
