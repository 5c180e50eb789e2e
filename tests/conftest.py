"""Fixtures and hooks of the whole suite.

This file imports neither Keras nor a backend, because the process that only distributes the tests
over workers loads it too, as do tests that need no model.
"""

import atexit
import contextlib
import functools
import gc
import os
import pathlib
import shutil
import sys
import tempfile
import unittest.mock

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # the same rounding in every process
# tf2onnx raises an error of its optimizer. By default it hides the error, and copies the graph
# before each of 25 steps, which takes a quarter of the time of an export.
os.environ.setdefault("TF2ONNX_CATCH_ERRORS", "FALSE")

TESTS = pathlib.Path(__file__).parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# Chromium needs --no-sandbox to run as root in a container. Two flags stop background requests.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
# Here a test runs on every backend unless it is marked `one_backend`, so that none is forgotten.
EVERY_BACKEND = [TESTS / name for name in ("layers", "models", "preprocessing")]


def pytest_configure(config):
    """Keep prepared datasets in a temporary folder instead of the user's home.

    Each worker has its own folder, because two workers that prepare one dataset disturb each other.
    """
    starts_workers = getattr(config.option, "numprocesses", None)
    if "TFDS_DATA_DIR" not in os.environ and not starts_workers:
        os.environ["TFDS_DATA_DIR"] = tempfile.mkdtemp(prefix="keras_mixers-datasets-")
        atexit.register(shutil.rmtree, os.environ["TFDS_DATA_DIR"], ignore_errors=True)


@functools.cache  # because it is asked for each of thousands of tests
def runs_on_every_backend(path):
    return any(folder in path.parents for folder in EVERY_BACKEND)


def pytest_ignore_collect(collection_path, config):
    """For `-m "backends..."`, skip files without such a test, because they import TensorFlow."""
    if config.option.markexpr.startswith("backends") and collection_path.name.startswith("test_"):
        marked = "mark.backends" in collection_path.read_text()
        return not (marked or runs_on_every_backend(collection_path)) or None
    return None


def pytest_itemcollected(item):
    if runs_on_every_backend(item.path) and not item.get_closest_marker("one_backend"):
        item.add_marker(pytest.mark.backends)
    if "browser" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.slow)


def pytest_collection_modifyitems(items):
    """Run slow tests first, beginning with the longest, so that no worker idles at the end."""
    items.sort(
        key=lambda item: (
            item.get_closest_marker("slow") is None,
            item.name != "test_readme_code_runs",
        )
    )


@pytest.fixture(scope="session")
def digits_folder():
    """The folder that holds the bundled digits, prepared for TFDS."""
    import keras_mixers as km

    km.data.load("digits")
    return os.environ["TFDS_DATA_DIR"]


@pytest.fixture(autouse=True, scope="module")
def fast_garbage_collection():
    """Exclude the objects that earlier files have left from each later collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def default_seed_and_dtype_policy():
    """Start every test from one seed and the default dtype policy."""
    keras = sys.modules.get("keras")
    if keras is None:  # the test needs no model
        yield
        return
    set_random_seed(keras)
    keras.config.set_dtype_policy("float32")
    yield
    keras.config.set_dtype_policy("float32")


def set_random_seed(keras):
    """Start the generators of random numbers, without a loss of TensorFlow's compiled functions.

    `tf.random.set_seed` drops these functions, so that TensorFlow compiles them again in each test.
    That is a fourth of the time of tests of models.
    """
    from tensorflow.python.eager import context

    with unittest.mock.patch.object(context.pywrap_tfe, "TFE_ContextClearCaches"):
        keras.utils.set_random_seed(0)


@pytest.fixture
def abstract_weights():
    """Build models without allocating weights."""
    from keras_mixers.models import abstract

    with abstract.abstract_weights():
        yield


@pytest.fixture
def limited_files():
    """A function `size -> context` in which a write past `size` bytes of a file fails."""
    resource = pytest.importorskip("resource", reason="needs RLIMIT_FSIZE")

    @contextlib.contextmanager
    def limited(size):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip(reason="needs Chromium (apt install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
