"""A line on the terminal while an export takes long."""

import sys
import time

QUIET = 2.0  # seconds in which nothing is said: most exports end before


class Progress:
    """Says which stage an export is in, once it has run for `QUIET` seconds."""

    def __init__(self, path):
        self.path, self.start = path, time.monotonic()

    def __call__(self, stage):
        passed = time.monotonic() - self.start
        if passed > QUIET:
            print(f"{self.path}: {stage} ({passed:.0f} s)", file=sys.stderr, flush=True)
