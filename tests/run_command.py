"""Run `keras-mixers` in this process, which has imported TensorFlow already."""

import contextlib
import io
import sys

import pytest

from keras_mixers.commands.main import main


def run_command(*arguments, cwd):
    """Run a command in a folder; return (exit code, stdout, stderr)."""
    output, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["keras-mixers", *map(str, arguments)])
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            try:
                main()
                code = 0
            except SystemExit as end:
                code = end.code
                if isinstance(code, str):  # as Python does at the end of a process
                    print(code, file=errors)
                    code = 1
    return code, output.getvalue(), errors.getvalue()
