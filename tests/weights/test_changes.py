"""A weight file that changes while it is read, and a load that is interrupted."""

import os
import shutil

import goldens
import keras
import numpy as np
import pytest

import keras_mixers as km
from keras_mixers.weights import load
from keras_mixers.weights.source import Source

VIT, GOOGLE = "timm_vit.safetensors", "google_vit_token.npz"
NAMES = ["w.safetensors", "w.npz", "w.keras", "w.weights.h5"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(models, folder): a model for each name, and two files `0_name` and `1_name`."""
    folder = tmp_path_factory.mktemp("files")
    vit, google = goldens.make(VIT), goldens.make(GOOGLE)
    for seed in (0, 1):
        for model in (vit, google):
            rng = np.random.default_rng(seed)
            model.set_weights([rng.normal(size=w.shape) for w in model.weights])
        km.save_weights(vit, folder / f"{seed}_w.safetensors")
        km.save_weights(google, folder / f"{seed}_w.npz", format="google")
        vit.save(folder / f"{seed}_w.keras")
        vit.save_weights(folder / f"{seed}_w.weights.h5")
    return {name: google if name.endswith("npz") else vit for name in NAMES}, folder


def shorten(path, _):
    os.truncate(path, path.stat().st_size // 3)


def rewrite(path, other):
    """Write another valid file into the same file, as `open(path, "wb")` does."""
    with path.open("rb+") as file:
        file.write(other.read_bytes())


def rewrite_and_set_time(path, other):
    before = path.stat()
    rewrite(path, other)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path, other):
    shutil.copy(other, path.with_name("copy"))
    path.with_name("copy").replace(path)


def remove(path, _):
    path.unlink()


CHANGES = [shorten, rewrite, rewrite_and_set_time, replace, remove]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("after", [0, 29])
@pytest.mark.parametrize("name", NAMES)
def test_files_that_change_while_they_are_read_are_refused(
    name, after, change, written, tmp_path, monkeypatch
):
    """The change comes after `after` of the 30 weights are read."""
    models, folder = written
    path, other = shutil.copy(folder / f"0_{name}", tmp_path / name), folder / f"1_{name}"
    model, read, count = models[name], load.read, 0
    before = model.get_weights()

    def read_and_change(assignment):
        nonlocal count
        if count == after:
            change(path, other)
        count += 1
        return read(assignment)

    monkeypatch.setattr(load, "read", read_and_change)
    with pytest.raises(ValueError, match="`source` (must not change|is damaged)|must be finite"):
        km.load_weights(model, path)
    for one, again in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, again)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("name", NAMES)
def test_interrupted_assignments_are_undone(name, error, written, monkeypatch):
    models, folder = written
    model, path = models[name], folder / f"0_{name}"
    model.set_weights([np.full(w.shape, 3) for w in model.weights])
    before, assign, count = model.get_weights(), keras.Variable.assign, 0

    def interrupted(variable, value):
        nonlocal count
        count += 1
        if count == 20:
            raise error
        return assign(variable, value)

    monkeypatch.setattr(keras.Variable, "assign", interrupted)
    with pytest.raises(error):
        km.load_weights(model, path)
    monkeypatch.undo()
    for one, again in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, again)
    assert km.load_weights(model, path).loaded == len(model.weights)


def test_source_detects_a_change_right_after_it_is_opened(tmp_path):
    """A file system can give two changes in a row the same time."""
    path = tmp_path / "file"
    for _ in range(20):
        path.write_bytes(b"one")
        with Source(path) as source:
            source.check_unchanged()
            with path.open("rb+") as file:
                file.write(b"two")
            with pytest.raises(ValueError, match="`source` must not change while it is read"):
                source.check_unchanged()
