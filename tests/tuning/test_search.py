"""Searches with KerasTuner's tuners: budget, checkpoints, resume, and several processes."""

import collections
import importlib.util
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import types

import keras_tuner
import pytest
from scored import SOME_PARAMS, OutOfMemory, make, tiny

import keras_mixers as km
from keras_mixers.tuning.checkpoints import resumable_trials

PROCESS = pathlib.Path(__file__).with_name("search_process.py")
SPEC = importlib.util.spec_from_file_location("search_process", PROCESS)
search_process = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(search_process)


def checkpoints(tuner):
    """The ids of the trials that have a checkpoint."""
    found = pathlib.Path(tuner.project_dir).glob("trial_*/checkpoint*")
    return {file.parent.name.removeprefix("trial_") for file in found}


@pytest.mark.parametrize("kind", ["RandomSearch", "BayesianOptimization", "GridSearch"])
def test_search_keeps_best_feasible_checkpoints(kind, tmp_path):
    tuner = km.tuning.within_budget(make(kind, tmp_path), keep=2)
    tuner.search(verbose=0)
    trials = tuner.oracle.trials
    states = collections.Counter(trial.status for trial in trials.values())
    assert states == {"COMPLETED": 6 - states["FAILED"], "FAILED": states["FAILED"]}
    assert states["FAILED"] == len(km.tuning.infeasible(tuner)) > 0
    best = tuner.oracle.get_best_trials(2)
    assert checkpoints(tuner) == {trial.trial_id for trial in best}
    (model,) = tuner.get_best_models()
    assert model.count_params() / 1000 == best[0].score <= SOME_PARAMS / 1000
    with pytest.raises(ValueError, match="`num_models` must be at most keep=2"):
        tuner.get_best_models(3)


def test_get_best_models_needs_feasible_trial(tmp_path):
    tuner = keras_tuner.RandomSearch(
        tiny(max_params=1), "val_accuracy", max_trials=2, directory=tmp_path, seed=1
    )
    tuner.search(verbose=0)
    with pytest.raises(ValueError, match="must have a feasible trial.*over max_params=1"):
        tuner.get_best_models()


def test_hyperband_resumes_best_feasible_trial(tmp_path):
    """Plain Hyperband ignores failed trials and does not start the next round."""
    tuner = make("Hyperband", tmp_path)
    tuner.search(epochs=1, verbose=0)
    trials = tuner.oracle.trials
    runs = collections.defaultdict(list)
    for trial in trials.values():
        values = trial.hyperparameters.values
        runs[values["tuner/bracket"], values["tuner/round"]].append(trial)
    assert {key: len(found) for key, found in runs.items()} == {(1, 0): 3, (1, 1): 1, (0, 0): 2}
    first = [trial for trial in runs[1, 0] if trial.status == "COMPLETED"]
    assert 0 < len(first) < 3
    (resumed,) = runs[1, 1]
    best = max(first, key=lambda trial: trial.score)
    assert resumed.hyperparameters.values["tuner/trial_id"] == best.trial_id
    assert resumed.score == best.score


def test_populate_space_ranks_infeasible_trials_worst(tmp_path, monkeypatch):
    """Plain BayesianOptimization ignores failed trials and can propose them again and again."""
    tuner = make("BayesianOptimization", tmp_path)
    tuner.search(verbose=0)
    oracle, seen = tuner.oracle, {}
    before = {trial.trial_id: (trial.status, trial.score) for trial in oracle.trials.values()}

    def populate_space(self, trial_id):
        seen.update((t.trial_id, (t.status, t.score)) for t in self.trials.values())
        return {"status": "STOPPED"}

    monkeypatch.setattr(type(oracle), "populate_space", populate_space)
    assert oracle.populate_space("7") == {"status": "STOPPED"}
    assert {
        trial.trial_id: (trial.status, trial.score) for trial in oracle.trials.values()
    } == before
    worst = min(score for status, score in before.values() if status == "COMPLETED")
    for trial_id, (status, score) in before.items():
        if status == "COMPLETED":
            assert seen[trial_id] == (status, score)
        else:
            assert seen[trial_id][0] == "COMPLETED"
            assert worst - 1e-9 < seen[trial_id][1] < worst


def interrupt_in_trial(tuner, number):
    """Run a search and interrupt it while the given trial runs, counted from 1."""
    run, started = tuner.run_trial, []

    def run_trial(trial, **options):
        started.append(trial)
        if len(started) == number:
            raise KeyboardInterrupt
        return run(trial, **options)

    tuner.run_trial = run_trial
    with pytest.raises(KeyboardInterrupt):
        tuner.search(verbose=0)


def interrupt_after_trial(tuner, number):
    """Run a search and interrupt it when the given trial has ended, counted from 1."""
    end, ended = tuner.on_trial_end, []

    def on_trial_end(trial):
        end(trial)
        ended.append(trial)
        if len(ended) == number:
            raise KeyboardInterrupt

    tuner.on_trial_end = on_trial_end
    with pytest.raises(KeyboardInterrupt):
        tuner.search(verbose=0)


@pytest.mark.parametrize("interrupt", [interrupt_in_trial, interrupt_after_trial])
def test_grid_search_resumes(interrupt, tmp_path):
    interrupt(make("GridSearch", tmp_path), 2)
    tuner = km.tuning.within_budget(make("GridSearch", tmp_path))
    tuner.search(verbose=0)
    whole = make("GridSearch", tmp_path / "whole")
    whole.search(verbose=0)
    values = [  # by trial id, because KerasTuner reloads trials in the file system's order
        {name: trial.hyperparameters.values for name, trial in each.oracle.trials.items()}
        for each in (tuner, whole)
    ]
    assert values[0] == values[1]
    assert len(values[0]) == 6


def test_resumed_search_keeps_checkpoints_of_equal_scores(tmp_path, monkeypatch):
    """The first of equal trials is the best one, and KerasTuner reloads trials in any order."""
    monkeypatch.setattr("scored.score", lambda model: 0.5)
    km.tuning.within_budget(make("RandomSearch", tmp_path, max_trials=4), keep=2).search(verbose=0)
    tuner = make("RandomSearch", tmp_path, max_trials=5)
    kept = checkpoints(tuner)
    assert len(kept) == 2
    tuner.oracle.trials = dict(reversed(tuner.oracle.trials.items()))
    km.tuning.within_budget(tuner, keep=2)
    assert {trial.trial_id for trial in tuner.oracle.get_best_trials(2)} == kept
    tuner.search(verbose=0)
    assert len(tuner.get_best_models(2)) == 2
    assert checkpoints(tuner) == kept


def test_objective_can_be_minimized(tmp_path):
    objective = keras_tuner.Objective("val_accuracy", "min")
    tuner = make("RandomSearch", tmp_path, max_trials=8, objective=objective)
    km.tuning.within_budget(tuner, keep=2).search(verbose=0)
    scores = {i: t.score for i, t in tuner.oracle.trials.items() if t.status == "COMPLETED"}
    assert checkpoints(tuner) == set(sorted(scores, key=scores.get)[:2])


@pytest.mark.slow
def test_number_of_checkpoints_stays_bounded(tmp_path):
    tuner = keras_tuner.GridSearch(
        tiny(), "val_accuracy", max_trials=7, directory=tmp_path, executions_per_trial=2
    )
    counts = []
    end = tuner.on_trial_end
    tuner.on_trial_end = lambda trial: (end(trial), counts.append(len(checkpoints(tuner))))
    km.tuning.within_budget(tuner, keep=3).search(verbose=0)
    assert len(counts) == 7
    assert max(counts) == 3


@pytest.mark.parametrize(("name", "value"), [("hidden_dim", 6), ("learning_rate", 0.5)])
def test_value_outside_space_ends_search(name, value, tmp_path):
    """A user can pass `hyperparameters` to a tuner."""
    hp = keras_tuner.HyperParameters()
    hp.Fixed(name, value)
    with pytest.raises(keras_tuner.errors.FatalValueError, match=f"`{name}` must be .*={value}"):
        make("RandomSearch", tmp_path, hyperparameters=hp)


def test_tuner_with_compile_arguments_raises(tmp_path):
    tuner = make("RandomSearch", tmp_path, optimizer="sgd", loss="mse")
    with pytest.raises(keras_tuner.errors.FatalValueError, match="`optimizer` must be left to the"):
        tuner.search(verbose=0)


def environment(**variables):
    paths = [str(PROCESS.parents[2]), *sys.path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **variables}


def start(folder, seconds=0.0, **variables):
    return subprocess.Popen(
        [sys.executable, PROCESS, folder, str(seconds)],
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_interrupted_search_resumes(tmp_path):
    """The copy of the folder is its state when the fourth trial starts."""
    tuner = km.tuning.within_budget(
        make("RandomSearch", tmp_path / "running", max_trials=8), keep=2
    )
    run, started = tuner.run_trial, []

    def run_trial(trial, **options):
        started.append(trial)
        if len(started) == 4:
            shutil.copytree(tuner.project_dir, tmp_path / "search")
            raise KeyboardInterrupt
        return run(trial, **options)

    tuner.run_trial = run_trial
    with pytest.raises(KeyboardInterrupt):
        tuner.search(verbose=0)
    tuner = make("RandomSearch", tmp_path, max_trials=8, project_name="search")
    before = {name: trial.status for name, trial in tuner.oracle.trials.items()}
    assert len(before) == 4 and list(before.values()).count("RUNNING") == 1
    tuner.search(verbose=0)
    after = tuner.oracle.trials
    assert len(after) == 8
    assert {trial.status for trial in after.values()} == {"COMPLETED", "FAILED"}
    assert all(after[name].status == state for name, state in before.items() if state != "RUNNING")
    whole = make("RandomSearch", tmp_path / "whole", max_trials=8)
    whole.search(verbose=0)
    for name, trial in whole.oracle.trials.items():
        assert after[name].hyperparameters.values == trial.hyperparameters.values
        assert after[name].score == trial.score


@pytest.mark.slow
def test_chief_and_two_workers_search(tmp_path, monkeypatch, capsys):
    """The chief reads the workers' reasons from the trials' folders and continues.

    The chief is this process, which has imported TensorFlow already.
    """
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    oracle = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": str(port)}
    workers = [
        start(tmp_path, seconds=0.2, KERASTUNER_TUNER_ID=name, **oracle)
        for name in ("worker0", "worker1")
    ]
    for name, value in {"KERASTUNER_TUNER_ID": "chief", **oracle}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(OutOfMemory, "_train", OutOfMemory._train)  # so that it is restored
    search_process.main(tmp_path, 0)
    for process in workers:
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-3000:]
        assert "trials" not in output
    output = capsys.readouterr().out
    assert "8 trials" in output
    assert 0 < output.count("infeasible") == output.count("out of memory (MemoryError: ")
    assert len(list(tmp_path.glob("search/trial_*/checkpoint*"))) == 2


@pytest.mark.parametrize("keep", [0, 1.5, "2"])
def test_within_budget_rejects_invalid_keep(keep, tmp_path):
    with pytest.raises((ValueError, TypeError), match="`keep` must be an integer from 1"):
        km.tuning.within_budget(make("RandomSearch", tmp_path), keep=keep)


def test_resumable_trials_of_hyperband():
    """The best of a round, as many as the next round takes, and what a running trial resumes."""

    def trial(number, status, score=None, **values):
        values = {key.replace("_", "/", 1): value for key, value in values.items()}
        hyperparameters = types.SimpleNamespace(values=values)
        return types.SimpleNamespace(
            trial_id=str(number), status=status, score=score, hyperparameters=hyperparameters
        )

    trials = [trial(i, "COMPLETED", score) for i, score in enumerate((0.1, 0.5, 0.4, 0.2, 0.3))]
    trials += [trial(5, "FAILED"), trial(6, "RUNNING", tuner_trial_id="0")]
    rounds = [[{"id": str(i)} for i in range(6)], [{"id": "6"}], []]
    oracle = types.SimpleNamespace(
        _brackets=[{"bracket_num": 2, "rounds": rounds}],
        _get_size=lambda bracket, number: {1: 2, 2: 1}[number],
        objective=types.SimpleNamespace(direction="max"),
        trials={each.trial_id: each for each in trials},
    )
    assert resumable_trials(oracle) - {None} == {"1", "2", "0"}
