"""examples/compare_mixers.py."""

import argparse
import csv
import sys

import keras
import pytest
from run_example import load_example, run_example


@pytest.mark.slow
def test_compare_mixers_writes_table_and_picture(tmp_path, digits_folder, without_rand_augment):
    few = ["--models", "CM", "--epochs", "1", "--without-augmentation"]
    few += ["--dataset", "digits", "--logs", "csv", "--output", "here"]
    output, message = run_example("compare_mixers.py", *few, cwd=tmp_path, PREDICTED=64)
    assert not message
    rows = list(csv.DictReader((tmp_path / "here" / "table.csv").read_text().splitlines()))
    assert [(row["model"], row["augmentation"]) for row in rows] == [
        *(("CM", "with"), ("CM", "without"))
    ]
    assert all(0 < float(row["accuracy"]) <= 100 for row in rows)
    assert output.splitlines()[-3].split() == list(rows[0])
    assert (tmp_path / "here" / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "here" / "CM-without-0.csv").read_text().startswith("epoch,accuracy,loss")
    model = keras.saving.load_model(tmp_path / "here" / "runs" / "CM-with-0.keras")
    assert model.class_names == tuple("0123456789")


def test_compare_mixers_resumes_a_killed_study(tmp_path):
    trained, errors = [], {1: ValueError("no such dataset"), 4: OSError("no space")}

    def train(run, recipe, args):
        trained.append(run.name)
        if len(trained) in errors:
            raise errors[len(trained)]
        numbers = {"parameters": 10, "s_per_epoch": 2, "cpu_s_per_epoch": 3, "images_s": 4}
        return None, {"accuracy": 0.5 + 0.1 * run.seed, "seconds": 600, **numbers}

    def save_model(model, path):
        path.write_bytes(b"")

    def study(*flags):
        few = ["--dataset", "fashion_mnist", "--output", "here", "--models", "CM", "one-layer ViT"]
        replaced = {"train": train, "save_model": save_model}
        return run_example("compare_mixers.py", *few, *flags, cwd=tmp_path, **replaced)

    assert study()[1] == "compare_mixers.py: no such dataset"
    assert not list(tmp_path.iterdir())
    (tmp_path / "here" / "runs").mkdir(parents=True)  # as after a kill within the first run
    _, message = study("--seeds", "2")
    assert message == "compare_mixers.py: no space"
    table = (tmp_path / "here" / "table.csv").read_text().splitlines()
    assert [line.split(",")[:3] for line in table[1:]] == [
        *(["CM", "10", "2"], ["one-layer ViT", "10", "2"])
    ]
    _, message = study("--seeds", "2")
    assert "--resume or --overwrite must be given" in message
    output, message = study("--seeds", "2", "--resume")
    assert not message
    assert trained[-2:] == ["CM-with-1", "one-layer-ViT-with-1"]
    assert len(trained) == 6
    assert "3 of 4: CM, with augmentation, seed 1; 20 min left for the study" in output
    rows = list(csv.DictReader((tmp_path / "here" / "table.csv").read_text().splitlines()))
    assert [(row["seeds"], row["accuracy"], row["worst"]) for row in rows] == [
        ("2", "55.0", "50.0")
    ] * 2

    _, message = study("--resume", "--epochs", "3", "--dtype", "mixed_bfloat16")
    assert "dtype 'float32' (now 'mixed_bfloat16'), epochs 80 (now 3)" in message
    file = tmp_path / "here" / "runs" / "CM-with-0.json"
    file.write_text(file.read_text().replace('"model.patch_size": 4', '"model.patch_size": 7'))
    assert "had model.patch_size 7 (now 4)" in study("--resume")[1]
    file.write_text(file.read_text()[:100])
    assert "CM-with-0.json, which is damaged: JSONDecodeError" in study("--resume")[1]
    errors[len(trained) + 1] = OSError("no network")
    assert study("--overwrite")[1] == "compare_mixers.py: no network"
    assert file.exists(), "an error before the first run is finished keeps the earlier study"
    assert not study("--overwrite")[1]
    assert {path.name for path in file.parent.glob("*.json")} == {
        *("CM-with-0.json", "one-layer-ViT-with-0.json")
    }


def test_compare_mixers_resumes_only_the_same_images(tmp_path):
    module = load_example("compare_mixers")
    photo = tmp_path / "cat" / "1.png"
    photo.parent.mkdir()
    flags = {"recipe": "small", "epochs": 1, "seeds": 1, "without_augmentation": False}
    args = argparse.Namespace(dataset=str(tmp_path), dtype="float32", models=["CM"], **flags)
    found = []
    for content in (b"one", b"two"):
        photo.write_bytes(content)
        (run,) = module.plan(args)
        found.append(run.settings["data"])
    assert found[0] != found[1]


def test_compare_mixers_knows_all_its_models(monkeypatch):
    module = load_example("compare_mixers")
    flags = ["--models", "all", "--seeds", "2", "--dataset", "digits"]
    monkeypatch.setattr(sys, "argv", ["compare_mixers.py", *flags])
    runs = list(module.plan(module.parse_arguments()))
    assert [run.model for run in runs] == 2 * list(module.MODELS)


def test_compare_mixers_needs_a_recipe_for_new_models(tmp_path):
    _, message = run_example("compare_mixers.py", "--recipe", "PEFT LoRA", cwd=tmp_path)
    assert "--recipe must train all weights of a new model" in message
    assert not list(tmp_path.iterdir())


def test_compare_mixers_builds_the_whole_study():
    module = load_example("compare_mixers")
    for name, contender in module.MODELS.items():
        side = contender.image_size
        of_28 = contender.on("fashion_mnist:3.0.1")
        assert of_28.image_size == 28
        assert 28 % of_28.patch_size == 0
        assert contender.on("cifar10") == contender
        info = argparse.Namespace(input_shape=(side, side, 3), num_classes=10)
        model = contender.build(info, "mixed_bfloat16", name="given")
        assert model.name == "given"
        assert model.output_shape == (None, 10), name
        assert model.dtype_policy.name == "mixed_bfloat16", name
    assert module.STUDY[0] == "Mixer x2"
    assert module.STUDY[-1] == "one-layer ViT"


def test_time_left_of_a_study():
    """A run takes as long as other seeds of its model, or as the mean run."""
    module = load_example("study_runs")
    runs = {
        (model, seed): module.Run(model, "with", seed, {}) for model in "AB" for seed in range(3)
    }
    assert module.seconds_left(runs.values(), {}) is None
    rows = {runs["A", 0]: {"seconds": 100}, runs["A", 1]: {"seconds": 300}}
    assert module.seconds_left(runs.values(), rows) == 4 * 200
    rows[runs["B", 0]] = {"seconds": 2600}
    assert module.seconds_left(runs.values(), rows) == 200 + 2 * 2600
    assert [module.in_words(seconds) for seconds in (None, 20, 89, 3900)] == [
        *("an unknown time", "0 min", "1 min", "1 h 05 min")
    ]
