"""Convert image files to PNG files, which are kept in a folder for the next time."""

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
    """`{path: its PNG file}` and `{path: problem}` of image files that Pillow decodes.

    A PNG file has a name that changes with the path, the size and the modification time of the
    image. Several processes can convert the same images at the same time. An interrupted conversion
    leaves complete PNG files only.

    Raises:
        OSError: if a PNG file cannot be written, for example because the disk is full.
    """
    if not paths:
        return {}, {}
    folder = kept_folder()
    with files.temporary_folder(folder) as temporary:
        convert = functools.partial(png_or_problem, folder=folder, temporary=temporary)
        title = f"Converting images to PNG in {folder}"
        found = dict(zip(paths, in_threads(convert, paths, title, chunk=1), strict=True))
    written = {path: png for path, (png, problem) in found.items() if not problem}
    return written, {path: problem for path, (_, problem) in found.items() if problem}


def png_or_problem(path, folder, temporary):
    """(the PNG file of an image, ""), or (None, problem) if the image is not readable."""
    try:
        status = pathlib.Path(path).stat()
    except OSError as error:
        return None, f"it cannot be opened: {error.strerror}"
    key = f"{VERSION}\0{status.st_size}\0{status.st_mtime_ns}\0".encode() + os.fsencode(path)
    png = folder / f"{hashlib.sha256(key).hexdigest()[:40]}.png"
    if png.exists():
        with contextlib.suppress(OSError):  # another user may have written it
            os.utime(png)  # because it is used
        return png, ""
    try:
        image = open_image(path)
    except ValueError as error:
        return None, arguments.reason(error)
    new = temporary / png.name
    try:
        with new.open("wb") as file:
            # Level 1 takes a fifth of the time of the default, for files a tenth larger.
            image.save(file, "PNG", compress_level=1)
            file.flush()
            os.fsync(file.fileno())
        new.replace(png)
    except OSError as error:
        problem = f"{error.strerror or error}, while {path!r} was converted to PNG"
        raise OSError(error.errno, problem, str(folder)) from error
    return png, ""


def kept_folder():
    """The folder of the PNG files, in Keras's folder, without those that are not used any more.

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
    for png in folder.glob("*.png"):
        with contextlib.suppress(OSError):  # another process may remove it too
            if time.time() - png.stat().st_mtime > UNUSED:
                png.unlink()
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
