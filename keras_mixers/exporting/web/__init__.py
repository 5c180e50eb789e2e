"""A demonstration in a browser: an ONNX file, and one page that classifies pictures with it.

The page shows the most probable classes of a picture or of the camera. If the model has attention,
it also shows how much attention of the last block goes to each part of the picture.
"""

import html
import json
import pathlib
import re
import shutil

from keras_mixers import arguments
from keras_mixers.exporting import onnx
from keras_mixers.exporting.web.attention import attention_of
from keras_mixers.exporting.web.runtime import FILES, FOLDER, found, source_of
from keras_mixers.preprocessing.decode import CHANNELS

FORMAT = "web"
SUFFIX = ""  # a folder
REFUSES = {"dtype": "quantize='float16' stores the weights in half precision"}
PAGE, MODEL, DESCRIPTION = "index.html", "model.onnx", "model.json"
# All three are in each export, so that no other folder is taken for one.
REQUIRED = {PAGE, MODEL, DESCRIPTION}
TEMPLATE = pathlib.Path(__file__).with_name("page.html")


def check(model, preprocessing, runtime):
    """Check that a page can show the model's input and output, and find onnxruntime-web.

    Returns:
        The folder of onnxruntime-web's files, or the address of one.
    """
    channels = model.input_shape[-1]
    if preprocessing is None or channels not in CHANNELS or len(model.outputs) > 1:
        raise ValueError(
            "`format`='web' needs `preprocessing`, because the page takes pictures of any size, and"
            f" a model of one output that takes {CHANNELS} channels. Received:"
            f" preprocessing={preprocessing}, and a model of {len(model.outputs)} outputs that"
            f" takes {channels} channels"
        )
    return found(runtime)


def save(serving, path, progress):
    """Write the page, the ONNX file, its description, and a copy of onnxruntime-web."""
    path.mkdir()
    details = onnx.save(serving, path / MODEL, progress)
    runtime = serving.runtime
    if isinstance(runtime, pathlib.Path):
        (path / FOLDER).mkdir()
        for name in FILES:
            shutil.copyfile(runtime / name, path / FOLDER / name)
        runtime = f"./{FOLDER}/"
    description = {
        **serving.metadata,
        "input_shape": list(serving.model.input_shape[1:]),
        "attention": attention_of(serving.model),
        "runtime": runtime,
    }
    (path / DESCRIPTION).write_text(json.dumps(description, indent=2), encoding="utf-8")
    values = {"%TITLE%": html.escape(serving.metadata["variant"]), "%SOURCE%": source_of(runtime)}
    page = TEMPLATE.read_text(encoding="utf-8")
    page = re.sub("%TITLE%|%SOURCE%", lambda found: values[found[0]], page)
    (path / PAGE).write_text(page, encoding="utf-8")
    return details


def load(path):
    """Open the ONNX file in onnxruntime, as a function `images -> {name: output}`."""
    return onnx.load(path / MODEL)


def finish(_path):
    """Do nothing: the folder has no files outside."""


def other_content(folder):
    """What in a folder is not from an export, as text; None if `export` may replace the folder."""
    names = {file.name for file in folder.iterdir()}
    inner = folder / FOLDER
    if inner.is_dir() and not inner.is_symlink():
        names |= {f"{FOLDER}/{file.name}" for file in inner.iterdir()} - {
            f"{FOLDER}/{name}" for name in FILES
        }
        names.remove(FOLDER)
    written = re.compile(rf"{re.escape(MODEL)}(\.[0-9a-f]{{16}}\.data)?")
    other = sorted(n for n in names if n not in REQUIRED and not written.fullmatch(n))
    missing = sorted(REQUIRED - names)
    if other:
        return f"with {arguments.shown(other[0])} in it"
    return f"without {missing[0]!r} in it" if names and missing else None
