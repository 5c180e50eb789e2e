"""The files of a model whose loss uses a sigmoid return the sigmoid of its logits.

`Serving` computes the probabilities of each format, so one format shows them. That a file of any
format equals its `Serving` is the subject of the other tests.
"""

import keras
import numpy as np
import onnxruntime
import pytest

import keras_mixers as km

PREPROCESSING = km.Preprocessing(4, crop_fraction=1.0, mean=0.5, std=0.5)
IMAGES = np.random.RandomState(0).randint(0, 256, (8, 4, 4, 1)).astype("uint8")


def sigmoid_model(outputs):
    """A model with several labels, or with one output."""
    layers = [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(outputs)]
    model = keras.Sequential(layers)
    model.set_weights([np.random.RandomState(1).randn(*weight.shape) for weight in model.weights])
    km.Recipe(epochs=1, loss="sigmoid", multi_label=outputs > 1).compile(model, 1)
    return model


@pytest.mark.parametrize(
    ("outputs", "options", "tolerance"),
    [(1, {}, 1e-6), (3, {"quantize": "int8", "calibration_data": IMAGES}, 2e-2)],
    ids=["one", "several in int8"],
)
def test_file_returns_the_sigmoid(outputs, options, tolerance, tmp_path):
    model, path = sigmoid_model(outputs), str(tmp_path / "model.onnx")
    km.export(model, path, preprocessing=PREPROCESSING, **options)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(["probabilities"], {"images": IMAGES})
    expected = keras.ops.convert_to_numpy(keras.ops.sigmoid(model(PREPROCESSING(IMAGES))))
    assert expected.min() < 0.2 and expected.max() > 0.8
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
