"""Keep the temporary files of other packages in a folder that is removed after a kill too."""

import contextlib
import functools
import sys
import tempfile
import threading
import types

from keras_mixers import files

MAKERS = ("NamedTemporaryFile", "TemporaryDirectory", "mkdtemp", "mkstemp")
# One export at a time, because another thread would otherwise write into a folder that is removed.
ONE_AT_A_TIME = threading.RLock()


@contextlib.contextmanager
def temporary_files_in(parent, *names):
    """Yield a temporary folder in `parent`, for the temporary files of modules too.

    By default they write into the system's folder, where a killed export leaves copies of models.

    Args:
        parent: the folder of the file that is written.
        names: of modules of other packages that are imported, and import `tempfile`.
    """
    with ONE_AT_A_TIME, files.temporary_folder(parent) as folder:
        makers = {name: functools.partial(getattr(tempfile, name), dir=folder) for name in MAKERS}
        inside = types.SimpleNamespace(**{**vars(tempfile), **makers})
        # These modules are not public, so a later release may lack some of them.
        modules = [sys.modules[name] for name in names if name in sys.modules]
        modules = [module for module in modules if vars(module).get("tempfile") is tempfile]
        for module in modules:
            module.tempfile = inside
        try:
            yield folder
        finally:
            for module in modules:
                module.tempfile = tempfile
