"""How the command ends: its name and its switch in messages, and the end by Ctrl-C."""

import contextlib
import sys

NAME = "keras-mixers"
TRACEBACK = "KERAS_MIXERS_TRACEBACK"  # an environment variable: errors have tracebacks
INTERRUPTED = 130  # the exit code after Ctrl-C: 128 and the number of the signal


@contextlib.contextmanager
def ended_by_ctrl_c():
    """A scope in which Ctrl-C ends the process with one line, and with the code for it."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"\n{NAME}: interrupted", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
