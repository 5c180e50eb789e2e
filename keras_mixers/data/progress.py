"""Work on many files in threads, with a progress bar if it takes long."""

import concurrent.futures
import time

import keras

from keras_mixers.data.random_access import THREADS

WAIT = 2.0  # seconds before the bar appears


class Progress:
    """Keras's progress bar, which appears `WAIT` seconds after the first file if work remains.

    Args:
        count: the number of files.
        title: what happens to the files, which is printed above the bar.
    """

    def __init__(self, count, title):
        self.bar, self.title = keras.utils.Progbar(count, unit_name="file"), title
        self.begin = None

    def update(self, done):
        """Show that so many files are done."""
        self.begin = self.begin or time.monotonic()
        if self.title and time.monotonic() - self.begin < WAIT:
            return
        if self.title:
            print(self.title)
            self.title = ""
        self.bar.update(done)


def in_threads(function, items, title, chunk=256):
    """A list of `function(item)` for each item, which threads compute.

    An error or Ctrl-C ends the work after the chunks that have begun.

    Args:
        function: of one item.
        items: a list.
        title: as for `Progress`.
        chunk: how many items a thread takes at once.
    """
    progress, results = Progress(len(items), title), []
    chunks = [items[start : start + chunk] for start in range(0, len(items), chunk)]
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        for part in pool.map(lambda part: [function(item) for item in part], chunks):
            results += part
            progress.update(len(results))
    return results
