"""Run one command, and turn its errors into one line and an exit code."""

import os
import sys

from keras_mixers.commands.exits import NAME, TRACEBACK, ended_by_ctrl_c
from keras_mixers.commands.parser import parse
from keras_mixers.commands.record import unreadable_image

# Errors whose text names an argument, a file or a dataset. A TypeError or a RuntimeError may also
# be a mistake in this package. With `TRACEBACK` in the environment, its traceback shows where.
WITH_TEXT = (ValueError, TypeError, OSError, ImportError, RuntimeError)


def main():
    """Run the command of the command line; the process ends with its exit code.

    An error that no argument, file or dataset explains is a mistake in this package: it keeps its
    traceback. If the environment has `TRACEBACK`, each error does.
    """
    args = parse(sys.argv[1:])
    with ended_by_ctrl_c():
        try:
            args.run(args)
            sys.stdout.flush()  # here, where its errors are handled
        except BrokenPipeError:  # such as `keras-mixers models | head`
            sys.stderr.close()  # because Python would report the output that it cannot flush
            raise SystemExit(0) from None
        except Exception as error:
            text = explanation(error, args)
            if text is None or os.environ.get(TRACEBACK):
                raise
            raise SystemExit(f"{NAME} {args.command}: {text}") from None


def explanation(error, args):
    """One line about an error that an argument, a file or a dataset explains, or None."""
    if isinstance(error, WITH_TEXT):
        return one_line(error)
    import tensorflow as tf

    if isinstance(error, (MemoryError, tf.errors.ResourceExhaustedError)):
        return "out of memory" + ("; lower --batch-size" if "batch_size" in args else "")
    return unreadable_image(error)


def one_line(error):
    """The text of an error, or the name of its class if it has no text."""
    return " ".join(str(error).split()) or type(error).__name__
