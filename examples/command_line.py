"""What the examples share: types of flags, and a quiet start.

It imports neither Keras nor TensorFlow, so that `--help` and wrong flags are answered at once. Some
of its functions are copies of commands/flags.py and commands/begin.py, because importing the
package imports Keras.
"""

import argparse
import importlib
import os
import pathlib
import tempfile


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
    """The flag that `refuse_to_overwrite` reads."""
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
        except KeyboardInterrupt:
            raise SystemExit(130) from None  # the exit code after Ctrl-C
        except Exception:
            log.seek(0)
            os.write(stderr, log.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
