"""The examples in docstrings run, and give the results that they show."""

import doctest
import importlib
import pathlib

import keras
import pytest

ROOT = pathlib.Path(__file__).parents[1]
FILES = sorted((ROOT / "keras_mixers").rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_docstring_examples_run(file, monkeypatch, tmp_path, digits_folder):
    monkeypatch.chdir(tmp_path)
    name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs={"keras": keras})
    assert result.failed == 0
    assert result.attempted or ">>>" not in file.read_text()
