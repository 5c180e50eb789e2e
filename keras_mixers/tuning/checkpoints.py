"""Delete the checkpoints that a search no longer needs."""

import pathlib

UNFINISHED = ("RUNNING", "INVALID")  # KerasTuner retries an INVALID trial


def remove_checkpoints(tuner, keep):
    """Delete all checkpoints except those of the best trials and those that may be resumed."""
    oracle = tuner.oracle
    needed = {trial.trial_id for trial in oracle.get_best_trials(keep)} | resumable_trials(oracle)
    for trial_id, trial in oracle.trials.items():
        if trial_id not in needed and trial.status not in UNFINISHED:
            for file in checkpoint_files(tuner, trial_id):
                file.unlink()


def checkpoint_files(tuner, trial_id):
    """The files that hold a trial's weights, by KerasTuner's naming."""
    return list(pathlib.Path(tuner.get_trial_dir(trial_id)).glob("checkpoint*"))


def resumable_trials(oracle):
    """The ids of the trials that Hyperband resumes now or may resume later.

    Of each round, the best trials may be resumed, as many as the next round has trials.
    """
    needed = set()
    for bracket in getattr(oracle, "_brackets", ()):
        for next_round, runs in enumerate(bracket["rounds"][:-1], start=1):
            completed = [oracle.trials[run["id"]] for run in runs]
            completed = [trial for trial in completed if trial.status == "COMPLETED"]
            completed.sort(
                key=lambda trial: trial.score, reverse=oracle.objective.direction == "max"
            )
            size = oracle._get_size(bracket["bracket_num"], next_round)
            needed |= {trial.trial_id for trial in completed[:size]}
    for trial in oracle.trials.values():
        if trial.status in UNFINISHED:
            needed.add(trial.hyperparameters.values.get("tuner/trial_id"))
    return needed
