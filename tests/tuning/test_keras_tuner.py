"""Faults of plain KerasTuner 1.4.8. The package works around each of them.

A test here fails when a KerasTuner release has mended the fault. Then delete the workaround that
the message names, and the test.
"""

import types

import keras_tuner
import pytest

DELETE = "KerasTuner has mended this fault: delete the workaround `{}` and this test"


def hyperparameters():
    hp = keras_tuner.HyperParameters()
    hp.Choice("x", [0, 1, 2, 3, 4, 5])
    return hp


def searched(kind, folder, results, **options):
    """A tuner of the given kind after its search, in which each trial raises or returns a score."""
    results = iter(results)

    def run_trial(self, trial, verbose):
        result = next(results)
        if isinstance(result, BaseException):
            raise result
        return {"score": result}

    tuner = type(kind.__name__, (kind,), {"run_trial": run_trial})(
        objective=keras_tuner.Objective("score", "max"),
        hyperparameters=hyperparameters(),
        directory=folder,
        seed=1,
        **options,
    )
    tuner.search(verbose=0)
    return tuner


def too_large():
    return keras_tuner.errors.FailedTrialError("too large")


def test_plain_hyperband_ignores_failed_trials(tmp_path):
    """Three trials, of which two fail. Hyperband should resume the third one in round 1."""
    results = [too_large(), too_large(), 1.0, 1.0, 1.0, 1.0]
    tuner = searched(keras_tuner.Hyperband, tmp_path, results, max_epochs=3)
    rounds = [trial.hyperparameters.values["tuner/round"] for trial in tuner.oracle.trials.values()]
    assert rounds == [0, 0, 0, 0, 0], DELETE.format("BudgetedOracle.populate_space")


def test_plain_bayesian_optimization_ignores_failed_trials(tmp_path):
    """Two trials complete and one fails. The regression should learn from all three."""
    tuner = searched(
        keras_tuner.BayesianOptimization,
        tmp_path,
        [1.0, too_large(), 2.0],
        max_trials=3,
        num_initial_points=2,
    )
    learned = []
    tuner.oracle.gpr = types.SimpleNamespace(
        fit=lambda x, y: learned.extend(y),
        predict=lambda x, return_std: (0.0, 1.0),
    )
    tuner.oracle.populate_space("3")
    assert learned == [-1.0, -2.0], DELETE.format("BudgetedOracle.populate_space")


def test_plain_oracle_counts_infeasible_trials_as_failures(tmp_path):
    """A trial that raises FailedTrialError was skipped on purpose and should not end a search."""
    try:
        searched(keras_tuner.RandomSearch, tmp_path, [too_large()] * 3 + [1.0], max_trials=4)
    except RuntimeError as error:
        message = str(error)
    else:
        message = "the search ended without an error"
    assert "FailedTrialError: too large" in message, DELETE.format("BudgetedOracle.check_failures")


def test_plain_grid_search_forgets_finished_trials(tmp_path):
    """Resumed after two of six trials, it should try the other four."""
    searched(keras_tuner.GridSearch, tmp_path, [1.0, 1.0], max_trials=2)
    resumed = searched(keras_tuner.GridSearch, tmp_path, [1.0] * 4)
    assert len(resumed.oracle.trials) == 2, DELETE.format("continue_grid")


def test_plain_grid_search_fails_after_interrupted_trial(tmp_path):
    """Interrupted in its second trial, it should run that trial again and try the others."""
    with pytest.raises(KeyboardInterrupt):
        searched(keras_tuner.GridSearch, tmp_path, [1.0, KeyboardInterrupt()])
    try:
        searched(keras_tuner.GridSearch, tmp_path, [1.0] * 5)
    except KeyError as error:
        missing = error.args[0]
    else:
        missing = None
    assert missing == "0001", DELETE.format("continue_grid")
