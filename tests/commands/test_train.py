"""`keras-mixers train`: kill and resume, the flags of a run, and the model that they name."""

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
import pytest
import tensorflow as tf
from run_command import run_command

import keras_mixers as km
from keras_mixers import files
from keras_mixers.commands import build, exits, folders, record, train

TOY = ["--hidden-dim", "32", "--depth", "1", "--patch-size", "4"]


@pytest.mark.slow
def test_train_resumes_after_a_kill(tmp_path, digits_folder):
    """A process is killed within an epoch; resumed here, it ends as an uninterrupted training."""
    # RandAugment is left out, because its graph takes seconds to trace.
    recipe = km.Recipe(epochs=2, augmentation=km.data.Augmentation(translation=0.1))
    recipe.save(tmp_path / "recipe.json")
    arguments = ["train", "digits", "--model", "C", *TOY]
    arguments += ["--recipe", "recipe.json", "--save-every", "5"]
    backup = tmp_path / "cut" / "backup.weights.h5"
    program = [sys.executable, "-m", "keras_mixers", *arguments, "--output", "cut"]
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
    position = km.training.Backup(backup)
    start = (position.epoch, position.batch)
    assert start > (0, 0)
    load, starts = km.data.load, []

    def recording(*arguments, **options):
        starts.append(options["start"])
        return load(*arguments, **options)

    def rerun(*more):
        return run_command(*arguments, *more, "--output", "cut", cwd=tmp_path)

    assert "holds an unfinished training run" in rerun()[2]
    _, _, message = rerun("--seed", "3", "--resume")
    assert "--resume needs the flags of the unfinished run: --seed 0" in message
    dataclasses.replace(recipe, learning_rate=1e-4).save(tmp_path / "recipe.json")
    assert "--resume needs the recipe of the unfinished run" in rerun("--resume")[2]
    recipe.save(tmp_path / "recipe.json")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(km.data, "load", recording)
        code, output, message = rerun("--resume")
    assert (code, message) == (0, "")
    assert starts == [start]
    accuracy = float(re.search(r"Test accuracy: ([\d.]+)%", output)[1])
    assert 0 < accuracy <= 100
    files = {path.name for path in (tmp_path / "cut").iterdir()}
    written = {"model.keras", "history.png", "recipe.json", "flags.json"}
    assert files == written, "the backup is deleted at the end"
    contents = "flags.json, history.png, model.keras, recipe.json"
    assert output.endswith(f"cut/ contains {contents}\n")
    code, _, message = rerun()
    assert code == 1
    assert "--overwrite must be given: cut/model.keras is the result of a finished" in message
    assert (tmp_path / "cut" / "history.png").read_bytes().startswith(b"\x89PNG")
    cut = keras.models.load_model(tmp_path / "cut" / "model.keras")
    batches, _, info = km.data.load("digits", 16, augmentation=recipe.augmentation)
    keras.utils.set_random_seed(0)
    assert cut.class_names == info.class_names
    assert cut.preprocessing == info.preprocessing
    whole = build.build(flags("C"), recipe, info)
    recipe.compile(whole, len(batches))
    whole.fit(batches, epochs=recipe.epochs, shuffle=False, verbose=0)
    assert cut(np.zeros((1, 16, 16, 1), "float32")).shape == (1, 10)
    for one, other in zip(cut.weights, whole.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-4, err_msg=one.path)


def test_train_refuses_a_folder_in_use(tmp_path, digits_folder):
    folder = tmp_path / "out"
    folder.mkdir()
    lock = files.Lock.of(folder)
    code, _, message = run_command("train", "digits", cwd=tmp_path)
    lock.release()
    assert code == 1
    assert message.startswith(
        "keras-mixers train: --output must be a folder that no other process uses."
    )
    assert not list(folder.iterdir())


def test_train_keeps_the_backup_that_it_cannot_replace(tmp_path, digits_folder):
    backup = tmp_path / "out" / record.BACKUP
    backup.parent.mkdir()
    backup.write_bytes(b"of an earlier run")
    flags = ["--overwrite", "--patch-size", "3"]
    code, _, message = run_command("train", "digits", *flags, cwd=tmp_path)
    assert code == 1
    assert "`patch_size` must divide" in message
    assert list(backup.parent.iterdir()) == [backup]
    args = argparse.Namespace(output=backup.parent, save_every=None)
    assert record.new_backup(args).epoch == 0
    assert not backup.exists()


@pytest.mark.parametrize(("several", "name"), [(True, "average precision"), (False, "accuracy")])
def test_train_names_its_metric(several, name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "save_model", lambda model, path: None)
    monkeypatch.setattr(train, "save_figure", lambda figure, path, dpi: None)
    recipe = km.Recipe(epochs=1, loss="sigmoid", multi_label=several)
    model = argparse.Namespace(evaluate=lambda test, verbose: (0.7, 0.5))
    backup = argparse.Namespace(history={"loss": [0.7]}, path=tmp_path / "backup")
    train.finish(argparse.Namespace(output=tmp_path), recipe, model, None, backup)
    assert f"Test {name}: 50.00%\n" in capsys.readouterr().out


def test_train_compares_flags_recipe_and_data(tmp_path):
    photos = tmp_path / "photos"
    for name in ("cat/1.png", "dog/1.png"):
        (photos / name).parent.mkdir(parents=True)
        (photos / name).write_bytes(name.encode())
    args = argparse.Namespace(output=tmp_path, dataset=str(photos), seed=0, resume=True, wait=1)
    info = argparse.Namespace(class_names=("cat", "dog"), num_train=1, num_validation=1)

    def run():
        return {
            "flags": record.fixed_flags(args, "wait"),
            "recipe": km.Recipe(epochs=1).get_config(),
            "data": folders.describe_data(args, info),
        }

    (tmp_path / "flags.json").write_text(json.dumps(run()))
    before = record.read_run(args)
    os.utime(photos / "cat/1.png", (0, 0))
    args.output, args.wait = tmp_path / "moved", 2
    record.check_same_run(args, before, **run())
    args.output, args.seed = tmp_path, 1
    with pytest.raises(ValueError, match="needs the flags of the unfinished run: --seed 0"):
        record.check_same_run(args, before, **run())
    args.seed, args.dataset = 0, "digits"
    with pytest.raises(ValueError, match=f"unfinished run: the dataset {photos}$"):
        record.check_same_run(args, before, flags=run()["flags"])
    args.dataset = str(photos)
    (photos / "cat/1.png").write_bytes(b"cat/2.png")
    with pytest.raises(ValueError, match="needs the data of the unfinished run"):
        record.check_same_run(args, before, **run())
    (photos / "cat/1.png").rename(photos / "cat/2.png")
    with pytest.raises(ValueError, match="needs the data of the unfinished run"):
        record.check_same_run(args, before, **run())
    for damaged in ("", "[]", "{}", '{"flags": 3}', "[" * 100_000):
        (tmp_path / "flags.json").write_text(damaged)
        with pytest.raises(ValueError, match="--resume needs .*flags.json"):
            record.read_run(args)


def test_train_names_an_unreadable_image(tmp_path):
    for name in ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"):
        file = tmp_path / "photos[1]" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(file, np.zeros((8, 8, 3)))
        file.write_bytes(file.read_bytes()[:-20])
    batches, _, _ = km.data.load(tmp_path / "photos[1]", image_size=4)
    with pytest.raises(tf.errors.OpError) as error:
        next(iter(batches))
    message = record.unreadable_image(error.value)
    assert re.fullmatch(rf"{re.escape(str(tmp_path))}/photos\[1\]/\w+/\d.png is not .*", message)
    assert "damaged" in message


def flags(model, dtype="float32"):
    size = {"patch_size": 4, "hidden_dim": 32, "depth": 3}
    return argparse.Namespace(model=model, dtype=dtype, gradient_checkpointing=False, **size)


@pytest.mark.parametrize("model", ["vit", "mlp_mixer", "conv_mixer", "MMA", "CM"])
def test_train_builds_the_model_of_the_flag(model):
    info = argparse.Namespace(input_shape=(16, 16, 1), num_classes=10)
    built = build.build(flags(model, "mixed_bfloat16"), km.Recipe(epochs=1), info)
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
        (["--output", "/dev/null/out"], ".*/dev/null/out"),
        (["--patch-size", "3"], r"`patch_size` must divide.*\(3, 3\).*\(16, 16\)"),
        (["--recipe", "smal"], "--recipe must be a JSON file or one of 'DeiT'.*'smal'"),
        (
            ["--recipe", "fine-tuning 100 images"],
            r"--recipe must train all weights of a new model; .*'fine-tuning 100 images', with",
        ),
        (
            ["--recipe", "DeiT", "--model", "conv_mixer"],
            "--recipe must suit --model conv_mixer, which has no argument 'stochastic_depth_rate'.*"
            "'DeiT'",
        ),
    ],
)
def test_train_names_a_wrong_flag(arguments, message, tmp_path, digits_folder):
    code, _, found = run_command("train", "digits", *arguments, cwd=tmp_path)
    assert code == 1
    assert re.match(f"keras-mixers train: {message}", found), found
    assert not list(tmp_path.iterdir())


def test_train_needs_a_recipe_for_the_labels_of_the_images(tmp_path):
    for i in range(4):
        keras.utils.save_img(tmp_path / f"{i}.png", np.zeros((8, 8, 3)))
    rows = [f"{i}.png,{label}" for i, label in enumerate(("cat;dog", "dog", "", "cat"))]
    (tmp_path / "photos.csv").write_text("\n".join(["path,labels", *rows]))
    code, _, message = run_command("train", "photos.csv", "--image-size", 8, cwd=tmp_path)
    assert code == 1
    assert "--recipe must have the `multi_label` of the images" in message
    assert "multi_label=False, and images with multi_label=True" in message
    assert not (tmp_path / "out").exists()


def test_train_needs_tensorflow_for_two_flags(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    code, _, message = run_command("train", "digits", "--mirrored", cwd=tmp_path)
    assert code == 1
    assert message.endswith("need KERAS_BACKEND=tensorflow. Received: KERAS_BACKEND=jax\n")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (
            KeyboardInterrupt(),
            exits.INTERRUPTED,
            "\nx: interrupted in epoch 3; resume with --resume",
        ),
        (FloatingPointError("NaN in step 5"), "x: NaN in step 5", ""),
        (OSError("disk full"), "x: disk full; resume with --resume", ""),
    ],
)
def test_end_of_a_long_run_is_one_line(error, code, message, capsys, monkeypatch):
    backup = argparse.Namespace(epoch=2)
    with pytest.raises(SystemExit) as end, record.short_errors("x", backup):
        raise error
    assert end.value.code == code
    assert capsys.readouterr().err.rstrip("\n") == message
    if isinstance(error, Exception):
        monkeypatch.setenv(exits.TRACEBACK, "1")
        with pytest.raises(type(error)), record.short_errors("x", backup):
            raise error
