"""examples/finetune.py."""

import pathlib
import re
import shlex

import goldens
import keras
import numpy as np
import pytest
from run_example import run_example

import keras_mixers as km
from keras_mixers.models import published
from keras_mixers.weights import locate

README = (pathlib.Path(__file__).parents[2] / "README.md").read_text()
TIMM_VIT = goldens.FOLDER / "timm_vit.safetensors"
ITS_ARCHITECTURE = [
    *("--family", "ViT", "--variant", "Ti/16", "--set", "patch_size=8", "hidden_dim=64"),
    *("depth=2", "num_heads=4", "mlp_dim=256", "--image-size", "24"),
]


@pytest.mark.slow
def test_finetune_trains_head_and_model(tmp_path, digits_folder):
    """The README's command trains the file that the README's code writes."""
    (command,) = re.findall(r"^python examples/(finetune\.py (?:.*\\\n)*.*)$", README, re.M)
    example, file, *arguments = shlex.split(command.replace("\\\n", " "))
    small = {"patch_size": 8, "hidden_dim": 64, "depth": 2, "num_heads": 4, "mlp_dim": 128}
    model = km.ViT("Ti/16", input_shape=(32, 32, 3), num_classes=10, **small)
    km.save_weights(model, tmp_path / file, format="timm")
    few = ["--head-epochs", "1", "--epochs", "1", "--output", "here"]
    output, message = run_example(example, file, *arguments, *few, cwd=tmp_path)
    assert not message
    assert "positions: resized from 4 x 4 to 3 x 3 (bicubic_antialias)" in output
    assert "patch_embed.kernel: from 3 channels to 1" in output
    head_only, accuracy = re.findall(r"Test accuracy.*: ([\d.]+)%", output)
    assert 0 < float(head_only) <= 100
    assert float(head_only) != float(accuracy), "the second stage trains too"
    saved = keras.models.load_model(tmp_path / "here" / "model.keras")
    assert saved(np.zeros((1, 24, 24, 1), "float32")).shape == (1, 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "finetune.py: CHECKPOINT must be a name.*'none'"),
        (["none.npz", *ITS_ARCHITECTURE], "finetune.py: `source` must be a file.*'none.npz'"),
        ([str(TIMM_VIT), *ITS_ARCHITECTURE, "--set", "depth=3"], "the file has 2 blocks"),
        (["none", "--layer-decay", "0"], "--layer-decay: must be above 0 and at most 1, not 0"),
    ],
)
def test_finetune_names_a_wrong_argument(arguments, message, tmp_path, digits_folder):
    _, found = run_example("finetune.py", *arguments, cwd=tmp_path)
    assert re.search(message, found, re.DOTALL), found
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_finetune_takes_a_name_of_the_catalog(tmp_path, digits_folder, monkeypatch):
    architecture = {"hidden_dim": 64, "depth": 2, "num_heads": 4, "mlp_dim": 256, "patch_size": 8}
    settings = {**architecture, "input_shape": (32, 32, 3)}
    preprocessing = km.Preprocessing(32)
    row = km.Checkpoint("a_vit.here", "ViT", "Ti/16", settings, "", "timm", 10, preprocessing)
    monkeypatch.setattr(locate, "checkpoints", lambda: {row.name: row})
    monkeypatch.setattr(
        published, "check_arguments", lambda *_: None
    )  # its sizes are not published
    monkeypatch.setattr(locate, "download", lambda row: TIMM_VIT)
    assert km.pretrained("ViT") == {"a_vit.here": row}
    few = ["--head-epochs", "0", "--epochs", "1"]
    output, message = run_example("finetune.py", "a_vit.here", *few, cwd=tmp_path)
    assert not message
    assert "Test accuracy:" in output
    saved = keras.models.load_model(tmp_path / "out" / "model.keras")
    assert saved.input_shape == (None, 32, 32, 3), "grey images are loaded with three channels"
    _, message = run_example("finetune.py", "a_vit.here", "--set", "depth=3", cwd=tmp_path)
    assert "must be left out for a name in km.pretrained()" in message
