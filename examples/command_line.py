"""What the examples share: types of flags, a quiet start, and the output folder.

It imports neither Keras nor TensorFlow, so that `--help` and wrong flags are answered at once.
"""

import argparse
import contextlib
import hashlib
import importlib
import os
import pathlib
import sys
import tempfile

MOST_TO_READ = 2**30  # bytes of a data folder whose contents are compared


def at_least(lowest):
    def parse(text):
        number = int(text)
        if number < lowest:
            raise argparse.ArgumentTypeError(f"must be {lowest} or more, not {number}")
        return number

    parse.__name__ = "int"  # because argparse writes this name into "invalid int value"
    return parse


def positive_float(text):
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a finite number above 0, not {text}")
    return number


def add_overwrite(parser):
    """The flag that `new_folder` reads."""
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the files of a finished run in --output"
    )


def add_dtype(parser):
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
        help="dtype policy of the model; the mixed ones keep float32 weights",
    )


def visualization_parser(description, **defaults):
    """A parser with the flags that both visualization examples share."""
    flags = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    flags.add_argument(
        "--dataset", default="digits", help="digits, a TFDS name, or a folder of images"
    )
    flags.add_argument(
        "--model", type=pathlib.Path, help="a .keras file to visualize, instead of training"
    )
    flags.add_argument("--image-size", type=int, help="image height and width in pixels")
    flags.add_argument("--patch-size", type=int, help="patch height and width in pixels")
    flags.add_argument("--depth", type=int, help="number of blocks")
    flags.add_argument("--epochs", type=int, default=40, help="epochs of the recipe 'small'")
    flags.add_argument("--weight-decay", type=float, help="strong decay removes unneeded weights")
    flags.add_argument("--image", type=int, default=0, help="index of the test image to draw")
    flags.add_argument(
        "--seed", type=int, default=0, help="seed of weights, data order and augmentation"
    )
    flags.add_argument(
        "--output", type=pathlib.Path, default=pathlib.Path("looked"), help="output folder"
    )
    add_overwrite(flags)
    flags.set_defaults(**defaults)
    return flags


def start(parse_arguments):
    """Parse the command line, which may end the process, then import keras_mixers.

    TensorFlow writes log lines to stderr when it is imported, some of them before any setting of
    its logs has an effect. They are shown only if the import fails.
    """
    parse_arguments()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            importlib.import_module("keras_mixers")
        except BaseException:
            log.seek(0)
            os.write(stderr, log.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


@contextlib.contextmanager
def locked(folder):
    """Create the output folder, and keep other processes out; remove it if it stays empty.

    Raises:
        ValueError: if another process uses the folder.
    """
    from keras_mixers.files import Lock

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
    from keras_mixers.files import replacing

    with replacing(path) as temporary:
        figure.savefig(temporary, **options)


def save_model(model, path):
    """Write a .keras file atomically."""
    from keras_mixers.files import replacing

    with replacing(path) as temporary:
        model.save(temporary)


def print_content(folder):
    """Print which files the output folder contains."""
    paths = sorted(path for path in pathlib.Path(folder).iterdir() if path.name[0] != ".")
    names = [f"{path.name}/" if path.is_dir() else path.name for path in paths]
    print(f"{folder}/ contains {', '.join(names)}", file=sys.stdout)
