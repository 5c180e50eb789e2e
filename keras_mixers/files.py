"""Write files and folders atomically (completely, or not at all), and lock folders.

A temporary folder is locked while its process lives. The system releases the lock when the process
ends, even if it is killed, so that a later call can find and remove the folder.
"""

import contextlib
import ctypes
import errno
import os
import pathlib
import shutil
import tempfile

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

TEMPORARY = ".keras_mixers-"  # the first part of the name of each temporary folder
LEFTOVER = f"{TEMPORARY}????????.tmp"  # the whole name, so that no folder of a user has it
# renameat2 of Linux and renamex_np of macOS use this number for the same flag.
EXCHANGE = 2
AT_FDCWD = -100


@contextlib.contextmanager
def replacing(path, may_replace=None):
    """Yield a temporary path, and move it to `path` if the body succeeds.

    The body may write other files into the folder of the temporary path. These files are moved into
    the folder of `path` first. After an error, `path` is unchanged and no new file is left. If
    `path` is a link, the file that it points to is replaced.

    Args:
        path: where the new file or folder goes.
        may_replace: a function `path -> bool`: whether the folder at `path` may be deleted. Without
            it, no folder is replaced.

    Raises:
        IsADirectoryError: if `path` is a folder that must not be replaced.
        OSError: if the file cannot be written; the error names `path`.
    """
    path = pathlib.Path(path).resolve()
    check_replaceable(path, may_replace)
    added = []
    try:
        with temporary_folder(path.parent) as folder:
            temporary = folder / path.name
            yield temporary
            flush_to_disk(folder)
            check_replaceable(path, may_replace)  # again, because the body can take minutes
            for companion in [file for file in folder.iterdir() if file != temporary]:
                destination = path.parent / companion.name
                check_replaceable(destination)
                if not destination.exists():
                    added.append(destination)
                companion.replace(destination)
            move(temporary, path)
            added.clear()
    except OSError as error:
        if error.errno is None or not concerns(error, path.parent):
            raise
        raise type(error)(error.errno, error.strerror, str(path)) from error
    finally:
        for file in added:
            file.unlink(missing_ok=True)


@contextlib.contextmanager
def new_parents(path):
    """Create the folders in which `path` lies; after an error, remove those that are new."""
    new = [folder for folder in path.resolve().parents if not folder.exists()]
    path.resolve().parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for folder in new:
            with contextlib.suppress(OSError):  # because another process may use it too
                folder.rmdir()
        raise


def write_text(path, text):
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check_replaceable(path, may_replace=None):
    """Raise an OSError if a new file or folder at `path` would delete something else.

    A file may be replaced; a folder only if `may_replace` agrees; a device or a pipe never.
    """
    if path.is_dir():
        if may_replace is None or not may_replace(path):
            raise IsADirectoryError(errno.EISDIR, "A folder is not overwritten", str(path))
    elif path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "Not a regular file, so not overwritten", str(path))


def concerns(error, folder):
    """Whether an OSError is about a temporary folder in `folder`, or about a full disk."""
    if error.filename is None:
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return str(error.filename).startswith(str(folder / TEMPORARY))


def move(source, destination):
    """Move a file or folder to `destination`; swap the two if a folder is there."""
    if not destination.is_dir():
        source.replace(destination)
    elif not exchange(source, destination):
        old = source.with_name("old")
        destination.replace(old)
        try:
            source.replace(destination)
        except OSError:
            old.replace(destination)
            raise


def exchange(first, second):
    """Swap two paths in one step; return False if the system cannot."""
    libc = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None
    names = os.fsencode(first), os.fsencode(second)
    if hasattr(libc, "renameat2"):
        failed = libc.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], EXCHANGE)
    elif hasattr(libc, "renamex_np"):
        failed = libc.renamex_np(*names, EXCHANGE)
    else:
        return False
    number = ctypes.get_errno()
    # Some file systems, such as NFS, do not support the flag.
    if failed and number not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        raise OSError(number, os.strerror(number), str(second))
    return not failed


def flush_to_disk(folder):
    """Write all files of a folder to the disk, so that a power cut leaves the old or the new."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())


@contextlib.contextmanager
def temporary_folder(parent=None):
    """Yield a new folder in `parent` (default: the system's), and remove it at the end.

    Folders in `parent` that killed processes left are removed first.
    """
    parent = pathlib.Path(parent or tempfile.gettempdir())
    remove_leftovers(parent)
    lock = None
    while lock is None:  # because another process can remove the folder before it is locked
        folder = pathlib.Path(tempfile.mkdtemp(prefix=TEMPORARY, suffix=".tmp", dir=parent))
        lock = Lock.of(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def remove_leftovers(parent):
    """Remove the temporary folders in `parent` whose processes have ended."""
    if fcntl is None:
        return  # because nothing tells whether their processes have ended
    for folder in pathlib.Path(parent).glob(LEFTOVER):
        lock = Lock.of(folder)
        if lock is not None and lock.descriptor is not None:
            shutil.rmtree(folder, ignore_errors=True)
            lock.release()


class Lock:
    """A lock on a folder. It ends with `release`, or with the process.

    Where the system has no such locks, `descriptor` is None, and the lock excludes no one.
    """

    def __init__(self, descriptor):
        self.descriptor = descriptor

    @classmethod
    def of(cls, folder):
        """Lock a folder; None if another process has locked it, or if it does not exist."""
        if fcntl is None:
            return cls(None)
        descriptor = None
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), pathlib.Path(folder).stat()):
                return cls(descriptor)
        except (BlockingIOError, FileNotFoundError, NotADirectoryError):
            pass
        except OSError:  # the file system or the permissions do not allow a lock
            if descriptor is not None:
                os.close(descriptor)
            return cls(None)
        if descriptor is not None:
            os.close(descriptor)
        return None

    def release(self):
        """Unlock the folder."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


def size(path):
    """Size in bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
