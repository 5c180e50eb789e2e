"""examples/deploy.py."""

import re
import subprocess
import sys

import keras
import numpy as np
import onnx
import pytest
from PIL import Image
from run_command import run_command
from run_example import EXAMPLES, run_example

import keras_mixers as km

WITHOUT = """
import runpy, sys
for module in {modules!r}:
    sys.modules[module] = None  # importing it fails
sys.argv[1:] = {arguments!r}
runpy.run_path({example!r}, run_name="__main__")
"""


@pytest.mark.slow
def test_deploy_classifies_without_keras(tmp_path, digits_folder):
    """The model is exported here; processes that cannot import Keras classify with the files."""
    model = km.MLPMixer(
        "S/16", input_shape=(16, 16, 1), patch_size=4, hidden_dim=32, depth=1, num_classes=10
    )
    model.set_info(km.data.load("digits", 16)[2])
    model.save(tmp_path / "model.keras")
    for file in ("model.onnx", "saved_model"):
        code, output, message = run_command("export", "model.keras", file, cwd=tmp_path)
        assert code == 0, message
        assert re.match(
            rf"{file}: {file.removeprefix('model.')} in float32, .* of the model", output
        )
    images = [f"{i}.png" for i in range(8)]
    digits = km.data.images("digits").take(8).as_numpy_iterator()
    for image, (pixels, _) in zip(images, digits, strict=True):
        keras.utils.save_img(tmp_path / image, pixels, scale=False)
    images += ["turned.jpg", "transparent.png"]
    ramp = np.tile(np.arange(0, 256, 16, "uint8"), (16, 1))
    exif = Image.Exif()
    exif[0x0112] = 6  # the orientation: to be turned by 90 degrees
    Image.fromarray(ramp).save(tmp_path / "turned.jpg", exif=exif)
    Image.merge("LA", [Image.new("L", (16, 16)), Image.fromarray(ramp)]).save(
        tmp_path / "transparent.png"
    )

    printed = []
    ours = ("keras", "keras_mixers", "jax")
    for file, modules in (
        ("model.onnx", (*ours, "tensorflow", "onnx", "tf2onnx")),
        ("saved_model", (*ours, "onnxruntime")),
    ):
        program = WITHOUT.format(
            modules=modules, arguments=[file, *images], example=str(EXAMPLES / "deploy.py")
        )
        ended = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr[-2000:]
        printed.append(ended.stdout.splitlines())
    assert printed[0] == printed[1]
    for line, image in zip(printed[0], images, strict=True):
        assert re.fullmatch(rf"{image}: \d [\d.]+%, \d [\d.]+%, \d [\d.]+%", line), line

    (tmp_path / "text.png").write_text("no image")
    for file in ("model.onnx", "saved_model"):
        _, message = run_example("deploy.py", file, "text.png", cwd=tmp_path)
        assert message.startswith("deploy.py: text.png is not a readable image: ")
    remove_class_names(tmp_path / "model.onnx", tmp_path / "saved_model")
    for file in ("model.onnx", "saved_model"):
        _, message = run_example("deploy.py", file, "0.png", cwd=tmp_path)
        assert re.match(f"deploy.py: {file} must .* class names", message)


def remove_class_names(file, folder):
    model = onnx.load(file)
    for i, entry in enumerate(model.metadata_props):
        if entry.key == "class_names":
            del model.metadata_props[i]
            break
    onnx.save(model, file)
    metadata = folder / "assets.extra" / "keras_mixers.json"
    metadata.write_text('{"keras_mixers_version": "1"}')


def test_deploy_names_a_wrong_argument(tmp_path):
    _, message = run_example("deploy.py", "none.onnx", "none.png", cwd=tmp_path)
    assert message == "deploy.py: file not found: none.onnx"
