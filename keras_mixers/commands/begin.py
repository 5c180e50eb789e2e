"""Answer `--help` and wrong flags before the imports that take seconds.

Python imports the whole package before it runs `python -m keras_mixers`, or the program that pip
writes for `keras-mixers`. So the first import of the package calls `begin`.
"""

import contextlib
import importlib
import os
import pathlib
import sys
import tempfile

from keras_mixers.commands.exits import NAME, ended_by_ctrl_c
from keras_mixers.commands.parser import parse


def begin():
    """If this process runs the command, parse its flags, which may end it, and import Keras."""
    if is_command():
        parse(sys.argv[1:])
        with ended_by_ctrl_c(), without_logs():
            importlib.import_module("keras")


def is_command():
    """Whether this process is `keras-mixers ...` or `python -m keras_mixers ...`.

    While Python looks for the module of `-m`, `sys.argv` begins with "-m". The name of the module
    is then before the arguments of the module.
    """
    program, *arguments = sys.argv or [""]
    if program == "-m":
        return sys.orig_argv[-1 - len(arguments)] == "keras_mixers"
    return pathlib.Path(program).stem == NAME


@contextlib.contextmanager
def without_logs():
    """A scope in which what the process writes to stderr is shown only after an error.

    TensorFlow logs lines when it is imported, some of them before a setting of its logs has an
    effect.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        except Exception:
            log.seek(0)
            os.write(stderr, log.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
