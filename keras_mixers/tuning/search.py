"""What a search needs beyond its trials: it goes on past infeasible points, and tidies up."""

import functools
import math
import pathlib

import keras_tuner

from keras_mixers import arguments
from keras_mixers.tuning.budget import MARK

UNENDED = ("RUNNING", "INVALID")  # at work, or to be tried again
NOTE = "infeasible.txt"  # in a trial's folder: the one way for a worker's reason to the chief


def infeasible(tuner: keras_tuner.Tuner) -> dict[str, str]:
    """The trials that were over budget or out of memory: `{trial's id: why}`.

    Args:
        tuner: any of KerasTuner's; of several processes, the chief's.

    Example:
        >>> import tempfile
        >>> from keras_mixers import tuning
        >>> space = tuning.HyperViT((8, 8, 1), 10, depth=1, max_params=10)
        >>> tuner = keras_tuner.RandomSearch(
        ...     space, "val_accuracy", max_trials=1, directory=tempfile.mkdtemp()
        ... )
        >>> images, labels = keras.ops.ones((2, 8, 8, 1)), keras.ops.ones((2,))
        >>> tuner.search(images, labels, validation_data=(images, labels), verbose=0)
        >>> len(infeasible(tuner))
        1
    """
    return {
        trial_id: trial.message.removeprefix(MARK)
        for trial_id, trial in tuner.oracle.trials.items()
        if is_infeasible(trial)
    }


def within_budget(tuner: keras_tuner.Tuner, keep: int = 5) -> keras_tuner.Tuner:
    """A tuner that infeasible points do not end, and that keeps the best checkpoints alone.

    The spaces' own `fit` does this to the tuner that runs it. Call it yourself for another `keep`,
    for a search that goes on (it must know before its first trial), and where a chief and workers
    are processes of their own: the chief trains nothing. Besides

    - an infeasible trial does not count among the failures in a row that end a search;
    - it counts as the worst so far where Hyperband and BayesianOptimization, which overlook failed
      trials, choose what to try next;
    - a checkpoint stays while it is one of the best, or Hyperband may go on from it;
    - a GridSearch that was broken off goes on.

    Args:
        tuner: any of KerasTuner's, for one of the spaces here.
        keep: how many checkpoints stay, of the best trials; `tuner.get_best_models` loads so many.

    Returns:
        The same tuner.

    Raises:
        ValueError, TypeError: `keep` is not a positive number.

    Example:
        >>> import tempfile
        >>> from keras_mixers import tuning
        >>> tuner = within_budget(
        ...     keras_tuner.RandomSearch(
        ...         tuning.HyperViT((8, 8, 1), 10), "val_accuracy", directory=tempfile.mkdtemp()
        ...     ),
        ...     keep=2,
        ... )
    """
    keep = arguments.integer("keep", keep)
    oracle = tuner.oracle
    if isinstance(oracle, keras_tuner.Oracle):  # else a worker's, and the chief's is the one
        # Read again, they stand in the order of the file system; among equals the first is best.
        begun = [each for each in oracle.start_order if each in oracle.trials]
        oracle.trials = {each: oracle.trials[each] for each in begun}
        oracle.populate_space = functools.partial(populate_space, oracle)
        oracle.end_trial = functools.partial(end_trial, tuner, keep)
        if isinstance(oracle, keras_tuner.oracles.GridSearchOracle):
            continue_grid(oracle)
        tuner.load_model = functools.partial(load_model, tuner, keep)
    return tuner


def load_model(tuner, keep, trial):
    """The tuner's own, which `get_best_models` calls; of a trial whose checkpoint stays."""
    if is_infeasible(trial):
        raise ValueError(
            "the search must have a feasible trial, within the budget, to load. Received: trial"
            f" {trial.trial_id}, {trial.message.removeprefix(MARK).strip()}"
        )
    if not checkpoints(tuner, trial.trial_id):
        raise ValueError(
            f"`num_models` must be at most keep={keep} of tuning.within_budget: the"
            " checkpoints of other trials are removed. Received: trial"
            f" {trial.trial_id}, which has none"
        )
    return type(tuner).load_model(tuner, trial)


def running(callbacks):
    """The (tuner, trial) whose callbacks these are, or None: `fit` may be called by hand."""
    for callback in callbacks:
        if hasattr(callback, "tuner") and hasattr(callback, "trial"):
            if "end_trial" not in vars(callback.tuner.oracle):
                within_budget(callback.tuner)
            return callback.tuner, callback.trial
    return None


def note(tuner, trial, why=None):
    """Leave the reason why a trial is infeasible where its end, in whatever process, finds it.

    With none, what an earlier run of the trial may have left is taken away.
    """
    file = pathlib.Path(tuner.get_trial_dir(trial.trial_id), NOTE)
    if why is None:
        file.unlink(missing_ok=True)
    else:
        file.write_text(why)


def populate_space(oracle, trial_id):
    """The oracle's own proposal, for which infeasible trials are just worse than the worst."""
    trials = oracle.trials.values()
    scores = [trial.score for trial in trials if trial.status == "COMPLETED"]
    failed = [trial for trial in trials if is_infeasible(trial)] if scores else []
    for trial in failed:
        trial.status = "COMPLETED"
        if oracle.objective.direction == "max":
            trial.score = math.nextafter(min(scores), -math.inf)
        else:
            trial.score = math.nextafter(max(scores), math.inf)
    try:
        return type(oracle).populate_space(oracle, trial_id)
    finally:
        for trial in failed:
            trial.status, trial.score = "FAILED", None


def end_trial(tuner, keep, trial):
    """The oracle's own end of a trial, with the reason of an infeasible one; then tidy up."""
    oracle = tuner.oracle
    why = reason(tuner, trial)
    if why and trial.status != "COMPLETED":
        trial.status, trial.message = "FAILED", why
    oracle._check_consecutive_failures = functools.partial(check_failures, oracle)
    type(oracle).end_trial(oracle, trial)
    remove_checkpoints(tuner, keep)


def check_failures(oracle):
    """The oracle's own check of failures in a row, for which infeasible trials do not stand."""
    order, oracle.end_order = (
        oracle.end_order,
        [each for each in oracle.end_order if not is_infeasible(oracle.trials[each])],
    )
    try:
        type(oracle)._check_consecutive_failures(oracle)
    finally:
        oracle.end_order = order


def continue_grid(oracle):
    """What a GridSearch has tried, in its order: KerasTuner forgets it, and would end there."""
    if oracle.trials and not oracle._populate_next:
        order = functools.cmp_to_key(
            lambda a, b: oracle._compare(a.hyperparameters.values, b.hyperparameters.values)
        )
        for trial in sorted(oracle.trials.values(), key=order):
            oracle._ordered_ids.insert(trial.trial_id)
            oracle._populate_next.append(trial.trial_id)


def is_infeasible(trial):
    """Whether a trial failed for its cost, and not for a mistake."""
    return trial.status == "FAILED" and (trial.message or "").startswith(MARK)


def reason(tuner, trial):
    """Why a trial was infeasible, or the trial that Hyperband lets it go on from; else None."""
    file = pathlib.Path(tuner.get_trial_dir(trial.trial_id), NOTE)
    if file.exists():
        return file.read_text()
    parent = tuner.oracle.trials.get(trial.hyperparameters.values.get("tuner/trial_id"))
    return parent.message if parent and is_infeasible(parent) else None


def remove_checkpoints(tuner, keep):
    """Leave the checkpoints of the best trials, of those that run, and what Hyperband needs."""
    oracle = tuner.oracle
    kept = {trial.trial_id for trial in oracle.get_best_trials(keep)} | promotable(oracle)
    for trial_id, trial in oracle.trials.items():
        if trial_id not in kept and trial.status not in UNENDED:
            for file in checkpoints(tuner, trial_id):
                file.unlink()


def checkpoints(tuner, trial_id):
    """The files of a trial's weights, as KerasTuner names them."""
    return list(pathlib.Path(tuner.get_trial_dir(trial_id)).glob("checkpoint*"))


def promotable(oracle):
    """The trials that Hyperband may go on from: the best of each round, as many as the next has."""
    needed = set()
    for bracket in getattr(oracle, "_brackets", ()):
        for number, runs in enumerate(bracket["rounds"][:-1], start=1):
            done = [oracle.trials[run["id"]] for run in runs]
            done = [trial for trial in done if trial.status == "COMPLETED"]
            done.sort(key=lambda trial: trial.score, reverse=oracle.objective.direction == "max")
            size = oracle._get_size(bracket["bracket_num"], number)
            needed |= {trial.trial_id for trial in done[:size]}
    for trial in oracle.trials.values():
        if trial.status in UNENDED:
            needed.add(trial.hyperparameters.values.get("tuner/trial_id"))
    return needed
