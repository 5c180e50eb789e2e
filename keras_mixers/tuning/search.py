"""Search within a budget: infeasible trials do not end it, and only the best checkpoints stay.

The functions marked as workarounds mend faults of KerasTuner and use its private names.
tests/tuning/test_keras_tuner.py fails when a KerasTuner release makes one of them unnecessary.
"""

import functools
import math

import keras_tuner
from keras_tuner.errors import FatalValueError

from keras_mixers import arguments
from keras_mixers.tuning.budget import INFEASIBLE_PREFIX, InfeasibleError
from keras_mixers.tuning.checkpoints import checkpoint_files, remove_checkpoints
from keras_mixers.tuning.feasible import FeasibleProposals
from keras_mixers.tuning.trials import (
    check_tuner,
    infeasible_reason,
    is_infeasible,
    record_reason,
)


def within_budget(tuner: keras_tuner.Tuner, keep: int = 5) -> keras_tuner.Tuner:
    """Make a tuner continue past infeasible trials and keep only the best checkpoints.

    `tuner.search` on a space of this package calls this function, with the default `keep`. Call it
    yourself, before `tuner.search`, to choose another `keep`.

    The tuner changes in five ways:

    - It tries only configurations within `max_params` and `max_flops`, if it finds them.
    - An infeasible trial does not count as one of the consecutive failures that end a search. The
      search prints its reason in one line, without a traceback.
    - An infeasible trial counts as worse than all completed trials where Hyperband and
      BayesianOptimization choose what to try next. KerasTuner ignores failed trials there.
    - A checkpoint is deleted unless it is one of the best or Hyperband may resume it.
    - An interrupted GridSearch can be resumed.

    For a search with several processes, KerasTuner reads three environment variables.
    `KERASTUNER_TUNER_ID` is `chief` in one process, and `worker0`, `worker1`, ... in the others.
    `KERASTUNER_ORACLE_IP` and `KERASTUNER_ORACLE_PORT` are the chief's address and port. All
    processes need the same `directory` and the same `keep`.

    Args:
        tuner: any KerasTuner tuner whose hypermodel is a space of this package.
        keep: how many checkpoints to keep, those of the best trials. `tuner.get_best_models` can
            load as many models.

    Returns:
        The same tuner.

    Raises:
        ValueError, TypeError: if `keep` is not a positive integer, or if `tuner` is not a tuner of
            a space of this package.

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
    check_tuner(tuner)
    if not hasattr(tuner.hypermodel, "check_size"):
        raise TypeError(
            "`tuner` must search a space such as km.tuning.HyperViT(...). Received: a tuner of"
            f" {arguments.shown(tuner.hypermodel)}"
        )
    tuner._run_and_update_trial = functools.partial(run_and_update_trial, tuner)
    # A worker process has a client instead of an oracle. The oracle is in the chief process.
    if isinstance(tuner.oracle, keras_tuner.Oracle):
        BudgetedOracle(tuner, keep).install()
    return tuner


def prepare_search(tuner):
    """Call `within_budget` with the default `keep`, unless the user has called it.

    Raises:
        FatalValueError: if the tuner has arguments of `compile`, which override the recipe.
    """
    given = [name for name in ("optimizer", "loss", "metrics") if getattr(tuner, name, None)]
    if given:
        raise FatalValueError(
            f"`{given[0]}` must be left to the space, which compiles each model by its recipe. Pass"
            " what is not searched as the space's `recipe`. Received: a tuner with"
            f" {', '.join(given)}"
        )
    if "_run_and_update_trial" not in vars(tuner):
        within_budget(tuner)


def run_and_update_trial(tuner, trial, *args, **options):
    """Run a trial. If it is infeasible, print and record the reason; `end_trial` reads it."""
    record_reason(tuner, trial, None)
    try:
        type(tuner)._run_and_update_trial(tuner, trial, *args, **options)
    except InfeasibleError as error:
        record_reason(tuner, trial, str(error))
        print(f"Trial {trial.trial_id} is {error}")


class BudgetedOracle:
    """The methods that replace those of one tuner and its oracle, and the state they need.

    Each method calls the method that it replaces, as the class of the oracle or tuner defines it.
    So a second `BudgetedOracle` on the same tuner replaces the first one.

    Args:
        tuner: the tuner whose oracle is changed.
        keep: how many checkpoints to keep.
    """

    def __init__(self, tuner, keep):
        self.tuner = tuner
        self.oracle = tuner.oracle
        self.keep = keep
        self.proposals = FeasibleProposals(tuner.hypermodel, tuner.oracle)

    def install(self):
        """Replace the methods, and restore what KerasTuner loses when it reloads a search."""
        self.proposals.install()
        restore_trial_order(self.oracle)
        if isinstance(self.oracle, keras_tuner.oracles.GridSearchOracle):
            continue_grid(self.oracle)
        self.oracle.populate_space = self.populate_space
        self.oracle.end_trial = self.end_trial
        self.oracle._check_consecutive_failures = self.check_failures
        self.tuner.load_model = self.load_model

    def populate_space(self, trial_id):
        """Propose the next configuration, within the budget if possible."""
        proposal = self.ranked_populate_space(trial_id)
        values = proposal.get("values")
        # Hyperband may resume a trial, which has passed this check.
        if values and "tuner/trial_id" not in values and not self.proposals.is_feasible(values):
            proposal["values"] = self.proposals.replacement(values)
        return proposal

    def ranked_populate_space(self, trial_id):
        """Propose the next configuration, with infeasible trials as the worst completed ones.

        Workaround, because KerasTuner 1.4.8 skips failed trials when it chooses:

        - `HyperbandOracle.populate_space` compares the number of *completed* trials of a round with
          the full size of the round. After failed trials it does not start the next round.
        - `BayesianOptimizationOracle` does not fit its regression to failed trials. It can propose
          configurations over budget again and again.
        """
        trials = self.oracle.trials.values()
        scores = [trial.score for trial in trials if trial.status == "COMPLETED"]
        failed = [trial for trial in trials if is_infeasible(trial)] if scores else []
        for trial in failed:
            trial.status = "COMPLETED"
            if self.oracle.objective.direction == "max":
                trial.score = math.nextafter(min(scores), -math.inf)
            else:
                trial.score = math.nextafter(max(scores), math.inf)
        try:
            return type(self.oracle).populate_space(self.oracle, trial_id)
        finally:
            for trial in failed:
                trial.status, trial.score = "FAILED", None

    def end_trial(self, trial):
        """End a trial, with the reason if it is infeasible, and delete old checkpoints."""
        reason = infeasible_reason(self.tuner, trial)
        metrics = self.oracle.trials[trial.trial_id].metrics
        if reason and not metrics.exists(self.oracle.objective.name):
            trial.status, trial.message = "FAILED", reason
        type(self.oracle).end_trial(self.oracle, trial)
        remove_checkpoints(self.tuner, self.keep)

    def check_failures(self):
        """Raise after too many consecutive failures, without counting infeasible trials.

        Workaround, because KerasTuner 1.4.8 counts a trial that raised `FailedTrialError` as a
        failure, although this exception tells KerasTuner to skip the trial. Three configurations
        over budget in a row end the search: https://github.com/keras-team/keras-tuner/issues/989
        """
        oracle = self.oracle
        end_order = oracle.end_order
        oracle.end_order = [each for each in end_order if not is_infeasible(oracle.trials[each])]
        try:
            type(oracle)._check_consecutive_failures(oracle)
        finally:
            oracle.end_order = end_order

    def load_model(self, trial):
        """Load the model of a trial for `get_best_models`, if the trial has a checkpoint."""
        if is_infeasible(trial):
            raise ValueError(
                "each model to load must have a feasible trial. Received: trial"
                f" {trial.trial_id}, which is infeasible:"
                f" {trial.message.removeprefix(INFEASIBLE_PREFIX).strip()}"
            )
        if not checkpoint_files(self.tuner, trial.trial_id):
            raise ValueError(
                f"`num_models` must be at most keep={self.keep} of tuning.within_budget, which"
                " deletes all other checkpoints. Received: trial"
                f" {trial.trial_id}, which has no checkpoint"
            )
        return type(self.tuner).load_model(self.tuner, trial)


def restore_trial_order(oracle):
    """Sort the trials by their start.

    KerasTuner reloads them in the order of the file system. Of equal scores the first trial is the
    best one, so the best trials would change.
    """
    started = [trial_id for trial_id in oracle.start_order if trial_id in oracle.trials]
    oracle.trials = {trial_id: oracle.trials[trial_id] for trial_id in started}


def continue_grid(oracle):
    """Restore which combinations a reloaded GridSearch has tried, in the order of the grid.

    Workaround, because `GridSearchOracle` of KerasTuner 1.4.8 does not save `_ordered_ids` and
    `_populate_next`. A resumed search ends before the grid does, or raises a KeyError if a trial
    was interrupted: https://github.com/keras-team/keras-tuner/issues/1055
    """
    if oracle.trials and not oracle._populate_next:
        order = functools.cmp_to_key(
            lambda a, b: oracle._compare(a.hyperparameters.values, b.hyperparameters.values)
        )
        for trial in sorted(oracle.trials.values(), key=order):
            oracle._ordered_ids.insert(trial.trial_id)
            oracle._populate_next.append(trial.trial_id)
