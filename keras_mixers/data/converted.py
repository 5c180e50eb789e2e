"""Convert image files to BMP or PNG files, which are kept in a folder for the next time."""

import atexit
import contextlib
import functools
import hashlib
import os
import pathlib
import shutil
import tempfile
import time

from keras_mixers import arguments, files
from keras_mixers.data.progress import in_threads
from keras_mixers.preprocessing.pillow import open_image

VERSION = 1  # of the pixels that `open_image` returns
UNUSED = 30 * 24 * 3600  # seconds after which a file that no `load` has used is removed


def converted(paths):
    """`{path: its converted file}` and `{path: problem}` of image files that Pillow decodes.

    The name of a converted file changes if the image changes (see `version_of`). Several processes
    can convert the same images at the same time. An interrupted conversion leaves complete files
    only.

    Raises:
        OSError: if a file cannot be written, for example because the disk is full.
    """
    if not paths:
        return {}, {}
    folder = kept_folder()
    with files.temporary_folder(folder) as temporary:
        convert = functools.partial(file_or_problem, folder=folder, temporary=temporary)
        title = f"Converting images into {folder}"
        found = dict(zip(paths, in_threads(convert, paths, title, chunk=1), strict=True))
    written = {path: file for path, (file, problem) in found.items() if not problem}
    return written, {path: problem for path, (_, problem) in found.items() if problem}


def file_or_problem(path, folder, temporary):
    """(the converted file of an image, ""), or (None, problem) if the image is not readable."""
    try:
        status = pathlib.Path(path).stat()
    except OSError as error:
        return None, f"it cannot be opened: {error.strerror}"
    kept = folder / f"{version_of(path, status)}.image"
    if kept.exists():
        with contextlib.suppress(OSError):  # another user may have written it
            os.utime(kept)  # because it is used
        return kept, ""
    try:
        image = open_image(path)
    except ValueError as error:
        return None, arguments.reason(error)
    new = temporary / kept.name
    try:
        with new.open("wb") as file:
            write(image, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(kept)
    except OSError as error:
        problem = f"{error.strerror or error}, while {path!r} was converted"
        raise OSError(error.errno, problem, str(folder)) from error
    return kept, ""


def version_of(path, status):
    """A text that changes with the path of a file and, as far as its status shows, its content.

    The modification time is not enough. Archives and `cp -p` restore it, and uncompressed images of
    equal sides have equal sizes. Only the system sets the time of the last change of the status.
    """
    facts = (VERSION, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    key = "\0".join(map(str, facts)).encode() + b"\0" + os.fsencode(path)
    return hashlib.sha256(key).hexdigest()[:40]


def write(image, file):
    """Write a PIL image of mode L, RGB or RGBA so that TensorFlow reads its pixels."""
    if image.mode == "RGB":
        # Three megapixels take 5 ms, and 300 ms as PNG, which is not much smaller for photographs.
        image.save(file, "BMP")
    else:  # scans in black and white are much smaller as PNG
        image.save(file, "PNG", compress_level=1)


def kept_folder():
    """The folder of the converted files in Keras's folder, without those that are not used now.

    If Keras's folder cannot be written, it is a temporary folder of this process.
    """
    folder = pathlib.Path(os.environ.get("KERAS_HOME", "~/.keras"), "keras_mixers", "images")
    try:
        folder = folder.expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        is_writable = os.access(folder, os.R_OK | os.W_OK | os.X_OK)
    except (OSError, RuntimeError):  # RuntimeError: the user has no home
        is_writable = False
    if not is_writable:
        return temporary_folder(folder)
    for kept in folder.glob("*.image"):
        with contextlib.suppress(OSError):  # another process may remove it too
            if time.time() - kept.stat().st_mtime > UNUSED:
                kept.unlink()
    return folder


@functools.cache
def temporary_folder(folder):
    """A folder that is removed when the process ends, because `folder` cannot be written."""
    temporary = pathlib.Path(tempfile.mkdtemp(prefix="keras_mixers-images-"))
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    arguments.warn(
        f"Converted images are kept only until this process ends, because {os.fspath(folder)!r}"
        " cannot be written. The environment variable KERAS_HOME names another folder"
    )
    return temporary
