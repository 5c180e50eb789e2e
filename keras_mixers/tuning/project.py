"""The files of a search: written atomically, and repaired if an interruption damaged them.

KerasTuner 1.4.8 writes oracle.json, tuner0.json and trial.json in place. A process that is killed
meanwhile leaves an empty file or a part of it, from which no tuner can be constructed.
"""

import itertools
import json
import pathlib

import keras_tuner
from keras_tuner.engine.trial import Trial

from keras_mixers import files
from keras_mixers.serialization import parse_json
from keras_mixers.tuning import restart
from keras_mixers.tuning.feasible import FeasibleProposals

STATUSES = ("RUNNING", "INVALID", "COMPLETED", "FAILED")  # of the trials that KerasTuner saves


def save_json(path, state):
    """Replace `keras_tuner.src.utils.save_json` by atomic writing."""
    text = json.dumps(state)
    if is_local(path):
        files.write_text(path, text)
    else:  # an object store replaces whole objects
        with keras_tuner.src.backend.io.File(path, "w") as file:
            file.write(text)
    return text


def is_local(path):
    """Whether a path is not a URL, such as gs://..., which KerasTuner accepts too."""
    return "://" not in str(path)


def repair(tuner):
    """Repair the files from which a tuner is about to reload its search.

    A damaged file gets another name. If it is oracle.json, its content is derived from the trials.
    A trial whose file is damaged is run again.
    """
    if not is_local(tuner.project_dir):
        return
    own_file = pathlib.Path(tuner._get_tuner_fname())
    if read(own_file) is None:
        set_aside(own_file, "no trial depends on it")
        save_json(own_file, tuner.get_state())
    if not tuner._is_worker():  # because the chief process writes the other files
        repair_trials(tuner)


def repair_trials(tuner):
    """Repair oracle.json and the files of the trials."""
    oracle = tuner.oracle
    FeasibleProposals(tuner.hypermodel, oracle).install()  # for the trials that run again
    file = pathlib.Path(oracle._get_oracle_fname())
    intact = load_trials(file.parent)
    state = read(file)
    needed = keras_tuner.Oracle.get_state(oracle).keys()
    if state is not None and needed <= state.keys():
        lost = [trial_id for trial_id in state["start_order"] if trial_id not in intact]
        if not lost:
            return
        oracle.trials = intact | {trial_id: Trial(None, trial_id) for trial_id in lost}
        oracle.set_state(state)
        oracle._retry_queue += [trial.trial_id for trial in oracle.ongoing_trials.values()]
        oracle.ongoing_trials = {}
    else:
        set_aside(file, f"the search continues from its {len(intact)} intact trials")
        started, lost = number_trials(intact, oracle.max_trials)
        tuner._populate_initial_space()
        restart.restore_state(oracle, intact, started)
    for trial_id in lost:
        restart.start_again(oracle, trial_id)
    oracle.save()


def load_trials(project):
    """The trials whose files are intact, `{trial id: trial}`; other files are set aside."""
    trials = {}
    for file in sorted(project.glob("trial_*/trial.json")):
        trial_id = file.parent.name.removeprefix("trial_")
        trial = load_trial(read(file))
        if trial is not None and trial.trial_id == trial_id:
            trials[trial_id] = trial
        else:
            set_aside(file, f"trial {trial_id} runs again")
    return trials


def load_trial(state):
    """A trial from its state, or None if the state is not that of a trial."""
    try:
        trial = Trial.from_state(state)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return None
    has_result = isinstance(trial.score, (int, float)) or trial.status != "COMPLETED"
    return trial if trial.status in STATUSES and has_result else None


def number_trials(intact, max_trials):
    """(ids of all trials that were started, ids of those that are lost), by their numbers."""
    by_number = {int(trial_id): trial_id for trial_id in intact if trial_id.isdecimal()}
    digits = len(str(max_trials))  # KerasTuner's rule
    started = [by_number.get(i, f"{i:0{digits}}") for i in range(max(by_number, default=-1) + 1)]
    return started, [trial_id for trial_id in started if trial_id not in intact]


def read(file):
    """The JSON object in a file; None if the file is missing or holds something else."""
    try:
        state = parse_json(pathlib.Path(file).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return state if isinstance(state, dict) else None


def set_aside(file, consequence):
    """Rename a damaged file, and print the new name and what follows from it."""
    if not file.exists():
        return
    names = (f"{file.name}.damaged{'' if i == 1 else i}" for i in itertools.count(1))
    new = next(path for path in map(file.with_name, names) if not path.exists())
    file.rename(new)
    print(f"{file.name} was damaged: {consequence}. The damaged file is now {new}")
