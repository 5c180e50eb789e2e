"""What became of the trials: the results of all, and why some are infeasible."""

import pathlib

import keras_tuner
from keras_tuner.engine.base_tuner import BaseTuner

from keras_mixers import arguments, files
from keras_mixers.tuning.budget import INFEASIBLE_PREFIX, LATENCY
from keras_mixers.tuning.table import SearchResults, TrialResult

# A file in the trial's folder, because a worker process cannot send its reason to the chief.
REASON_FILE = "infeasible.txt"
STATUSES = {"COMPLETED": "completed", "FAILED": "failed"}


def infeasible(tuner: keras_tuner.Tuner) -> dict[str, str]:
    """List the trials that were over budget or out of memory: `{trial id: reason}`.

    Args:
        tuner: any KerasTuner tuner. In a search with several processes, the chief's tuner.

    Raises:
        TypeError: if `tuner` is not a tuner.

    Example:
        >>> import tempfile
        >>> from keras_mixers import tuning
        >>> space = tuning.HyperViT((8, 8, 1), 10, depth=1, max_params=10)
        >>> tuner = keras_tuner.RandomSearch(
        ...     space, "val_accuracy", max_trials=1, directory=tempfile.mkdtemp()
        ... )
        >>> images, labels = keras.ops.ones((2, 8, 8, 1)), keras.ops.ones((2,))
        >>> tuner.search(images, labels, validation_data=(images, labels), verbose=0)
        Trial 0 is infeasible: 307,210 parameters, over max_params=10
        >>> len(infeasible(tuner))
        1
    """
    check_tuner(tuner)
    return {
        trial_id: trial.message.removeprefix(INFEASIBLE_PREFIX)
        for trial_id, trial in tuner.oracle.trials.items()
        if is_infeasible(trial)
    }


def results(tuner: keras_tuner.Tuner) -> SearchResults:
    """Collect all trials of a search with their scores, quantities and costs.

    `print` shows a table, `save` writes it as CSV, and `km.visualize.plot_search` draws it.

    Args:
        tuner: any KerasTuner tuner, during or after its search. In a search with several processes,
            the chief's tuner. A tuner that was created again with the same `directory` has the
            trials of its search.

    Returns:
        `SearchResults`. Tuners of other spaces than those of this package give no costs.

    Raises:
        TypeError: if `tuner` is not a tuner.

    Example:
        >>> import tempfile
        >>> from keras_mixers import tuning
        >>> sizes = {"patch_size": 2, "hidden_dim": 64, "depth": 1, "mlp_dim": 64}
        >>> space = tuning.HyperViT((8, 8, 1), 10, **sizes, max_params=10)
        >>> tuner = keras_tuner.RandomSearch(
        ...     space, "val_accuracy", max_trials=1, directory=tempfile.mkdtemp()
        ... )
        >>> images, labels = keras.ops.ones((2, 8, 8, 1)), keras.ops.ones((2,))
        >>> tuner.search(images, labels, validation_data=(images, labels), verbose=0)
        Trial 0 is infeasible: 27,466 parameters, over max_params=10
        >>> results(tuner).trials[0].reason
        '27,466 parameters, over max_params=10'
    """
    check_tuner(tuner)
    objective, costs = tuner.oracle.objective, {}
    sign = -1 if objective.direction == "max" else 1
    trials = tuner.oracle.trials.values()
    found = [(trial, result_of(trial, tuner.hypermodel, costs)) for trial in trials]
    scored = [pair for pair in found if pair[1].score is not None]
    scored.sort(key=lambda pair: (sign * pair[1].score, metric(pair[0], "val_loss") or 0.0))
    rest = [result for _, result in found if result.score is None]
    ordered = (*(result for _, result in scored), *rest)
    return SearchResults(objective.name, objective.direction, ordered)


def result_of(trial, space, costs):
    """The `TrialResult` of a trial; `costs` keeps the costs of models that were counted before."""
    hp = trial.hyperparameters
    run = {"epochs": hp.values["tuner/epochs"]} if "tuner/epochs" in hp.values else {}
    if hasattr(space, "cost_of"):
        values, key = space.shown_values(hp), repr(space.arguments_of(hp))
        costs[key] = costs.get(key) or space.cost_of(hp)
        cost = costs[key]
    else:
        values = {name: each for name, each in hp.values.items() if not name.startswith("tuner/")}
        cost = {"params": None, "flops": None}
    completed = trial.status == "COMPLETED"
    return TrialResult(
        trial_id=trial.trial_id,
        status="infeasible" if is_infeasible(trial) else STATUSES.get(trial.status, "unfinished"),
        score=trial.score if completed else None,
        values={**values, **run},
        **cost,
        latency_ms=metric(trial, LATENCY),
        reason="" if completed else last_line(trial.message).removeprefix(INFEASIBLE_PREFIX),
        hyperparameters=hp,
    )


def metric(trial, name):
    """The value of a metric that a trial recorded, or None."""
    return trial.metrics.get_best_value(name) if trial.metrics.exists(name) else None


def last_line(message):
    """The last line of a message, in which a traceback names its error."""
    return (message or "").strip().rpartition("\n")[2]


def check_tuner(tuner):
    """Raise a TypeError if an argument is not a tuner."""
    if not isinstance(tuner, BaseTuner):
        raise TypeError(f"`tuner` must be a KerasTuner tuner. {arguments.received(tuner=tuner)}")


def is_infeasible(trial):
    """Whether a trial failed because of its cost, and not because of another error."""
    return trial.status == "FAILED" and (trial.message or "").startswith(INFEASIBLE_PREFIX)


def record_reason(tuner, trial, reason):
    """Write why a trial is infeasible to its folder; None deletes the reason of an earlier run."""
    file = pathlib.Path(tuner.get_trial_dir(trial.trial_id), REASON_FILE)
    if reason is None:
        file.unlink(missing_ok=True)
    else:
        files.write_text(file, reason)


def infeasible_reason(tuner, trial):
    """Why a trial is infeasible, or None.

    A Hyperband trial that resumes an infeasible trial is infeasible for the same reason.
    """
    file = pathlib.Path(tuner.get_trial_dir(trial.trial_id), REASON_FILE)
    if file.exists():
        return file.read_text()
    resumed = tuner.oracle.trials.get(trial.hyperparameters.values.get("tuner/trial_id"))
    return resumed.message if resumed and is_infeasible(resumed) else None
