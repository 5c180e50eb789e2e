"""The results of a search: rows, a table, a file and the front."""

import csv

import keras_tuner
import pytest
from scored import SOME_PARAMS, make

import keras_mixers as km


def trial(number, score, params, latency=None, **values):
    status, reason = ("failed", "over budget") if score is None else ("completed", "")
    return km.tuning.TrialResult(
        str(number), status, score, values, params, 8, latency, reason, None
    )


SOME = km.tuning.SearchResults(
    "val_accuracy",
    "max",
    (
        trial(3, 0.95, 40_000, 2.0, rate=0.00123456, width=8, batch=32),
        trial(0, 0.9, 3_000, 4.0, rate=0.1, batch=32),
        trial(2, 0.7, 2_000, rate=0.1, width=4, batch=32),
        trial(1, 0.8, 1_000, rate=0.1, width=4, batch=32),
        trial(4, 0.8, 1_000, rate=0.2, width=4, batch=32),
        trial(5, None, 90_000, rate=0.2, width=4, batch=32),
    ),
)


def ids(trials):
    return [trial.trial_id for trial in trials]


def test_front_has_what_is_better_than_all_cheaper_trials():
    assert ids(SOME.front()) == ["1", "0", "3"]
    assert ids(SOME.front("latency_ms")) == ["3"], "the other one is slower and worse"
    losses = km.tuning.SearchResults("val_loss", "min", SOME.trials)
    assert ids(losses.front()) == ["1", "2"]
    with pytest.raises(ValueError, match="`cost` must be one of 'params', 'flops', 'latency_ms'"):
        SOME.front("size")


def test_table_shows_what_differs():
    lines = [line.split() for line in str(SOME).splitlines()]
    assert (
        lines[0]
        == "rank trial val_accuracy front rate width params flops latency_ms status reason".split()
    )
    assert lines[1] == "1 3 0.95 * 0.001235 8 40,000 8 2 completed".split()
    assert lines[2] == "2 0 0.9 * 0.1 - 3,000 8 4 completed".split()
    assert lines[3] == "3 2 0.7 0.1 4 2,000 8 - completed".split()
    assert lines[6] == "- 5 - 0.2 4 90,000 8 - failed over budget".split()
    assert lines[7:] == ["in all trials: batch=32".split()]
    few = km.tuning.SearchResults("val_accuracy", "max", SOME.trials[:2]).table(["width"])
    assert (
        few.splitlines()[0].split()
        == "rank trial val_accuracy front width params flops latency_ms".split()
    )
    assert str(km.tuning.SearchResults("loss", "min", ())) == "no trials"
    with pytest.raises(ValueError, match="`names` must be one of .*'widht'"):
        SOME.table(["widht"])
    with pytest.raises(TypeError, match="`names` must be a list"):
        SOME.table("width")


def test_save_writes_all_columns(tmp_path):
    SOME.save(tmp_path / "table.csv")
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert len(rows) == 6
    assert rows[0]["rate"] == "0.00123456"
    assert (rows[1]["width"], rows[1]["batch"], rows[1]["front"]) == ("", "32", "True")
    assert (rows[5]["status"], rows[5]["reason"]) == ("failed", "over budget")


def test_results_of_a_search(tmp_path):
    tuner = make("Hyperband", tmp_path)
    tuner.search(epochs=1, verbose=0)
    results = km.tuning.results(tuner)
    space, trials = tuner.hypermodel, tuner.oracle.trials
    assert sorted(ids(results.trials)) == sorted(trials)
    scores = [trial.score for trial in results.completed]
    assert scores == sorted(scores, reverse=True)
    assert results.trials[0].score == tuner.oracle.get_best_trials()[0].score
    reasons = {t.trial_id: t.reason for t in results.trials if t.status == "infeasible"}
    assert reasons == km.tuning.infeasible(tuner)
    assert len(reasons) > 0
    for each in results.trials:
        hp = trials[each.trial_id].hyperparameters
        assert each.params == space.cost_of(hp)["params"]
        assert (each.params > SOME_PARAMS) == (each.status == "infeasible")
        assert each.value("depth") == hp.values["depth"]
        assert each.value("augmentation") == "none"
        assert each.value("epochs") == hp.values["tuner/epochs"]


def test_equal_scores_are_ranked_by_loss_and_errors_have_a_reason(tmp_path):
    """Any tuner has results, without the costs of a space of this package."""

    class Tuner(keras_tuner.RandomSearch):
        def run_trial(self, trial, **_):
            i = int(trial.trial_id)
            if i == 1:
                raise ZeroDivisionError("this one")
            return {"val_accuracy": 0.5, "val_loss": [3.0, None, 1.0, 2.0][i], "latency_ms": 4.0}

    hp = keras_tuner.HyperParameters()
    hp.Choice("size", [1, 2, 3, 4, 5, 6, 7, 8])
    tuner = Tuner(
        objective=keras_tuner.Objective("val_accuracy", "max"),
        hyperparameters=hp,
        max_trials=4,
        directory=tmp_path,
        seed=1,
    )
    tuner.search(verbose=0)
    results = km.tuning.results(tuner)
    assert ids(results.trials) == ["2", "3", "0", "1"]
    assert results.trials[-1].status == "failed"
    assert results.trials[-1].reason == "ZeroDivisionError: this one"
    first = results.trials[0]
    assert (first.params, first.latency_ms) == (None, 4.0)
    assert first.values == first.hyperparameters.values
