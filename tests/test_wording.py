"""Plain technical English: a search for phrases that a reader cannot look up or quote."""

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
        *ROOT.glob(".*"),
        *(f for d in FOLDERS for f in (ROOT / d).rglob("*")),
    ]
    if file.is_file() and (file.suffix in KINDS or file.parent.name == ".ci")
)
# A pattern, and what to write instead. Case does not matter; a match may span a line break.
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
# {file: phrases} that may stay, each with a reason. Empty: nothing may.
ALLOWED = {}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_text_has_no_banned_phrase(file):
    if file == pathlib.Path(__file__):
        return
    text = re.sub(r"\s*\n\s*#?\s*", " ", file.read_text())
    text = re.sub(r'"\s+f?"', "", text)  # a message written as several literals
    found = [
        f"{text[max(0, match.start() - 30) : match.end() + 20]!r}: write {instead!r}"
        for phrase, instead in BANNED.items()
        for match in re.finditer(phrase, text, re.IGNORECASE)
        if match[0] not in ALLOWED.get(file.name, ())
    ]
    assert not found, "\n".join(found)
