"""examples/command_line.py, and what all examples that use it have in common."""

import subprocess
import sys

import pytest
from run_example import EXAMPLES

WITHOUT_FLAGS = {
    "benchmark_contestant.py",
    "benchmark_imagenet_stages.py",
    "benchmark_models.py",
    "command_line.py",
    "joining.py",
    "study_runs.py",
    "support_table_runtime.py",
    "train.py",
}
WITH_FLAGS = sorted(path for path in EXAMPLES.glob("*.py") if path.name not in WITHOUT_FLAGS)
assert WITH_FLAGS, "the examples lie elsewhere"


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


@pytest.mark.parametrize(
    ("ending", "code", "shown"),
    [
        ("", 0, "still open"),
        ("1 / 0\n", 1, "a lineTraceback"),
        ("raise KeyboardInterrupt\n", 130, ""),
    ],
)
def test_start_hides_what_an_import_logs(ending, code, shown, tmp_path):
    """tests/commands/test_train.py shows that TensorFlow's lines are hidden in the same way."""
    package = (
        "import os\nos.write(2, b'a line')\nassert os.environ['TF_CPP_MIN_LOG_LEVEL'] == '3'\n"
    )
    (tmp_path / "keras_mixers.py").write_text(package + ending)
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
    assert (ended.returncode, ended.stdout) == (code, "")
    assert ended.stderr.startswith(shown) if code == 1 else ended.stderr == shown
