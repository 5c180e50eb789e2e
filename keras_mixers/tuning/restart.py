"""Restore the state of an oracle from its trials, and start lost trials again."""

import keras_tuner
from keras_tuner.engine.trial import Trial

from keras_mixers.tuning.feasible import ATTEMPTS

ENDED = ("COMPLETED", "FAILED")


def restore_state(oracle, trials, started):
    """Set what a new oracle needs to continue after `trials`, `{trial id: trial}`.

    `started` has the ids in the order of the search. Trials that did not end are run again.
    """
    oracle.start_order = started
    oracle.trials = {trial_id: trials[trial_id] for trial_id in started if trial_id in trials}
    for trial_id, trial in oracle.trials.items():
        oracle.update_space(trial.hyperparameters)
        oracle._record_values(trial)
        if trial.status in ENDED:
            oracle.end_order.append(trial_id)
            oracle._run_times[trial_id] = 1
        else:
            oracle._retry_queue.insert(0, trial_id)
    if isinstance(oracle, keras_tuner.oracles.HyperbandOracle):
        restore_brackets(oracle)
    found = redrawn(oracle, set(oracle._id_to_hash.values()))
    oracle._seed_state = max((state for _, state in found.values()), default=oracle._seed_state)


def restore_brackets(oracle):
    """Assign the trials of Hyperband to the rounds of brackets, in the order of the search."""
    for trial_id in oracle.start_order:
        trial = oracle.trials.get(trial_id)
        past_id = trial and trial.hyperparameters.values.get("tuner/trial_id")
        if past_id is None:
            bracket = oracle._brackets[-1]
            if len(bracket["rounds"][0]) == oracle._get_size(bracket["bracket_num"], 0):
                oracle._increment_bracket_num()
                oracle._start_new_bracket()
            oracle._brackets[-1]["rounds"][0].append({"past_id": None, "id": trial_id})
            continue
        for bracket in oracle._brackets:
            for runs, next_runs in zip(bracket["rounds"], bracket["rounds"][1:], strict=False):
                if past_id in [run["id"] for run in runs]:
                    next_runs.append({"past_id": past_id, "id": trial_id})


def start_again(oracle, trial_id):
    """Queue a trial whose file is lost, with the same configuration if it can be found out."""
    lost_hash = oracle._id_to_hash.pop(trial_id, None)
    oracle._tried_so_far.discard(lost_hash)
    run = hyperband_run(oracle, trial_id)
    if "tuner/trial_id" in run:
        values = oracle.trials[run["tuner/trial_id"]].hyperparameters.values
    else:
        values, _ = redrawn(oracle, {lost_hash}).get(lost_hash) or (untried(oracle), None)
    hyperparameters = oracle.get_space()
    hyperparameters.values = {**values, **run}
    oracle.trials[trial_id] = trial = Trial(hyperparameters, trial_id)
    oracle._record_values(trial)
    oracle._run_times.pop(trial_id, None)
    if trial_id in oracle.end_order:
        oracle.end_order.remove(trial_id)
    if trial_id not in oracle._retry_queue:
        oracle._retry_queue.insert(0, trial_id)
    oracle._save_trial(trial)


def hyperband_run(oracle, trial_id):
    """The values that Hyperband adds to a trial's configuration; none for other oracles."""
    for bracket in getattr(oracle, "_brackets", ()):
        for number, runs in enumerate(bracket["rounds"]):
            for run in runs:
                if run["id"] == trial_id:
                    return values_of_run(oracle, bracket["bracket_num"], number, run["past_id"])
    return {}


def values_of_run(oracle, bracket, number, past_id):
    """What Hyperband adds for a run in the round of this number, which resumes trial `past_id`."""
    return {
        **({"tuner/trial_id": past_id} if past_id else {}),
        "tuner/epochs": oracle._get_epochs(bracket, number),
        "tuner/initial_epoch": oracle._get_epochs(bracket, number - 1) if past_id else 0,
        "tuner/bracket": bracket,
        "tuner/round": number,
    }


def untried(oracle):
    """A configuration that no trial has: in a grid the first one, or else a random one."""
    space = oracle.get_space()
    values = {hp.name: hp.default for hp in space.space if space.is_active(hp)}
    if not isinstance(oracle, keras_tuner.oracles.GridSearchOracle):
        return oracle._random_values() or values
    while values is not None and oracle._duplicate(values):
        values = oracle._get_next_combination(values)
    return values or {}


def redrawn(oracle, hashes):
    """Draw the random configurations of a search again, until all with these hashes are found.

    Returns:
        `{hash: (values, state of the random numbers after the draw)}`; without those that were not
        drawn at random.
    """
    state, tried = oracle._seed_state, oracle._tried_so_far
    oracle._seed_state, oracle._tried_so_far = oracle.seed, set()
    found = {}
    attempts = 0 if hashes == {None} else ATTEMPTS * len(oracle.start_order)
    for _ in range(attempts):
        values = type(oracle)._random_values(oracle)
        found.setdefault(oracle._compute_values_hash(values), (values, oracle._seed_state))
        if hashes <= found.keys():
            break
    oracle._seed_state, oracle._tried_so_far = state, tried
    return {key: found[key] for key in hashes & found.keys()}
