"""examples/train.py."""

import json

import keras
import onnxruntime
import pytest
from run_example import run_example

import keras_mixers as km


@pytest.mark.slow
def test_train_writes_a_model_and_its_exports(tmp_path, digits_folder):
    recipe = km.Recipe(
        epochs=1, batch_size=512
    )  # without augmentation, whose graph takes seconds to trace
    output, message = run_example("train.py", cwd=tmp_path, RECIPE=recipe)
    assert not message
    assert "360 images, 10 classes: accuracy " in output
    folder = tmp_path / "out" / "first"
    written = {"history.png", "model.keras", "model.onnx", "saved_model"}
    assert {path.name for path in folder.iterdir()} == written
    assert keras.models.load_model(folder / "model.keras").class_names[3] == "3"
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    (image, _), *_ = km.data.images("digits").take(1)
    (probabilities,) = session.run(["probabilities"], {"images": image[None].numpy()})
    assert probabilities.shape == (1, 10)
    assert json.loads(session.get_modelmeta().custom_metadata_map["class_names"])[3] == "3"
