"""Keep the temporary files of other packages in a folder that is removed after a kill too."""

import contextlib
import functools
import importlib
import tempfile
import types

from keras_mixers import files

MAKERS = ("TemporaryDirectory", "mkdtemp", "mkstemp")


@contextlib.contextmanager
def temporary_files_in(parent, *names):
    """Yield a temporary folder in `parent`, for the temporary files of modules too.

    By default they write into the system's folder, where a killed export leaves copies of models.

    Args:
        parent: the folder of the file that is written.
        names: of modules of other packages that import `tempfile`.
    """
    with files.temporary_folder(parent) as folder:
        makers = {name: functools.partial(getattr(tempfile, name), dir=folder) for name in MAKERS}
        inside = types.SimpleNamespace(**{**vars(tempfile), **makers})
        modules = [importlib.import_module(name) for name in names]
        modules = [module for module in modules if vars(module).get("tempfile") is tempfile]
        for module in modules:
            module.tempfile = inside
        try:
            yield folder
        finally:
            for module in modules:
                module.tempfile = tempfile
