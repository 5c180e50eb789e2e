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
    added = []
    folder = tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        temporary = pathlib.Path(folder, path.name)
        yield temporary
        companions = [file for file in pathlib.Path(folder).iterdir() if file != temporary]
        for companion in companions:
            beside = path.parent / companion.name
            if not beside.exists():
                added.append(beside)
            companion.replace(beside)
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
    except BaseException:
        for file in added:
            file.unlink(missing_ok=True)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def size(path):
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
