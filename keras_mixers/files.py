"""Write a file or folder atomically (completely, or not at all), and measure its size."""

import contextlib
import pathlib
import shutil
import tempfile


@contextlib.contextmanager
def replacing(path):
    """Yield a temporary path, and move it to `path` if the body succeeds.

    The body may write other files into the folder of the temporary path. These files are moved into
    the folder of `path` first. After an error, `path` is unchanged and no new file is left.
    """
    added = []
    folder = tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        temporary = pathlib.Path(folder, path.name)
        yield temporary
        companions = [file for file in pathlib.Path(folder).iterdir() if file != temporary]
        for companion in companions:
            destination = path.parent / companion.name
            if not destination.exists():
                added.append(destination)
            companion.replace(destination)
        if path.is_dir():  # move it away first, because `replace` cannot overwrite a folder
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
    """Size in bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
