"""The files of a model whose loss uses a sigmoid return the sigmoid of its logits."""

import io

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from PIL import Image

import keras_mixers as km
from keras_mixers.exporting import tflite

PREPROCESSING = km.Preprocessing(4, crop_fraction=1.0, mean=0.5, std=0.5)
IMAGES = np.random.RandomState(0).randint(0, 256, (8, 4, 4, 1)).astype("uint8")
# Float16 has steps of 0.001 near a logit of 2, and a sigmoid has a slope of at most 1/4.
TOLERANCES = {"float32": 1e-6, "float16": 1e-3, "int8": 2e-2}


def sigmoid_model(outputs):
    """A model with several labels, or with one output."""
    layers = [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(outputs)]
    model = keras.Sequential(layers)
    model.set_weights([np.random.RandomState(1).randn(*weight.shape) for weight in model.weights])
    km.Recipe(epochs=1, loss="sigmoid", multi_label=outputs > 1).compile(model, 1)
    return model


def expected(model):
    found = keras.ops.convert_to_numpy(keras.ops.sigmoid(model(PREPROCESSING(IMAGES))))
    assert found.min() < 0.2 and found.max() > 0.8
    return found


def run_onnx(path):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"images": IMAGES})[0]


def png(image):
    content = io.BytesIO()
    Image.fromarray(image[..., 0]).save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize(
    ("outputs", "options"),
    [
        (1, {}),
        (3, {"target": "onnxruntime"}),
        (3, {"quantize": "int8", "calibration_data": IMAGES}),
    ],
    ids=["one", "onnxruntime", "int8"],
)
def test_onnx_returns_the_sigmoid(outputs, options, tmp_path):
    model = sigmoid_model(outputs)
    km.export(model, tmp_path / "model.onnx", preprocessing=PREPROCESSING, **options)
    tolerance = TOLERANCES[options.get("quantize", "float32")]
    found = run_onnx(tmp_path / "model.onnx")
    np.testing.assert_allclose(found, expected(model), rtol=0, atol=tolerance)


def test_both_signatures_of_a_saved_model_return_the_sigmoid(tmp_path):
    model = sigmoid_model(3)
    km.export(model, tmp_path / "model", preprocessing=PREPROCESSING)
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    encoded = tf.constant([png(image) for image in IMAGES])
    for found in (
        loaded.signatures["serving_default"](images=tf.constant(IMAGES)),
        loaded.signatures["serve_encoded"](encoded=encoded),
    ):
        np.testing.assert_allclose(found["probabilities"], expected(model), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("outputs", "quantize"), [(3, None), (1, "float16"), (3, "int8")])
def test_tflite_returns_the_logits_of_the_sigmoid(outputs, quantize, tmp_path):
    """The format has no preprocessing, so its files return no probabilities."""
    model = sigmoid_model(outputs)
    prepared = keras.ops.convert_to_numpy(PREPROCESSING(IMAGES))
    calibration = {"calibration_data": prepared} if quantize == "int8" else {}
    km.export(model, tmp_path / "model.tflite", quantize=quantize, **calibration)
    found = tflite.load(tmp_path / "model.tflite")(prepared)
    assert list(found) == ["logits"]
    tolerance = TOLERANCES[quantize or "float32"]
    probabilities = keras.ops.sigmoid(found["logits"])
    np.testing.assert_allclose(probabilities, expected(model), rtol=0, atol=tolerance)
