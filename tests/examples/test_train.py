"""examples/train.py."""

import argparse
import re
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from run_example import EXAMPLES, load_example, run_example

import keras_mixers as km

TOY = ["--epochs", "1", "--hidden-dim", "32", "--depth", "1", "--patch-size", "4"]


@pytest.mark.slow
def test_train_resumes_after_a_kill(tmp_path, digits_folder):
    """A process is killed within an epoch; resumed here, it ends as an uninterrupted training."""
    # RandAugment is left out, because its graph takes seconds to trace.
    recipe = km.Recipe(epochs=4, augmentation=km.data.Augmentation(translation=0.1))
    recipe.save(tmp_path / "recipe.json")
    arguments = ["--model", "C", *TOY[2:], "--recipe", "recipe.json", "--save-every", "5"]
    backup = tmp_path / "cut" / "backup.weights.h5"
    program = [sys.executable, EXAMPLES / "train.py", *arguments, "--output", "cut"]
    with (tmp_path / "errors").open("w") as errors:
        process = subprocess.Popen(program, cwd=tmp_path, stdout=errors, stderr=errors)
        while not backup.exists() and process.poll() is None:
            time.sleep(0.01)
        process.kill()
        process.wait()
    assert backup.exists(), (tmp_path / "errors").read_text()

    _, message = run_example("train.py", *arguments, "--output", "cut", cwd=tmp_path)
    assert "holds an unfinished training run" in message
    _, message = run_example(
        "train.py", *arguments, "--seed", "3", "--resume", "--output", "cut", cwd=tmp_path
    )
    assert "--resume needs the flags of the unfinished run: --seed 0" in message

    output, message = run_example(
        "train.py", *arguments, "--resume", "--output", "cut", cwd=tmp_path
    )
    assert not message
    accuracy = float(re.search(r"Test accuracy: ([\d.]+)%", output)[1])
    assert 0 < accuracy <= 100
    differences = re.findall(r"Largest difference in (\w+), .*: (\S+)\n", output)
    assert [name for name, _ in differences] == ["onnxruntime", "SavedModel"]
    assert all(float(difference) < 1e-4 for _, difference in differences)

    files = {path.name for path in (tmp_path / "cut").iterdir()}
    written = {"model.keras", "history.png", "model.onnx", "saved_model", "recipe.json"}
    assert files == {*written, "flags.json"}, "the backup is deleted at the end"
    assert (tmp_path / "cut" / "history.png").read_bytes().startswith(b"\x89PNG")
    cut = keras.models.load_model(tmp_path / "cut" / "model.keras")
    batches, _, info = km.data.load("digits", 16, augmentation=recipe.augmentation)
    keras.utils.set_random_seed(0)
    whole = load_example("train").build(flags("C"), recipe, info)
    recipe.compile(whole, len(batches))
    whole.fit(batches, epochs=recipe.epochs, shuffle=False, verbose=0)
    assert cut(np.zeros((1, 16, 16, 1), "float32")).shape == (1, 10)
    for one, other in zip(cut.weights, whole.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-4, err_msg=one.path)


def flags(model):
    size = {"patch_size": 4, "hidden_dim": 32, "depth": 3}
    return argparse.Namespace(model=model, gradient_checkpointing=False, **size)


@pytest.mark.parametrize("model", ["vit", "mlp_mixer", "conv_mixer", "MMA", "CM"])
def test_train_builds_the_model_of_the_flag(model):
    info = argparse.Namespace(input_shape=(16, 16, 1), num_classes=10)
    built = load_example("train").build(flags(model), km.Recipe(epochs=1), info)
    assert built.input_shape == (None, 16, 16, 1)
    mixers = {"vit": "attention", "mlp_mixer": "token_mixing", "conv_mixer": "conv_mixer"}
    letters = {"A": "attention", "M": "token_mixing", "C": "conv_mixer"}
    wanted = [mixers[model]] * 3 if model in mixers else [letters[letter] for letter in model]
    found = [layer.name for layer in built.layers if re.match(r"block_\d_", layer.name)]
    found = [name.split("_", 2)[2] for name in found if not name.endswith(("grid", "tokens"))]
    assert [name for name in found if name != "channel_mixing"] == wanted


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "MXA"], "--model must be vit, mlp_mixer, conv_mixer, or a pattern.*'MXA'"),
        (["--epochs", "0"], "argument --epochs: must be 1 or more, not 0"),
        (["--output", "/dev/null/out"], "train.py: .*/dev/null/out"),
        (["--patch-size", "3"], r"`patch_size` must divide.*\(3, 3\).*\(16, 16\)"),
        (["--dataset", "digist"], "'digist'. Did you mean 'digits'"),
        (["--learning-rate", "nan"], "--learning-rate: must be a finite number above 0, not nan"),
        (["--seed", "-1"], "--seed: must be 0 or more, not -1"),
        (["--epochs", "two"], "--epochs: invalid int value: 'two'"),
        (["--recipe", "smal"], "--recipe must be a JSON file or one of 'DeiT'.*'smal'"),
    ],
)
def test_train_names_a_wrong_flag(arguments, message, tmp_path, digits_folder):
    _, found = run_example("train.py", *arguments, cwd=tmp_path)
    assert re.search(message, found, re.DOTALL), found
    assert not list(tmp_path.iterdir())


def test_train_raises_at_once_on_another_backend(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    output, message = run_example("train.py", cwd=tmp_path)
    assert re.fullmatch("train.py: .*TensorFlow.*KERAS_BACKEND=tensorflow", message)
    assert not output
