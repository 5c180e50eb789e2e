"""Preprocessing outside of an exported file: a function in Python, and one in JavaScript.

The file then takes prepared images, because its runtime may lack uint8, float64 or unknown sizes.
Both functions give the bits of `Preprocessing`. They are written next to the file, with the
model's numbers in them.
"""

import contextlib
import hashlib
import json
import pathlib
import re

from keras_mixers import arguments
from keras_mixers.models import image_model

OUTSIDE = "outside"
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # channels of the model -> Pillow's name
TEMPLATES = pathlib.Path(__file__).parent
COMMENTS = {".py": "#", ".js": "//"}  # suffix of a language -> what begins a comment


def check(model, path, is_file):
    """Check that images can be prepared outside; return the model's preprocessing."""
    preprocessing = image_model.fact_of(model, "preprocessing")
    if not is_file:
        raise ValueError(
            "`preprocessing` must not be 'outside' unless `path` names an ONNX or TensorFlow Lite"
            " file, without `version`. Received: preprocessing='outside' for"
            f" path='{path}'; preprocessing='model' makes it part of a SavedModel or of a page"
        )
    if preprocessing is None:
        raise ValueError(
            "`preprocessing` must not be 'outside' for a model without preprocessing. Received:"
            f" preprocessing='outside' for the model {model.name!r}; set model.preprocessing ="
            " keras_mixers.Preprocessing(...), of a keras_mixers.ImageModel"
        )
    channels = model.input_shape[-1]
    if channels not in MODES:
        raise ValueError(
            f"`preprocessing` must not be 'outside' unless the model takes {tuple(MODES)} channels,"
            " as pictures have. Received: preprocessing='outside' for a model that takes"
            f" {channels} channels"
        )
    check_files(path)
    return preprocessing


def check_files(path):
    """Raise ValueError if `write` would replace a file that it did not write, or that changed."""
    for file in files_of(path.resolve()):  # because what a link points to is replaced
        if file.exists() and not is_unchanged(file, path.resolve()):
            raise ValueError(
                "`path` must not have a file next to it that `export` would replace, and that it"
                f" did not write or that has changed. Received: path='{path}', next to"
                f" {file.name!r}; rename that file"
            )


def write(path, preprocessing, channels):
    """Write both functions next to the file at `path`."""
    values = preprocessing.get_config()
    values = {name.upper(): json.dumps(value) for name, value in values.items()}
    values["MODE"] = json.dumps(MODES[channels])
    values["FILTER"] = preprocessing.interpolation.upper()
    values["CHANNELS"] = str(channels)
    for file in files_of(path):
        values["NAME"] = json.dumps(f"./{file.name}")
        template = (TEMPLATES / f"prepare{file.suffix}.txt").read_text(encoding="utf-8")
        code = re.sub("%([A-Z_]+)%", lambda found: values[found[1]], template)
        line = header(path, file.suffix, code)
        file.write_text(f"{line}\n{code}", encoding="utf-8")


def remove(path):
    """Remove the functions that an earlier export to `path` wrote, where the system allows it."""
    path = path.resolve()
    for file in files_of(path):
        if is_unchanged(file, path):
            with contextlib.suppress(OSError):  # because the export itself has succeeded
                file.unlink()
        elif file.exists():
            arguments.warn(
                f"`export` leaves {file.name!r} next to {path.name!r}, because it did not write it,"
                " or because it has changed. It may not be for this model"
            )


def files_of(path):
    """Where both functions go: for `vit.onnx` into `vit_onnx_preprocessing.py` and `.js`."""
    stem = f"{path.stem}_{path.suffix[1:].lower()}_preprocessing"
    return [path.with_name(f"{stem}{suffix}") for suffix in COMMENTS]


def header(path, suffix, code):
    """The first line, by which `export` knows the file and whether the code has changed."""
    digest = hashlib.sha256(code.encode()).hexdigest()[:16]
    return (
        f"{COMMENTS[suffix]} For {json.dumps(path.name)}, written by keras_mixers.export: {digest}"
    )


def is_unchanged(file, path):
    """Whether a file is as `export` wrote it for `path`."""
    try:
        line, _, code = file.read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeError):
        return False
    return line == header(path, file.suffix, code)
