"""examples/deploy.py."""

import re
import subprocess
import sys

import numpy as np
import pytest
from run_example import EXAMPLES, run_example

import keras_mixers as km
from keras_mixers import files

WITHOUT = """
import runpy, sys
for module in {modules!r}:
    sys.modules[module] = None  # importing it fails
for file in {files!r}:
    sys.argv[1:] = {command!r}, file, *{images!r}
    runpy.run_path({example!r}, run_name="__main__")
"""


@pytest.mark.slow
def test_deploy_classifies_without_keras(tmp_path, digits_folder):
    """The model is exported here; processes that cannot import Keras classify with the files."""
    model = km.MLPMixer(
        "S/16", input_shape=(16, 16, 1), patch_size=4, hidden_dim=32, depth=1, num_classes=10
    )
    model.save(tmp_path / "model.keras")
    output, message = run_example(
        "deploy.py", "export", "model.keras", "--output", "here", cwd=tmp_path
    )
    assert not message
    assert [line.split(":")[0] for line in output.splitlines()] == [
        *("here/model.onnx", "here/int8.onnx", "here/saved_model"),
        *("Accuracy of model.onnx", "Accuracy of int8.onnx"),
    ]
    _, validation, _ = km.data.load("digits", image_size=16)
    correct = [model(x).numpy().argmax(-1) == y.numpy() for x, y in validation]
    assert f"model.onnx: {np.mean(np.concatenate(correct)):.2%}\n" in output
    images = sorted(str(p.relative_to(tmp_path)) for p in (tmp_path / "here/images").iterdir())
    assert len(images) == 8

    ours = ("keras", "keras_mixers", "jax")
    printed = []
    for command, files_of_command, modules in (
        ("onnx", ["model.onnx", "int8.onnx"], (*ours, "tensorflow", "onnx", "tf2onnx")),
        ("saved_model", ["saved_model"], (*ours, "onnxruntime")),
    ):
        program = WITHOUT.format(
            modules=modules,
            command=command,
            files=[f"here/{file}" for file in files_of_command],
            images=images,
            example=str(EXAMPLES / "deploy.py"),
        )
        ended = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr[-2000:]
        printed += ended.stdout.splitlines()
    onnx, int8, saved_model = printed[:8], printed[8:16], printed[16:]
    assert onnx == saved_model
    assert [line.split(":")[0] for line in int8] == images
    for line, image in zip(onnx, images, strict=True):
        assert re.fullmatch(rf"{image}: \d [\d.]+%, \d [\d.]+%, \d [\d.]+%", line), line


def test_deploy_refuses_a_folder_in_use(tmp_path, digits_folder):
    size = {"patch_size": 8, "hidden_dim": 8, "depth": 1, "num_classes": 10}
    km.MLPMixer("S/16", input_shape=(16, 16, 1), **size).save(tmp_path / "model.keras")
    (tmp_path / "deploy").mkdir()
    lock = files.Lock.of(tmp_path / "deploy")
    _, message = run_example("deploy.py", "export", "model.keras", cwd=tmp_path)
    lock.release()
    assert message.startswith("deploy.py: --output must be a folder that no other process uses.")
    assert not list((tmp_path / "deploy").iterdir())


def test_deploy_names_a_wrong_argument(tmp_path):
    _, message = run_example("deploy.py", "export", "none.keras", cwd=tmp_path)
    assert "deploy.py: File not found: filepath=none.keras" in message
    _, message = run_example("deploy.py", "onnx", "none.onnx", "none.png", cwd=tmp_path)
    assert "deploy.py: file not found: none.onnx" in message
