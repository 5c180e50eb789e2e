"""Plain technical English: a search for phrases that a reader cannot look up or quote.

`.github/CONTRIBUTING.md` has the rule. To run this file on its own, which takes a second:

    pytest tests/test_wording.py
"""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
KINDS = {".cfg", ".html", ".md", ".py", ".sh", ".toml", ".yaml", ".yml"}
FOLDERS = ("keras_mixers", "examples", "tests", ".github", ".ci")
FILES = sorted(
    file
    for file in [
        *ROOT.glob("*"),
        *(file for folder in FOLDERS for file in (ROOT / folder).rglob("*")),
    ]
    if file.is_file() and (file.suffix in KINDS or file.parent.name == ".ci")
)

# {pattern: what to write instead}. Case does not matter; a match may span a line break.
BANNED = {
    r"(will|would|won't) (not )?do\b(?! )": "is valid, is allowed, must be",
    r"stand(s|ing)? in\b": "replaces, is used instead of",
    r"(is|are|was|were|be|been) (told|said)\b": "receives, is passed; the docstring states",
    r"(?<!there )(is|are) no (?!longer)\w+": "is not a ..., has no ...",
    r"but for\b": "except",
    r"\banew\b": "again",
    r"\bjudge[sd]?\b|\bjudging\b": "validate, check, evaluate",
    r"(go|goes|gone|went|going) on (with|from|to)\b": "continue, resume",
    r"of (its|their|your|my|our) own\b|of a user's own": "name the owner",
    r"\balone\b": "only",
    r"\bbeside\b": "next to",
    r"\bbehind\b": "after",
    r"for ever\b": "always, permanently",
    r"the like\b|\bsuch is\b|\bas such\b": "name the things",
    r"\bnobody\b|\bsomebody\b": "name the actor",
    r"\bshares of (each|the) class\b|\bshare of each class\b": "soft labels",
    r"\bno number\b": "NaN or infinite",
}
# {file name: phrases} that may stay, each with a comment that gives the reason.
ALLOWED = {}

# For each pattern, sentences that it finds and plain sentences that it does not find.
EXAMPLES = [
    (
        ["Another value will not do.", "any other would do; see", "what will\n    # do"],
        ["Keras will do it again", "the layer would do nothing", "undo"],
    ),
    (
        ["a fused form stands in for it", "standing in"],
        ["it stands for attention", "standing input", "the stand-in"],
    ),
    (
        ["the layer is told its size", "as was said", "must be\ntold"],
        ["the user is typing", "it told us", "they said"],
    ),
    (
        ["where it is no matrix", "that are no images", "a loss that is no number"],
        ["there is no file", "there are no keys", "it is no longer used", "has no bias"],
    ),
    (["equal but for the bias"], ["but forward passes are fast", "but the first"]),
    (["compiled anew"], ["a new model", "renewed"]),
    (["images to judge by", "as judged by", "judging"], ["a judgement", "evaluated"]),
    (
        ["it goes on with the next", "gone on from there", "going on to nothing"],
        ["it goes only up", "turned on with a flag", "go on"],
    ),
    (
        ["a process of its own", "models of your own", "a layer of a user's own"],
        ["its own process", "the user's own layer", "on its own"],
    ),
    (["trains the head alone"], ["only the head", "standalone"]),
    (["beside the file"], ["besides", "next to the file"]),
    (["the file behind it", "leaves nothing behind"], ["after the layer"]),
    (["waits for ever"], ["forever", "for every batch"]),
    (
        ["cats, dogs and the like", "such is the rule", "as such"],
        ["the likely case", "such as a list", "the same"],
    ),
    (["nobody says so", "somebody"], ["no user", "some bodies"]),
    (
        ["shares of each class", "the share of each class"],
        ["soft labels", "the share of blocks", "shares the class"],
    ),
    (["a loss that is no number"], ["no numbers", "not a number"]),
]


def found_in(text):
    """The banned phrases of a text: `[(pattern, phrase, its surroundings), ...]`."""
    text = re.sub(r"\s*\n\s*#?\s*", " ", text)
    text = re.sub(r'"\s+f?"', "", text)  # one message may be written as several literals
    return [
        (pattern, match[0], text[max(0, match.start() - 30) : match.end() + 20])
        for pattern in BANNED
        for match in re.finditer(pattern, text, re.IGNORECASE)
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_text_has_no_banned_phrase(file):
    if file == pathlib.Path(__file__):  # its patterns and examples are such phrases
        return
    allowed = ALLOWED.get(file.name, ())
    found = [
        f"{around!r}: write {BANNED[pattern]!r}"
        for pattern, phrase, around in found_in(file.read_text())
        if phrase not in allowed
    ]
    assert not found, "\n".join(found)


def test_files_of_every_kind_are_searched():
    names = {str(file.relative_to(ROOT)) for file in FILES}
    some = {"README.md", "setup.cfg", "pyproject.toml", "tests/run.sh", ".ci/run"}
    some |= {"keras_mixers/__init__.py", "examples/train.py", ".github/CONTRIBUTING.md"}
    assert some <= names
    assert all(name in {file.name for file in FILES} for name in ALLOWED)


@pytest.mark.parametrize(
    ("pattern", "examples"), list(zip(BANNED, EXAMPLES, strict=True)), ids=list(BANNED)
)
def test_pattern_finds_its_phrase_and_no_plain_one(pattern, examples):
    banned, plain = examples
    for text in banned:
        assert pattern in [found for found, *_ in found_in(text)], text
    for text in plain:
        assert pattern not in [found for found, *_ in found_in(text)], text


@pytest.mark.parametrize(
    "source",
    [
        '"""The layer is\n    told its size."""',
        "# The layer is\n# told its size.",
        'raise ValueError(\n    "the layer is"\n    f" told its size"\n)',
    ],
)
def test_phrase_over_several_lines_is_found(source):
    assert [phrase for _, phrase, _ in found_in(source)] == ["is told"]
