"""The output folder of a run, and files that are written completely or not at all."""

import contextlib
import hashlib
import os
import pathlib

from keras_mixers.files import Lock, replacing

MOST_TO_READ = 2**30  # bytes of a data folder whose contents are compared


@contextlib.contextmanager
def locked(folder):
    """Create the output folder, and keep other processes out; remove it if it stays empty.

    Raises:
        ValueError: if another process uses the folder.
    """
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = Lock.of(folder)
    if lock is None:
        raise ValueError(
            f"--output must be a folder that no other process uses. Received: --output {folder},"
            " which another run is using"
        )
    try:
        yield
    finally:
        for path in created:
            with contextlib.suppress(OSError):  # it has files
                path.rmdir()
        lock.release()


def refuse_to_overwrite(args, *names):
    """Raise a ValueError if a finished run has written one of the files, without --overwrite."""
    found = [args.output / name for name in names if (args.output / name).exists()]
    if found and not args.overwrite:
        raise ValueError(
            f"--output must be another folder, or --overwrite must be given: {found[0]} is the"
            f" result of a finished run. Received: --output {args.output}"
        )


def describe_data(args, info):
    """What must not change in the data when a run is resumed, as JSON."""
    data = pathlib.Path(args.dataset)
    content = [digest_of(data)] if data.exists() else []
    return [*info.class_names, info.num_train, info.num_validation, *content]


def digest_of(data):
    """A digest of a CSV file, or of the names, sizes and contents of all files in a folder.

    It leaves out the contents of a large folder, because reading them would take hours, and the
    images that a CSV file names.
    """
    digest = hashlib.blake2b(digest_size=16)
    files = [data] if data.is_file() else sorted(data.rglob("*"))
    sizes = {path: path.stat().st_size for path in files if path.is_file()}
    is_small = sum(sizes.values()) <= MOST_TO_READ
    for path, size in sizes.items():
        digest.update(os.fsencode(path.relative_to(data)) + b"\0%d" % size)
        if is_small:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()


def save_figure(figure, path, **options):
    """Write a figure to a file atomically."""
    with replacing(path) as temporary:
        figure.savefig(temporary, **options)


def save_model(model, path):
    """Write a .keras file atomically."""
    with replacing(path) as temporary:
        model.save(temporary)


def print_content(folder):
    """Print which files the output folder contains."""
    paths = sorted(path for path in pathlib.Path(folder).iterdir() if path.name[0] != ".")
    names = [f"{path.name}/" if path.is_dir() else path.name for path in paths]
    print(f"{folder}/ contains {', '.join(names)}")
