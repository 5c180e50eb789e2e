"""Putting a finished file or folder in place, whole or not at all."""

import contextlib
import pathlib
import shutil
import tempfile


@contextlib.contextmanager
def replacing(path):
    """Yield a temporary path beside `path` that takes its place if the body succeeds.

    What else the body writes beside the temporary path is put beside `path` first. On any failure
    what was at `path` stays and nothing is left beside it.
    """
    folder = tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        temporary = pathlib.Path(folder, path.name)
        yield temporary
        for companion in pathlib.Path(folder).iterdir():
            if companion != temporary:
                companion.replace(path.parent / companion.name)
        if path.is_dir():  # a folder cannot be replaced in one step: move the old one aside
            old = pathlib.Path(folder, "old")
            path.replace(old)
            try:
                temporary.replace(path)
            except OSError:
                old.replace(path)
                raise
        else:
            temporary.replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def size(path):
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
