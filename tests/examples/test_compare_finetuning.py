"""examples/compare_finetuning.py."""

import csv
import json

import pytest
from run_example import load_example, run_example

FEW = {
    "METHODS": {"LoRA": ({"lora_rank": 1}, (1e-2,)), "full": ({"layer_decay": 0.9}, (1e-3,))},
    "LEAST_STEPS": 2,
    "STEPS_TO_TIME": 1,
}
SIZE = ["--dataset", "digits", "--patch-size", "4", "--hidden-dim", "32", "--depth", "1"]
SIZE += ["--pretraining-epochs", "1", "--seeds", "1", "--images", "5", "--output", "here"]


@pytest.mark.slow
def test_study_resumes_and_writes_its_tables(tmp_path, digits_folder):
    """Interrupted in the second of two runs, then continued."""
    original, calls = load_example("compare_finetuning").finetune, []

    def interrupted(*arguments):
        calls.append(arguments[3:])
        if len(calls) == 1:  # not trained, to save time
            return {"validation": 50.0, "test": 50.0}
        if len(calls) == 2:
            raise OSError("killed")
        return original(*arguments)

    options = {"cwd": tmp_path, "finetune": interrupted, **FEW}
    _, message = run_example("compare_finetuning.py", *SIZE, **options)
    assert message == "compare_finetuning.py: killed"
    before = json.loads((tmp_path / "here" / "results.json").read_text())["runs"]
    output, message = run_example("compare_finetuning.py", *SIZE, **options)
    assert not message
    first, second = ("LoRA", 5, 1e-2, 0), ("full", 5, 1e-3, 0)
    assert calls == [first, second, second], "the first run is not repeated"
    assert "2/2 full, 5 images, rate 0.001, seed 0: {" in output
    runs = json.loads((tmp_path / "here" / "results.json").read_text())["runs"]
    assert before.items() < runs.items()

    lora, full = csv.DictReader((tmp_path / "here" / "table.csv").read_text().splitlines())
    assert (lora["method"], full["method"]) == ("LoRA", "full")
    assert float(full["accuracy"]) == runs["full, 5 images, rate 0.001, seed 0"]["test"]
    lora, full = csv.DictReader((tmp_path / "here" / "cost.csv").read_text().splitlines())
    assert float(full["trained_%"]) == 100 > 2 * float(lora["trained_%"])
    assert float(full["optimizer_MB"]) > float(full["weights_MB"])
    assert (tmp_path / "here" / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_study_chooses_rate_by_validation_images():
    results = {1e-3: {"validation": 90, "test": 80}, 1e-2: {"validation": 91, "test": 70}}
    assert load_example("compare_finetuning").best(results) == 1e-2


def test_study_names_a_wrong_argument(tmp_path, digits_folder):
    table = tmp_path / "here" / "table.csv"  # of an earlier study
    table.parent.mkdir()
    table.write_text("")
    arguments = [*SIZE, "--images", "6", "--overwrite"]
    _, message = run_example("compare_finetuning.py", *arguments, cwd=tmp_path, **FEW)
    assert "--images must be multiples of the 5 new classes" in message
    assert table.exists()
