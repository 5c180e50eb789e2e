"""The command in a process, with a module in the place of Keras that takes no time."""

import os
import pathlib
import subprocess
import sys

import pytest

from keras_mixers.commands.parser import COMMANDS

ROOT = pathlib.Path(__file__).parents[2]
MODULE = ["-m", "keras_mixers"]
# What pip writes for the entry point of setup.cfg.
SCRIPT = "import sys\nfrom keras_mixers.commands.main import main\nsys.exit(main())\n"


def run_process(folder, keras, *arguments):
    """Run Python with a module `keras` of this source."""
    (folder / "keras.py").write_text(keras)
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("starts", ["module", "script"])
def test_flags_are_parsed_before_keras_is_imported(starts, tmp_path):
    program = MODULE
    if starts == "script":
        (tmp_path / "keras-mixers").write_text(SCRIPT)
        program = [tmp_path / "keras-mixers"]
    keras = "raise AssertionError('imported')"
    ended = run_process(tmp_path, keras, *program, "--help")
    assert ended.returncode == 0, ended.stderr
    assert all(f"\n    {name} " in ended.stdout for name in COMMANDS)
    ended = run_process(tmp_path, keras, *program, "predict", "a.keras", "b.png", "--top", "0")
    assert ended.returncode == 2
    assert "argument --top: must be 1 or more, not 0" in ended.stderr
    ended = run_process(tmp_path, keras, *program, "models")
    assert "AssertionError: imported" in ended.stderr, "valid flags: Keras is imported"


def test_setup_names_the_script():
    text = (ROOT / "setup.cfg").read_text()
    assert "    keras-mixers = keras_mixers.commands.main:main\n" in text


def test_ctrl_c_ends_the_import_with_one_line(tmp_path):
    keras = "import os\nos.write(2, b'a log')\nraise KeyboardInterrupt"
    ended = run_process(tmp_path, keras, *MODULE, "models")
    assert (ended.returncode, ended.stdout) == (130, "")
    assert ended.stderr == "\nkeras-mixers: interrupted\n"


def test_other_programs_keep_their_arguments(tmp_path):
    """A module that imports the package while Python looks for it also has "-m" in `sys.argv`."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "__init__.py").write_text("import keras_mixers.commands.begin as b\n")
    (tmp_path / "theirs" / "__main__.py").write_text("")
    ended = run_process(tmp_path, "raise ImportError('theirs')", "-m", "theirs", "--wrong")
    assert "usage" not in ended.stderr
    assert "theirs" in ended.stderr
