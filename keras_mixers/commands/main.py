"""Run one command, and turn its errors into one line and an exit code."""

import sys

from keras_mixers.commands.exits import NAME, ended_by_ctrl_c
from keras_mixers.commands.parser import parse
from keras_mixers.commands.record import unreadable_image


def main():
    """Run the command of the command line; the process ends with its exit code.

    A traceback appears only for an error that no argument, file or dataset explains, because it is
    a mistake in this package.
    """
    args = parse(sys.argv[1:])
    with ended_by_ctrl_c():
        try:
            args.run(args)
        except BrokenPipeError:  # such as `keras-mixers models | head`
            sys.stderr.close()  # because Python would report the output that it cannot flush
            raise SystemExit(0) from None
        except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
            raise SystemExit(f"{NAME} {args.command}: {one_line(error)}") from None
        except Exception as error:
            found = unreadable_image(error)
            if not found:
                raise
            raise SystemExit(f"{NAME} {args.command}: {found}") from None


def one_line(error):
    """The text of an error, or the name of its class if it has no text."""
    return " ".join(str(error).split()) or type(error).__name__
