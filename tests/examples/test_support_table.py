"""examples/support_table.py and its processes, on one small model."""

import csv
import json
import subprocess
import types

from run_example import load_example, run_example


def test_support_table_runs_files(tmp_path):
    runtime = load_example("support_table_runtime")

    def process(name, jobs, args):
        if name == "openvino":
            return "", "No module named 'openvino'"
        answers = runtime.answers(name, args.npm, jobs)
        return "".join(f"{json.dumps(answer)}\n" for answer in answers), ""

    model = ("ConvMixer", "768/32", {"patch_size": 4, "hidden_dim": 8, "depth": 1})
    few = ["--options", "ONNX", "--runtimes", "onnxruntime", "openvino", "--csv", "table.csv"]
    replaced = {"MODELS": {"small": model}, "process": process}
    output, message = run_example("support_table.py", *few, cwd=tmp_path, **replaced)
    assert not message
    row, other = csv.DictReader((tmp_path / "table.csv").read_text().splitlines())
    assert 0 < float(row["difference"]) < 1e-5
    assert (other["version"], other["difference"]) == ("not installed", "")
    assert f"| small | {row['difference']} | not installed |" in output


def test_support_table_continues_after_the_end_of_a_process():
    module = load_example("support_table")
    processes = [
        ('"1.2"\n{"logits": [1]}\n', "the process ended by SIGSEGV"),
        ('"1.2"\n', "node ended"),
        ('"1.2"\n"refused"\n', ""),
    ]
    asked = []

    def process(name, jobs, args):
        asked.append((name, jobs))
        return processes[len(asked) - 1]

    module.process = process
    version, answers = module.run("opencv", [1, 2, 3, 4], None)
    assert version == "1.2"
    assert answers == [{"logits": [1]}, "the process ended by SIGSEGV", "node ended", "refused"]
    assert asked == [("opencv", [1, 2, 3, 4]), ("opencv", [3, 4]), ("opencv", [4])]


def test_support_table_says_how_a_process_ended(tmp_path, monkeypatch):
    module = load_example("support_table")
    args = types.SimpleNamespace(python={}, npm=".")

    def ended(code, errors):
        answer = subprocess.CompletedProcess([], code, '"1.2"\n', errors)
        monkeypatch.setattr(subprocess, "run", lambda command, **_: answer)
        return module.process("onnxruntime-1.18", [], args)

    assert ended(-11, "") == ('"1.2"\n', "the process ended by SIGSEGV")
    assert ended(1, "Traceback\nno such module\n") == ('"1.2"\n', "no such module")

    def late(command, **_):
        raise subprocess.TimeoutExpired(command, 1, output=b'"1.2"\n')

    monkeypatch.setattr(subprocess, "run", late)
    assert module.process("onnxruntime", [], args) == ('"1.2"\n', "it took more than 600 s")


def test_support_table_measures_the_largest_difference(tmp_path):
    module = load_example("support_table")
    arrays = tmp_path / "arrays.npz"
    module.np.savez(arrays, images=[0], logits=[[2.0, -4.0]], features=[1.0])
    job = {"arrays": arrays, "names": ["logits", "features"]}
    assert module.difference({"logits": [[2.0, -3.0]], "features": [1.1]}, job) == 0.25
    assert module.difference({"logits": [[2.0, -4.0]], "features": [None]}, job) == float("inf")
    assert module.difference({"logits": [2.0, -4.0], "features": [1.0]}, job) == float("inf")
    row = {"option": "ONNX", "difference": "2.5e-01"}
    assert module.cell(row, []) == "**2.5e-01**"
    assert module.cell({**row, "option": "ONNX, int8 static"}, []) == "2.5e-01"


def test_support_table_numbers_refusals(capsys):
    rows = [
        {"option": "ONNX", "model": model, "runtime": "opencv-4", "version": "4.1", "refusal": why}
        for model, why in (("a", "first"), ("b", "second"), ("c", "first"))
    ]
    module = load_example("support_table")
    module.show(rows)
    output = capsys.readouterr().out
    assert "| model | opencv 4.1 |" in output
    assert "| a | [1] |\n| b | [2] |\n| c | [1] |" in output
    assert "[2] second" in output
    long = "OpenCV(5.0) /io/x.cpp:3: error: (-2:Unspecified error) in function 'handleNode'\n> no"
    assert module.shortened(long) == "no"
    assert module.shortened("x" * 200) == "x" * 150 + "..."
