"""A recipe that the examples train with in less time."""

import dataclasses

import pytest


@pytest.fixture
def without_rand_augment(monkeypatch):
    """The recipe "small" without RandAugment, because tracing its graph takes seconds."""
    import keras_mixers as km
    from keras_mixers.training import published

    augmentation = km.data.Augmentation(translation=0.1)
    recipe = dataclasses.replace(published.RECIPES["small"], augmentation=augmentation)
    monkeypatch.setitem(published.RECIPES, "small", recipe)
