"""Searches propose configurations within the budget of parameters and multiply-adds."""

import pytest
from scored import SOME_PARAMS, make, tiny, tiny_memory

import keras_mixers as km

KINDS = ["RandomSearch", "BayesianOptimization", "Hyperband", "GridSearch"]


@pytest.mark.parametrize("kind", KINDS)
def test_search_tries_only_feasible_configurations(kind, tmp_path):
    """24 configurations, of which 8 are within the budget."""
    tuner = make(kind, tmp_path, tiny(max_params=SOME_PARAMS))
    tuner.search(verbose=0)
    trials = tuner.oracle.trials.values()
    assert len(trials) == 6
    assert {trial.status for trial in trials} == {"COMPLETED"}
    assert max(trial.score for trial in trials) <= SOME_PARAMS / 1000


def test_grid_search_tries_each_feasible_configuration_once(tmp_path):
    one_kernel = {"kernel_size": 3}
    space = tiny(max_params=SOME_PARAMS, **one_kernel)
    tuner = make("GridSearch", tmp_path, space, max_trials=None)
    tuner.search(verbose=0)
    tried = [str(trial.hyperparameters.values) for trial in tuner.oracle.trials.values()]
    assert len(tried) == len(set(tried))
    whole = make("GridSearch", tmp_path / "whole", tiny(**one_kernel), max_trials=None)
    whole.search(verbose=0)
    feasible = [
        str(trial.hyperparameters.values)
        for trial in whole.oracle.trials.values()
        if trial.score <= SOME_PARAMS / 1000
    ]
    assert 0 < len(feasible) < len(whole.oracle.trials) == 12
    assert sorted(tried) == sorted(feasible)


def test_infeasible_trial_prints_one_line_without_traceback(tmp_path, capfd):
    tuner = make("RandomSearch", tmp_path, tiny_memory())
    tuner.search(verbose=0)
    reasons = km.tuning.infeasible(tuner)
    output, errors = capfd.readouterr()
    assert output.splitlines() == [
        f"Trial {trial_id} is infeasible: {reason}" for trial_id, reason in reasons.items()
    ]
    assert len(reasons) > 0
    assert "Traceback" not in errors


def test_verbose_search_prints_each_skipped_model_once(tmp_path, capfd):
    make("RandomSearch", tmp_path, tiny(max_params=SOME_PARAMS)).search(verbose=1)
    output, errors = capfd.readouterr()
    skipped = [line for line in output.splitlines() if line.startswith("Skipped a configuration")]
    assert skipped
    assert all(line.endswith("parameters, over max_params=600") for line in skipped)
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("hidden_dim", "mlp_dim", "default"),
    [
        ([16, 32], (32, 64, 96, 128), 64),
        (8, (16, 32), 16),
        ([32, 512], (64, 1024), 64),
        ((64, 384), (128, 1024), 256),
        ([1024], (128, 1024), 1024),
    ],
)
def test_mlp_dim_follows_narrow_hidden_dim(hidden_dim, mlp_dim, default):
    space = km.tuning.HyperViT((16, 16, 1), 10, hidden_dim=hidden_dim)
    found = space.ranges["mlp_dim"]
    if len(mlp_dim) > 2:
        assert found.values == mlp_dim
    assert (found.values[0], found.values[-1], found.default) == (mlp_dim[0], mlp_dim[-1], default)
    mixer = km.tuning.HyperMLPMixer((16, 16, 1), 10, hidden_dim=hidden_dim).ranges
    assert mixer["channels_mlp_dim"] == found
    assert mixer["tokens_mlp_dim"].values[0] == max(1, mlp_dim[0] // 4)
