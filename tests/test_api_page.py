"""The pages of the API: tests/api_page.py."""

import re

import api_page
import pytest

import keras_mixers as km


@pytest.fixture(scope="module")
def pages():
    """All pages; a warning of pdoc is an error."""
    return api_page.build()


def test_pages_have_no_broken_reference(pages):
    assert api_page.problems(pages) == []


def test_every_public_name_is_documented_with_its_signature(pages):
    for name, thing in api_page.NAMES.items():
        module, _, short = name.rpartition(".")
        if name in api_page.MODULES or short == "__version__":
            continue
        section = re.search(
            rf'<section id="{short}">(.*?)</section>', pages[api_page.path_of(module)], re.DOTALL
        )
        assert section, name
        head, docstring, _ = section[1].partition('<div class="docstring">')
        assert docstring, name
        shown = set(re.findall(r"\w+", re.sub(r"<[^>]+>", "", head)))
        arguments = set(api_page.public_api.signature(thing).parameters)
        assert arguments <= shown or thing is km.ImageModel, name  # the builders make it
    assert "keras.src" not in pages["keras_mixers.html"], "annotations are those of the source"


def test_problems_finds_broken_references(pages):
    page = '<p id="a"></p><a href="#b"></a><a href="data.html#load"></a><code>km.no_name</code>'
    found = api_page.problems({**pages, "keras_mixers/x.html": page})
    assert found == [
        "keras_mixers/x.html: the link #b",
        "keras_mixers/x.html: the name km.no_name",
    ]


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("km.data.load", "keras_mixers.data#load"),
        ("km.data.load(..., seed=1)", "keras_mixers.data#load"),
        ("km.Recipe.for_epochs", "keras_mixers#Recipe"),
        ("keras_mixers.probe", "keras_mixers.probe"),
        ("Backup", "keras_mixers.training#Backup"),
        ("Recipe(loss='sigmoid')", "keras_mixers#Recipe"),
        ("load", None),  # also the name of an argument
        ("km.nothing", None),
    ],
)
def test_target_of_a_name(text, target):
    assert api_page.target_of(text, "keras_mixers") == target
