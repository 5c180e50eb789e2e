"""Propose configurations within the budget of parameters and multiply-adds.

Both are counted without weights, so no trial is needed to find out that a configuration is too
large.
"""

import keras_tuner
import numpy as np

from keras_mixers.tuning.budget import InfeasibleError

ATTEMPTS = 100  # configurations over budget in a row, before one of them becomes a trial
CANDIDATES = 16  # from which BayesianOptimization chooses if its own proposal is over budget


class FeasibleProposals:
    """Methods of an oracle that propose only configurations within the budget, if they find one.

    Args:
        space: the space with the budget.
        oracle: the oracle, whose class proposes the configurations.
    """

    def __init__(self, space, oracle):
        self.space = space
        self.oracle = oracle
        self.reasons = {}  # why a configuration is over budget, or None, by its `size_key`

    def install(self):
        """Replace the methods of the oracle that propose a configuration."""
        self.oracle._random_values = self.random_values
        if isinstance(self.oracle, keras_tuner.oracles.GridSearchOracle):
            self.oracle._get_next_combination = self.next_combination

    def is_feasible(self, values):
        """Whether a configuration, `{name: value}`, is within the budget of the model's size."""
        hp = self.oracle.get_space()
        hp.values = dict(values)
        key = self.space.size_key(hp)
        if key not in self.reasons:
            self.reasons[key] = self.reason(hp)
            if self.reasons[key] and self.oracle.verbose:
                print(f"Skipped a configuration: {self.reasons[key]}")
        return self.reasons[key] is None

    def reason(self, hp):
        """Why the model of a configuration is over budget, or None."""
        try:
            self.space.check_size(hp)
        except InfeasibleError as error:
            return error.reason
        return None

    def random_values(self):
        """A random configuration; None if KerasTuner finds none that it has not tried."""
        for _ in range(ATTEMPTS):
            values = type(self.oracle)._random_values(self.oracle)
            if values is None or self.is_feasible(values):
                break
        return values

    def next_combination(self, values):
        """The combination that follows `values` in the grid; None after the last one."""
        for _ in range(ATTEMPTS):
            values = type(self.oracle)._get_next_combination(self.oracle, values)
            if values is None or self.is_feasible(values):
                break
        return values

    def replacement(self, values):
        """A configuration to try instead of `values`, which are over budget.

        The regression of BayesianOptimization chooses one of several random configurations. The
        first combination of a grid is replaced by the next one.
        """
        if isinstance(self.oracle, keras_tuner.oracles.GridSearchOracle):
            is_first = not self.oracle.start_order
            return (is_first and self.next_combination(values)) or values
        if not hasattr(getattr(self.oracle, "gpr", None), "X_train_"):
            return values  # because all attempts to sample a feasible configuration have failed
        found = filter(None, [self.random_values() for _ in range(CANDIDATES)])
        candidates = [each for each in found if self.is_feasible(each)]
        if not candidates:
            return values
        points = [
            [
                hp.value_to_prob(each.get(hp.name, hp.default))
                for hp in self.oracle._nonfixed_space()
            ]
            for each in candidates
        ]
        mean, deviation = self.oracle.gpr.predict(np.array(points), return_std=True)
        return candidates[int(np.argmin(mean - self.oracle.beta * deviation))]
