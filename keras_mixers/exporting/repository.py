"""Folders that model servers watch: one folder a version of a model.

TensorFlow Serving reads a SavedModel from `path/<version>/`. Triton reads `path/config.pbtxt`,
`path/labels.txt` and `path/<version>/model.onnx`. Both ignore a folder whose name is not a number,
such as the temporary folder in which a version is written.
"""

import contextlib
import re

from keras_mixers import arguments, files
from keras_mixers.exporting import onnx, saved_model, triton

LARGEST_VERSION = 2**63 - 1  # both servers read the name as an int64
# The file that an export of each format writes into the folder of a version.
WRITTEN = {onnx: "model.onnx", saved_model: "saved_model.pb"}
OF_ONNX = re.compile(r"model\.onnx(\.[0-9a-f]{16}\.data)?")


def check(path, file_format, version):
    """Check a version, and that a model's folder has room for it; return the version."""
    version = arguments.integer("version", version, maximum=LARGEST_VERSION)
    if file_format not in WRITTEN:
        raise ValueError(
            f"`version` must be None for the format {file_format.FORMAT!r}, which no server reads."
            f" Received: version={version}; use format='onnx' or 'saved_model'"
        )
    if path.suffix.lower() == onnx.SUFFIX or (path.exists() and not path.is_dir()):
        raise ValueError(
            "`path` must name the model's folder if `version` is given, and not a file."
            f" Received: path='{path}'; format='onnx' writes an ONNX file into the folder"
        )
    for folder in versions(path):
        if not (folder / WRITTEN[file_format]).is_file():
            raise ValueError(
                "`path` must be new, or hold only versions of the same format. Received:"
                f" path='{path}', with {folder.name!r}, which has no {WRITTEN[file_format]!r}"
            )
    folder = path / str(version)
    if (path / "saved_model.pb").exists() or (
        folder.exists() and not (folder.is_dir() and may_replace(file_format, folder))
    ):
        raise ValueError(
            "`path` and `version` must name a new version, or one that `export` wrote, and `path`"
            f" itself must not hold a model. Received: path='{path}', version={version}"
        )
    return version


def check_fits(path, file_format, version, serving):
    """Raise ValueError, before a long export, if a Triton model's description does not fit."""
    if version is not None and file_format is onnx:
        triton.check(path, serving)


def replaced(path, file_format, version):
    """A warning as text if the export replaces a version that a server may have loaded, or None."""
    if version is None or file_format is onnx or not (path / str(version)).exists():
        return None
    return (
        f"`export` has replaced version {version} in {path.name!r}. TensorFlow Serving does not"
        " load it again if it has loaded it; use a new number"
    )


def versions(path):
    """The folders of the versions in a model's folder."""
    found = path.iterdir() if path.is_dir() else ()
    return sorted(folder for folder in found if folder.name.isdecimal() and folder.is_dir())


def may_replace(file_format, folder):
    """Whether a folder may be replaced: one that `export` wrote for this format."""
    if file_format is onnx:
        return all(OF_ONNX.fullmatch(file.name) for file in folder.iterdir())
    return not file_format.SUFFIX and file_format.other_content(folder) is None


def destination(path, file_format, version):
    """Where the format's file or folder goes."""
    if version is None:
        return path
    folder = path / str(version)
    return folder / WRITTEN[onnx] if file_format is onnx else folder


@contextlib.contextmanager
def replacing(path, file_format, version):
    """Yield the temporary path of a format's file, and move it to its place if the body succeeds.

    The first version brings the model's whole folder, so that a server finds none without a
    version.
    """
    is_new = version is not None and not path.exists()
    target = path if version is None or is_new else path / str(version)
    with (
        files.new_parents(target) if is_new else contextlib.nullcontext(),
        files.replacing(target, lambda folder: may_replace(file_format, folder)) as temporary,
    ):
        if version is None:
            yield temporary
            return
        root = temporary if is_new else temporary.parent
        file = destination(root, file_format, version)
        file.parent.mkdir(parents=True, exist_ok=True)
        yield file
        if file_format is onnx:
            triton.describe(file, root, path)
