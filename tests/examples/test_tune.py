"""examples/tune.py."""

import argparse
import csv
import re

import keras
import numpy as np
import pytest
from run_example import load_example, run_example

import keras_mixers as km


@pytest.mark.slow
def test_tune_resumes_after_an_interruption(tmp_path, digits_folder):
    """The search is interrupted in its second trial; the same command resumes it."""
    few = ["--trials", "2", "--epochs", "1", "--final-epochs", "1", "--depth", "1"]
    few += ["--letters", "C", "M", "--output", "here"]
    fit, runs = km.tuning.HyperHybrid.fit, []

    def full_disk(model, path):
        raise OSError("no space")

    def interrupted(self, hp, *arguments, **options):
        runs.append(hp.values)
        if len(runs) == 2:
            raise KeyboardInterrupt
        return fit(self, hp, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(km.tuning.HyperHybrid, "fit", interrupted)
        run_example("tune.py", *few, cwd=tmp_path)
    output, message = run_example("tune.py", *few, cwd=tmp_path, save_model=full_disk)
    assert message == "tune.py: no space"
    found = [line.split()[1] for line in output.splitlines() if line.startswith("Trial ")]
    assert found == ["1:"], "the first trial is not run again"
    rows = list(csv.DictReader((tmp_path / "here" / "table.csv").read_text().splitlines()))
    assert len(rows) == 2
    assert {row["pattern"] for row in rows} <= {"C", "M"}
    assert "True" in {row["front"] for row in rows}
    assert "0 trials were over budget; configurations of too large models were" in output
    assert re.search(r"Best configuration \([CM], [\d,]+ parameters\): [\d.]+% of 360 test", output)
    assert re.search(r"Default configuration \(C, [\d,]+ parameters\): [\d.]+% of 360 test", output)
    assert (tmp_path / "here" / "picture.png").read_bytes().startswith(b"\x89PNG")
    _, message = run_example("tune.py", *few, cwd=tmp_path)
    assert not message, "the same command resumes what has not written the model"
    model = keras.models.load_model(tmp_path / "here" / "model.keras")
    assert model.class_names == tuple("0123456789")
    assert model.preprocessing == km.data.load("digits", 16)[2].preprocessing
    assert km.Recipe.load(tmp_path / "here" / "recipe.json").epochs == 1
    assert "here/model.onnx: onnx in float32" in output

    _, message = run_example("tune.py", *few, cwd=tmp_path)
    assert "here/model.keras is the result of a finished run" in message
    _, message = run_example("tune.py", "--letters", "X", cwd=tmp_path)
    assert "tune.py: `letters` must be one of" in message


def test_tune_searches_on_few_images(digits_folder):
    tune = load_example("tune")
    args = argparse.Namespace(dataset="digits", image_size=8, images=100, seed=1)
    train, validation, info = tune.make_load(args)(batch_size=100)
    assert (info.num_train, info.num_validation) == (80, 20)
    assert info.class_names == tuple("0123456789")
    labels = np.concatenate([next(iter(part))[1].numpy() for part in (train, validation)])
    first = next(iter(km.data.images("digits", "train").batch(100)))[1].numpy()
    drawn, first = (np.bincount(each, minlength=10).tolist() for each in (labels, first))
    assert sum(drawn) == 100
    assert drawn != first, "the images are drawn at random"


def test_tune_leaves_out_a_default_over_budget(capsys):
    space = km.tuning.HyperHybrid((8, 8, 1), 10, max_params=100)
    load_example("tune").train_default(None, space)
    printed = capsys.readouterr().out
    assert re.match(r"The default configuration is over budget: .* over max_params=100\n", printed)


def test_tune_compares_flags_and_data(tmp_path):
    tune = load_example("tune")
    photo = tmp_path / "photos" / "cat" / "1.png"
    photo.parent.mkdir(parents=True)
    photo.write_bytes(b"one")
    args = argparse.Namespace(output=tmp_path, dataset=str(tmp_path / "photos"), seed=1)
    info = argparse.Namespace(class_names=("cat",), num_train=1, num_validation=0)
    tune.check_search(args, info)
    args.images = None  # a flag of a later version
    tune.check_search(args, info)
    args.seed = 2
    with pytest.raises(ValueError, match="whose search had --seed 1"):
        tune.check_search(args, info)
    args.seed = 1
    photo.write_bytes(b"two")
    with pytest.raises(ValueError, match="the images must be those of the search"):
        tune.check_search(args, info)
    for damaged in ("", "[3]", "3", "[" * 100_000):
        (tmp_path / "flags.json").write_text(damaged)
        with pytest.raises(ValueError, match="flags.json, which is damaged"):
            tune.check_search(args, info)
