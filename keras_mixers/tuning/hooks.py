"""Prepare KerasTuner for the spaces of this package.

KerasTuner calls nothing of a space before it reloads a search, nor before it creates a trial. These
functions of KerasTuner are therefore replaced when the spaces are imported. They change nothing for
the tuners of other spaces, except that all tuners write their files atomically.
"""

import functools

from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.src import utils

from keras_mixers.tuning import project
from keras_mixers.tuning.search import prepare_search


def prepare_keras_tuner(space):
    """Make all tuners write atomically; those of a `space` repair their files and keep a budget."""
    utils.save_json = project.save_json
    BaseTuner.reload = after(project.repair, BaseTuner.reload, space)
    BaseTuner.search = after(prepare_search, BaseTuner.search, space)
    BaseTuner._activate_all_conditions = without_models(BaseTuner._activate_all_conditions, space)


def after(prepare, method, space):
    """A method of a tuner that first calls `prepare(tuner)` if the tuner searches a `space`."""

    @functools.wraps(method)
    def call(tuner, *args, **kwargs):
        if isinstance(tuner.hypermodel, space):
            prepare(tuner)
        return method(tuner, *args, **kwargs)

    return call


def without_models(find_conditions, space):
    """A method of a tuner that finds the conditional hyperparameters of a `space`.

    KerasTuner builds several models for it, when a tuner is created. A space declares its
    hyperparameters without a model.
    """

    @functools.wraps(find_conditions)
    def call(tuner):
        if not isinstance(tuner.hypermodel, space):
            return find_conditions(tuner)
        build = tuner.hypermodel.build
        tuner.hypermodel.build = tuner.hypermodel.declare_hyperparameters
        try:
            return find_conditions(tuner)
        finally:
            tuner.hypermodel.build = build

    return call
