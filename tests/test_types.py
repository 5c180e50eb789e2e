"""The public names have types: `py.typed` promises them to users and their tools."""

import functools
import json
import os
import pathlib
import re
import subprocess
import sys

import public_api
import pytest

ROOT = pathlib.Path(__file__).parents[1]
# basedpyright brings its own Node.js, so it downloads nothing when it runs.
COMMAND = [sys.executable, "-m", "basedpyright", "--verifytypes", "keras_mixers"]
OPTIONS = ["--ignoreexternal", "--outputjson", "--pythonpath", sys.executable]

pytestmark = pytest.mark.slow


@functools.cache
def symbols():
    """What basedpyright reports for each name of the package."""
    finished = subprocess.run(
        [*COMMAND, *OPTIONS],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(finished.stdout)
    return {symbol["name"]: symbol for symbol in report["typeCompleteness"]["symbols"]}


def problems(name):
    """The errors for a name, except those that only say that Keras's classes have no types.

    `ImageModel` is partially unknown only because its base class is Keras's.
    """
    diagnostics = symbols().get(name, {"diagnostics": []})["diagnostics"]
    messages = [found["message"] for found in diagnostics if found["severity"] == "error"]
    of_keras = 'base class|metaclass|Return type is "ImageModel"'
    return [text for text in messages if not re.search(of_keras, text)]


def test_public_names_have_known_types():
    """The types of arguments, results and dataclass fields."""
    assert "keras_mixers.models.vit.ViT" in symbols()
    found = {}
    for name, thing in public_api.names().items():
        if callable(thing):
            defined = f"{thing.__module__}.{thing.__qualname__}"
            fields = getattr(thing, "__dataclass_fields__", ())
            members = [defined, *(f"{defined}.{member}" for member in ("__init__", *fields))]
            found[name] = [problem for member in members for problem in problems(member)]
    found = {name: unknown for name, unknown in found.items() if unknown}
    assert not found, json.dumps(found, indent=2)
