"""The results of a search: a row for each trial, a table, and the front of the cheapest ones."""

import csv
import dataclasses
import io
import os
from collections.abc import Sequence
from typing import Any

from keras_mixers import arguments
from keras_mixers.files import write_text

COSTS = ("params", "flops", "latency_ms")
LONGEST_TEXT = 60  # characters of a value or a reason in the table


@dataclasses.dataclass(frozen=True, eq=False)
class TrialResult:
    """One trial of a search.

    Attributes:
        trial_id: its name in the tuner.
        status: `"completed"`, `"infeasible"` (over budget, or out of memory), `"failed"` (by
            another error) or `"unfinished"`.
        score: the objective; None if the trial is not completed.
        values: `{name: value}`, the quantities that have an effect in this trial.
        params: number of weights of the model; None if the tuner's space is not of this package.
        flops: multiply-adds for one image; None as for `params`.
        latency_ms: milliseconds for one image; None if the search did not measure it.
        reason: why the trial has no score; an empty string for completed trials.
        hyperparameters: what `space.build` and `space.recipe_of` take.

    Example:
        >>> trial = TrialResult("0", "completed", 0.9, {"depth": 2}, 1_000, 9_000, None, "", None)
        >>> trial.value("depth"), trial.value("params")
        (2, 1000)
    """

    trial_id: str
    status: str
    score: float | None
    values: dict[str, Any]
    params: int | None
    flops: int | None
    latency_ms: float | None
    reason: str
    hyperparameters: Any = dataclasses.field(repr=False)

    def value(self, name: str) -> Any:
        """A cost or a quantity by its name; None if this trial does not have it."""
        return getattr(self, name) if name in COSTS else self.values.get(name)


@dataclasses.dataclass(frozen=True, eq=False)
class SearchResults:
    """All trials of a search. `print` shows a table.

    Attributes:
        objective: the name of the score, such as `"val_accuracy"`.
        direction: `"max"` if a larger score is better, else `"min"`.
        trials: best first. Of equal scores the smaller `val_loss` is better, if it was recorded.
            Trials without a score are last, in the order of the search.

    Example:
        >>> cheap = TrialResult("0", "completed", 0.9, {"depth": 2}, 1_000, 9_000, None, "", None)
        >>> large = TrialResult("1", "completed", 0.8, {"depth": 4}, 2_000, 18_000, None, "", None)
        >>> print(SearchResults("val_accuracy", "max", (cheap, large)))
        rank  trial  val_accuracy  front  depth  params   flops
           1      0           0.9      *      2   1,000   9,000
           2      1           0.8             4   2,000  18,000
    """

    objective: str
    direction: str
    trials: tuple[TrialResult, ...]

    @property
    def completed(self) -> tuple[TrialResult, ...]:
        """The trials with a score, best first."""
        return tuple(trial for trial in self.trials if trial.score is not None)

    def front(self, cost: str = "params") -> tuple[TrialResult, ...]:
        """The trials that are better than all cheaper ones, the cheapest first.

        Args:
            cost: `"params"`, `"flops"` or `"latency_ms"`. Trials without it do not count.

        Raises:
            ValueError: if `cost` is another name.
        """
        arguments.choice("cost", cost, COSTS)
        sign = -1 if self.direction == "max" else 1
        known = [trial for trial in self.completed if trial.value(cost) is not None]
        found: list[TrialResult] = []
        for trial in sorted(known, key=lambda trial: (trial.value(cost), sign * trial.score)):
            if not found or sign * trial.score < sign * found[-1].score:
                found.append(trial)
        return tuple(found)

    def rows(self) -> list[dict[str, Any]]:
        """The table as plain data, one dict for each trial with the same keys.

        A quantity without an effect in a trial is None. `front` says whether the trial belongs to
        the front of parameters.
        """
        names = list(dict.fromkeys(name for trial in self.trials for name in trial.values))
        front = self.front()
        return [
            {
                "rank": None if trial.score is None else rank,
                "trial": trial.trial_id,
                self.objective: trial.score,
                "front": trial in front,
                **{name: trial.values.get(name) for name in names},
                **{cost: trial.value(cost) for cost in COSTS},
                "status": trial.status,
                "reason": trial.reason,
            }
            for rank, trial in enumerate(self.trials, start=1)
        ]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `rows()` as a CSV file, which is replaced in one step."""
        rows, text = self.rows(), io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(arguments.output_path(path), text.getvalue())

    def table(self, names: Sequence[str] | None = None) -> str:
        """The table that `print` shows, with all quantities or only some.

        Quantities that are equal in all trials are below the table.

        Args:
            names: the quantities to show; None for all.
        """
        rows, quantities = self.rows(), {name for trial in self.trials for name in trial.values}
        if not rows:
            return "no trials"
        if names is not None:
            names = arguments.sequence("names", names, len(quantities), "`names` must be a list")
            hidden = quantities - {arguments.choice("names", name, quantities) for name in names}
            rows = [{k: v for k, v in row.items() if k not in hidden} for row in rows]
        if len(self.completed) == len(rows):
            rows = [{k: v for k, v in row.items() if k != "status"} for row in rows]
        keys = [key for key in rows[0] if any(row[key] not in (None, "") for row in rows)]
        equal = {key for key in keys if len({str(row[key]) for row in rows}) == 1 < len(rows)}
        same = [key for key in keys if key in equal & quantities]
        keys = [key for key in keys if key not in same]

        cells = [keys, *([shown(key, row[key]) for key in keys] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in cells
        ]
        if same:
            values = (f"{key}={shown(key, rows[0][key])}" for key in same)
            lines.append(f"in all trials: {', '.join(values)}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()


def shown(key, value):
    """A cell of the table as text."""
    if value is None:
        return "-"
    if key == "front":
        return "*" if value else ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if key in ("params", "flops"):
        return f"{value:,}"
    text = " ".join(str(value).split())
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} ..."
