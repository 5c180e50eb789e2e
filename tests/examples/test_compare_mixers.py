"""examples/compare_mixers.py."""

import argparse
import csv

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


def test_compare_mixers_builds_the_whole_study():
    module = load_example("compare_mixers")
    for name, contender in module.MODELS.items():
        side = contender.image_size
        info = argparse.Namespace(input_shape=(side, side, 3), num_classes=10)
        model = contender.build(info, "mixed_bfloat16")
        assert model.output_shape == (None, 10), name
        assert model.dtype_policy.name == "mixed_bfloat16", name
    assert len(module.STUDY) == 8
