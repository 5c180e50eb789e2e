"""Where the page's onnxruntime-web comes from: a copy of the npm package's files, or an address."""

import html
import os
import pathlib
import re
import urllib.parse

from keras_mixers import arguments

PACKAGE = pathlib.Path("node_modules", "onnxruntime-web")
FOLDER = "runtime"  # of the copy
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
EXPECTED = (
    "`runtime` must be the folder of the npm package onnxruntime-web, or an address of its files"
    " that begins with https:// or http://"
)
HINT = "`npm install onnxruntime-web` installs it (1.20 or newer)"


def found(runtime):
    """The folder that holds `FILES`, or an address that ends in a slash.

    Args:
        runtime: the folder of the npm package or of its files, an address of its files that begins
            with `https://` or `http://`, or None for the package in the current folder.

    Raises:
        ValueError: if a file is missing.
    """
    if isinstance(runtime, str) and re.match("https?://", runtime):
        return runtime.rstrip("/") + "/"
    if runtime is not None and not isinstance(runtime, (str, os.PathLike)):
        raise TypeError(f"{EXPECTED}. {arguments.received(runtime=runtime)}")
    folder = pathlib.Path(PACKAGE if runtime is None else runtime)
    for place in (folder, folder / "dist"):
        if all((place / name).is_file() for name in FILES):
            return place
    given = "runtime=None" if runtime is None else f"runtime='{runtime}'"
    raise ValueError(
        f"{EXPECTED}. Received: {given}, but '{folder / 'dist'}' has no {FILES[0]!r}; {HINT}"
    )


def source_of(runtime):
    """The origin from which the page may load the runtime, for its Content-Security-Policy."""
    parts = urllib.parse.urlsplit(runtime)
    return html.escape(f"{parts.scheme}://{parts.netloc}") if parts.scheme else ""
