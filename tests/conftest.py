"""Every test starts from the same seed and the default dtype policy."""

import atexit
import gc
import os
import shutil
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # the same rounding in every process

import keras
import pytest

from keras_mixers.models import abstract


def pytest_configure(config):
    """Prepared datasets go where the suite's other traces go, and not to the user's home.

    Each worker has its own: two that prepare one dataset at once are in each other's way.
    """
    starts_workers = getattr(config.option, "numprocesses", None)
    if "TFDS_DATA_DIR" not in os.environ and not starts_workers:
        os.environ["TFDS_DATA_DIR"] = tempfile.mkdtemp(prefix="keras_mixers-datasets-")
        atexit.register(shutil.rmtree, os.environ["TFDS_DATA_DIR"], ignore_errors=True)


@pytest.fixture(scope="session")
def digits_folder():
    """Where the bundled digits lie prepared."""
    import keras_mixers as km

    km.data.load("digits")
    return os.environ["TFDS_DATA_DIR"]


@pytest.fixture(autouse=True, scope="module")
def little_garbage():
    """What earlier files' tests leave for ever is not looked through with each collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def clean_slate():
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("float32")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def abstract_weights():
    """Models are built without allocating a weight."""
    with abstract.abstract_weights():
        yield
