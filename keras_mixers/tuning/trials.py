"""Infeasible trials: which trials they are, and the reason for each."""

import pathlib

import keras_tuner
from keras_tuner.engine.base_tuner import BaseTuner

from keras_mixers import arguments, files
from keras_mixers.tuning.budget import INFEASIBLE_PREFIX

# A file in the trial's folder, because a worker process cannot send its reason to the chief.
REASON_FILE = "infeasible.txt"


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
