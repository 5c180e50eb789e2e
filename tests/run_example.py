"""Run an example of examples/ in this process, which has imported TensorFlow already."""

import contextlib
import importlib.util
import io
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def load_example(name):
    """The module of one example."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_example(file, *arguments, cwd, **replaced):
    """Run the example with command-line arguments; return (output, error message or "").

    `replaced` gives names of the example's module other values, so that it runs faster.
    """
    module = load_example(file.removesuffix(".py"))
    for name, value in replaced.items():
        assert hasattr(module, name), f"{file} has no {name}"
        setattr(module, name, value)
    output, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr(sys, "argv", [file, *arguments])
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            try:
                module.main()
                message = ""
            except SystemExit as end:
                # argparse prints its message and exits with 2.
                message = errors.getvalue() if end.code == 2 else str(end)
    return output.getvalue(), message
