"""What the results of all evaluations have: class names, calibration, and a table of classes."""

import dataclasses

import numpy as np

from keras_mixers.evaluation import metrics
from keras_mixers.evaluation.text import percent, short_name

MOST_ROWS = 20  # classes in the table
MOST_LINES = 5  # of each list of mistakes


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Result:
    """The part of a result that does not depend on how many labels an image has."""

    class_names: tuple[str, ...]
    bin_counts: np.ndarray
    bin_probabilities: np.ndarray
    bin_accuracies: np.ndarray

    @property
    def calibration_error(self) -> float:
        """The expected calibration error, with 15 equal bins.

        The mean of |accuracy - mean probability| of a bin, weighted by the numbers in the bins.

        Source: "On Calibration of Modern Neural Networks", arXiv 1706.04599.
        """
        return metrics.calibration_error(
            self.bin_counts, self.bin_probabilities, self.bin_accuracies
        )

    def _name(self, number):
        return short_name(self.class_names[number])

    def _table(self, head, counts, fractions, lowest):
        """Rows of all classes in their order, or of those with the lowest of the fractions.

        Args:
            head: what a row is.
            counts: `(num_classes,)`, numbers of images.
            fractions: `{name: (num_classes,)}` of the columns.
            lowest: the name of the column that chooses the rows.
        """
        rows, lines = np.arange(len(self.class_names)), []
        if len(rows) > MOST_ROWS:
            rows = np.argsort(fractions[lowest], kind="stable")[:MOST_ROWS]  # NaN comes last
            lines = [f"the {MOST_ROWS} {plural(head)} with the lowest {lowest}"]
        width = max(len(head), *(len(self._name(row)) for row in rows))
        lines.append("  ".join([f"{head:{width}}", "images", *fractions]))
        for row in rows:
            texts = [
                f"{percent(values[row]):>{max(len(name), 6)}}" for name, values in fractions.items()
            ]
            lines.append("  ".join([f"{self._name(row):{width}}", f"{counts[row]:6}", *texts]))
        return lines


def plural(noun):
    """The plural of "class" or "label"."""
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"
