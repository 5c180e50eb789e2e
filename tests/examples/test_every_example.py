"""Every example has a test."""

import pathlib
import re

import pytest
from run_example import EXAMPLES

FILES = pathlib.Path(__file__).parent.glob("test_*.py")
# Without the list of those that have no flags, which is not a test.
TESTS = re.sub(
    r"WITHOUT_FLAGS = {.*?}", "", "".join(path.read_text() for path in FILES), flags=re.S
)


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.name)
def test_example_has_a_test(example):
    name = re.escape(example.stem)
    assert re.search(rf'"{name}\.py"|load_example\("{name}"\)|\b(import|from) {name}\b', TESTS)
