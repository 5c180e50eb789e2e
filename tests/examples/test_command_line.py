"""examples/command_line.py, and what all examples that use it have in common."""

import argparse
import subprocess
import sys

import pytest
from run_example import EXAMPLES, load_example

from keras_mixers import files

WITHOUT_FLAGS = {
    "benchmark_contestant.py",
    "benchmark_imagenet_stages.py",
    "benchmark_models.py",
    "command_line.py",
    "joining.py",
    "support_table_runtime.py",
    "training_run.py",
}
WITH_FLAGS = sorted(path for path in EXAMPLES.glob("*.py") if path.name not in WITHOUT_FLAGS)


def test_help_needs_no_slow_import():
    """The modules that take seconds to import are replaced by None, so importing them fails."""
    program = """
import contextlib, io, runpy, sys
for module in ("keras", "tensorflow", "jax", "keras_mixers", "keras_tuner", "matplotlib"):
    sys.modules[module] = None
folder, *examples = sys.argv[1:]
sys.path.insert(0, folder)
for example in examples:
    for flag, code in (("--help", 0), ("--no-such-flag", 2)):
        sys.argv, text, ended = [example, flag], io.StringIO(), None
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            try:
                runpy.run_path(example, run_name="__main__")
            except SystemExit as end:
                ended = end.code
        assert ended == code and "usage:" in text.getvalue(), (example, flag, ended)
"""
    command = [sys.executable, "-c", program, EXAMPLES, *WITH_FLAGS]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-1000:]


@pytest.mark.parametrize("fails", [False, True])
def test_start_hides_what_an_import_logs(fails, tmp_path):
    """test_train.py shows that it hides the lines of TensorFlow."""
    package = (
        "import os\nos.write(2, b'a line')\nassert os.environ['TF_CPP_MIN_LOG_LEVEL'] == '3'\n"
    )
    (tmp_path / "keras_mixers.py").write_text(package + "1 / 0\n" * fails)
    text = """
import os, sys
os.environ.pop("TF_CPP_MIN_LOG_LEVEL", None)
sys.path[:0] = {folders!r}
import command_line
command_line.start(lambda: None)
os.write(2, b"still open")
"""
    text = text.format(folders=[str(tmp_path), str(EXAMPLES)])
    program = [sys.executable, "-c", text]
    ended = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (int(fails), "")
    assert ended.stderr == "still open" if not fails else ended.stderr.startswith("a lineTraceback")


def test_locked_folder_excludes_others_and_is_removed_if_empty(tmp_path):
    command_line = load_example("command_line")
    folder = tmp_path / "new" / "out"
    with command_line.locked(folder):
        assert folder.is_dir()
        with pytest.raises(ValueError, match="no other process uses.*new/out"):
            with command_line.locked(folder):
                pass
        assert folder.is_dir()
    assert not list(tmp_path.iterdir())
    with command_line.locked(folder):
        (folder / "result").write_text("")
    assert (folder / "result").exists()
    lock = files.Lock.of(folder)
    assert lock is not None, "the folder is unlocked at the end"
    lock.release()


def test_finished_run_is_not_overwritten(tmp_path, capsys):
    command_line = load_example("command_line")
    args = argparse.Namespace(output=tmp_path, overwrite=False)
    command_line.refuse_to_overwrite(args, "model.keras")
    (tmp_path / "model.keras").write_text("")
    with pytest.raises(ValueError, match="--overwrite must be given: .*model.keras is the result"):
        command_line.refuse_to_overwrite(args, "table.csv", "model.keras")
    args.overwrite = True
    command_line.refuse_to_overwrite(args, "model.keras")
    (tmp_path / "logs").mkdir()
    command_line.print_content(tmp_path)
    assert capsys.readouterr().out == f"{tmp_path}/ contains logs/, model.keras\n"


def test_data_of_a_run_includes_the_csv_file(tmp_path):
    file = tmp_path / "photos.csv"
    args = argparse.Namespace(dataset=str(file))
    info = argparse.Namespace(class_names=("cat", "dog"), num_train=2, num_validation=1)
    described = []
    for label in ("cat", "dog", "dog"):
        file.write_text(f"path,label\n1.jpg,{label}\n")
        described.append(load_example("command_line").describe_data(args, info))
    assert described[0] != described[1] == described[2]
