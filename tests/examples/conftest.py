"""Fixtures of the tests of examples/."""

import pytest

import keras_mixers as km


@pytest.fixture
def without_rand_augment(monkeypatch):
    """Replace the recipe "small" by one without RandAugment, whose graph takes seconds to trace."""
    recipe = km.Recipe(epochs=80, augmentation=km.data.Augmentation(translation=0.1))
    monkeypatch.setattr(km, "recipes", lambda: {"small": recipe})
