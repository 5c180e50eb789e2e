"""examples/train.py."""

import argparse
import dataclasses
import json
import os
import re
import subprocess
import sys
import time

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from run_example import EXAMPLES, load_example, run_example

import keras_mixers as km
from keras_mixers import files

TOY = ["--epochs", "1", "--hidden-dim", "32", "--depth", "1", "--patch-size", "4"]


@pytest.mark.slow
def test_train_resumes_after_a_kill(tmp_path, digits_folder):
    """A process is killed within an epoch; resumed here, it ends as an uninterrupted training."""
    # RandAugment is left out, because its graph takes seconds to trace.
    recipe = km.Recipe(epochs=2, augmentation=km.data.Augmentation(translation=0.1))
    recipe.save(tmp_path / "recipe.json")
    arguments = ["--model", "C", *TOY[2:], "--recipe", "recipe.json", "--save-every", "5"]
    backup = tmp_path / "cut" / "backup.weights.h5"
    program = [sys.executable, EXAMPLES / "train.py", *arguments, "--output", "cut"]
    shown = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    with (tmp_path / "output").open("w") as output, (tmp_path / "errors").open("w") as errors:
        streams = {"stdout": output, "stderr": errors}
        process = subprocess.Popen(program, cwd=tmp_path, env=shown, **streams)
        while not backup.exists() and process.poll() is None:
            time.sleep(0.01)
        process.kill()
        process.wait()
    errors = (tmp_path / "errors").read_text()
    assert backup.exists(), errors
    assert not errors, "the logs of TensorFlow are hidden"

    _, message = run_example("train.py", *arguments, "--output", "cut", cwd=tmp_path)
    assert "holds an unfinished training run" in message
    _, message = run_example(
        "train.py", *arguments, "--seed", "3", "--resume", "--output", "cut", cwd=tmp_path
    )
    assert "--resume needs the flags of the unfinished run: --seed 0" in message
    dataclasses.replace(recipe, learning_rate=1e-4).save(tmp_path / "recipe.json")
    _, message = run_example("train.py", *arguments, "--resume", "--output", "cut", cwd=tmp_path)
    assert "--resume needs the recipe of the unfinished run" in message
    recipe.save(tmp_path / "recipe.json")

    output, message = run_example(
        "train.py", *arguments, "--resume", "--output", "cut", cwd=tmp_path
    )
    assert not message
    accuracy = float(re.search(r"Test accuracy: ([\d.]+)%", output)[1])
    assert 0 < accuracy <= 100
    differences = re.findall(r"Largest difference of (\w+) in float32 .*: (\S+)\n", output)
    assert [name for name, _ in differences] == ["onnxruntime", "SavedModel"]
    assert all(float(difference) < 1e-4 for _, difference in differences)

    files = {path.name for path in (tmp_path / "cut").iterdir()}
    written = {"model.keras", "history.png", "model.onnx", "saved_model", "recipe.json"}
    assert files == {*written, "flags.json"}, "the backup is deleted at the end"
    contents = "flags.json, history.png, model.keras, model.onnx, recipe.json, saved_model/"
    assert output.endswith(f"cut/ contains {contents}\n")
    session = onnxruntime.InferenceSession(tmp_path / "cut" / "model.onnx")
    (image, _), *_ = km.data.images("digits").take(1)
    (probabilities,) = session.run(["probabilities"], {"images": image[None].numpy()})
    assert probabilities.shape == (1, 10)
    assert json.loads(session.get_modelmeta().custom_metadata_map["class_names"])[3] == "3"
    _, message = run_example("train.py", *arguments, "--output", "cut", cwd=tmp_path)
    assert "--overwrite must be given: cut/model.keras is the result of a finished" in message
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


def test_train_refuses_a_folder_in_use(tmp_path, digits_folder):
    folder = tmp_path / "out"
    folder.mkdir()
    lock = files.Lock.of(folder)
    _, message = run_example("train.py", cwd=tmp_path)
    lock.release()
    assert message.startswith("train.py: --output must be a folder that no other process uses.")
    assert not list(folder.iterdir())


def test_train_compares_flags_recipe_and_data(tmp_path):
    train = load_example("train")
    photos = tmp_path / "photos"
    for name in ("cat/1.png", "dog/1.png"):
        (photos / name).parent.mkdir(parents=True)
        (photos / name).write_bytes(name.encode())
    args = argparse.Namespace(output=tmp_path, dataset=str(photos), seed=0, resume=True)
    info = argparse.Namespace(class_names=("cat", "dog"), num_train=1, num_validation=1)

    def run():
        return {
            "flags": train.fixed_flags(args),
            "recipe": km.Recipe(epochs=1).get_config(),
            "data": train.describe_data(args, info),
        }

    (tmp_path / "flags.json").write_text(json.dumps(run()))
    before = train.read_run(args)
    os.utime(photos / "cat/1.png", (0, 0))
    args.output = tmp_path / "moved"
    train.check_same_run(args, before, **run())
    args.output, args.seed = tmp_path, 1
    with pytest.raises(ValueError, match="needs the flags of the unfinished run: --seed 0"):
        train.check_same_run(args, before, **run())
    args.seed = 0
    (photos / "cat/1.png").write_bytes(b"cat/2.png")
    with pytest.raises(ValueError, match="needs the data of the unfinished run"):
        train.check_same_run(args, before, **run())
    (photos / "cat/1.png").rename(photos / "cat/2.png")
    with pytest.raises(ValueError, match="needs the data of the unfinished run"):
        train.check_same_run(args, before, **run())
    for damaged in ("", "[]", "{}", '{"flags": 3}', "[" * 100_000):
        (tmp_path / "flags.json").write_text(damaged)
        with pytest.raises(ValueError, match="--resume needs .*flags.json"):
            train.read_run(args)


def test_train_names_an_unreadable_image(tmp_path):
    for name in ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"):
        file = tmp_path / "photos[1]" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(file, np.zeros((8, 8, 3)))
        file.write_bytes(file.read_bytes()[:-20])
    batches, _, _ = km.data.load(tmp_path / "photos[1]", image_size=4)
    with pytest.raises(tf.errors.OpError) as error:
        next(iter(batches))
    message = load_example("training_run").unreadable_image(error.value)
    assert re.fullmatch(rf"{re.escape(str(tmp_path))}/photos\[1\]/\w+/\d.png is not .*", message)
    assert "damaged" in message


def flags(model, dtype="float32"):
    size = {"patch_size": 4, "hidden_dim": 32, "depth": 3}
    return argparse.Namespace(model=model, dtype=dtype, gradient_checkpointing=False, **size)


@pytest.mark.parametrize("model", ["vit", "mlp_mixer", "conv_mixer", "MMA", "CM"])
def test_train_builds_the_model_of_the_flag(model):
    info = argparse.Namespace(input_shape=(16, 16, 1), num_classes=10)
    built = load_example("train").build(flags(model, "mixed_bfloat16"), km.Recipe(epochs=1), info)
    assert built.input_shape == (None, 16, 16, 1)
    assert built.dtype_policy.name == "mixed_bfloat16"
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
