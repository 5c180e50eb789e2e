"""Every example has a test."""

import pathlib

import pytest
from run_example import EXAMPLES

TESTS = "".join(file.read_text() for file in pathlib.Path(__file__).parent.glob("test_*.py"))


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.name)
def test_example_has_a_test(example):
    by_name = f'"{example.name}"' in TESTS
    assert by_name or f'load_example("{example.stem}")' in TESTS
