"""KerasTuner collects garbage before each trial, among all that the whole suite has made."""

import gc

import pytest


@pytest.fixture(autouse=True)
def little_garbage():
    """What is there already is left out: to look through it takes longer than a trial here."""
    gc.freeze()
    yield
    gc.unfreeze()
