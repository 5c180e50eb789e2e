"""The examples that look inside a model."""

import argparse

import keras
import numpy as np
import pytest
from run_example import load_example, run_example

import keras_mixers as km


@pytest.mark.slow
def test_visualize_attention_writes_its_pictures(tmp_path, digits_folder, without_rand_augment):
    size = ["--image-size", "16", "--patch-size", "4", "--heads", "2", "--epochs", "1"]
    output, message = run_example("visualize_attention.py", *size, "--image", "3", cwd=tmp_path)
    assert not message
    pictures = ("matrix", "object", "background")
    pictures = [f"attention_{name}.png" for name in pictures]
    pictures += ["rollout.png", "relevance.png", "distance.png", "positions.png", "filters.png"]
    written = {*pictures, "history.png", "attention.gif", "explorer.html", "model.keras"}
    assert {path.name for path in (tmp_path / "looked").iterdir()} == written
    for name in written - {"model.keras"}:
        assert f"wrote looked/{name}" in output
    model = keras.models.load_model(tmp_path / "looked" / "model.keras")
    (weights,) = km.attention_maps(model, np.zeros((1, 16, 16, 1))).values()
    assert weights.shape == (1, 2, 16, 16)
    _, message = run_example("visualize_attention.py", *size, cwd=tmp_path)
    assert "looked/model.keras is the result of a finished run" in message
    size += ["--overwrite"]
    _, message = run_example("visualize_attention.py", *size, "--image", "64", cwd=tmp_path)
    assert message == "visualize_attention.py: --image must be from 0 to 63. Received: --image 64"


@pytest.mark.slow
def test_visualize_token_mixing_writes_its_pictures(tmp_path, digits_folder):
    example = load_example("visualize_token_mixing")
    args = argparse.Namespace(patch_size=4, depth=2)
    info = argparse.Namespace(input_shape=(16, 16, 1), num_classes=10)
    example.build(args, info).save(tmp_path / "mixer.keras")
    _, message = run_example("visualize_token_mixing.py", "--model", "mixer.keras", cwd=tmp_path)
    assert not message
    pictures = {f"{kind}_{i}.png" for kind in ("units", "activations", "channels") for i in (0, 1)}
    written = {*pictures, "features.png", "explorer.html"}
    assert {path.name for path in (tmp_path / "looked").iterdir()} == written
    _, message = run_example("visualize_attention.py", "--model", "mixer.keras", cwd=tmp_path)
    assert "`model` must have a MultiHeadSelfAttention layer" in message
