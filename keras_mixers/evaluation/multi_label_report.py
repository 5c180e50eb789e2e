"""The result for images with several labels or none, and its table."""

import dataclasses

import numpy as np

from keras_mixers.evaluation import metrics
from keras_mixers.evaluation.result import MOST_LINES, Result
from keras_mixers.evaluation.text import images, name_of, percent


@dataclasses.dataclass(frozen=True, eq=False)
class LabelMistake:
    """A label that an image has and the model does not predict, or the reverse.

    Attributes:
        index: the position of the image in the dataset, from 0.
        label: the number of the label.
        probability: the predicted probability of the label.
        image: `(H, W, C)`, as the model received it.
        file: the path of the image, if the dataset is the validation data of a folder or a CSV
            file; else None.
    """

    index: int
    label: int
    probability: float
    image: np.ndarray
    file: str | None = None


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class MultiLabelEvaluation(Result):
    """What `evaluate` measured for images with several labels or none. `print` shows a table.

    The model predicts a label if its probability is above 0.5.

    Attributes:
        class_names: one name per label.
        confusion: `(num_labels, 2, 2)`, numbers of images for each label; row: whether the image
            has the label, column: whether the model predicts it.
        average_precision: `(num_labels,)`, the mean over the images with the label of the precision
            among the images whose logit is at least as large. NaN for a label without images.
        exact_match: fraction of images whose predicted labels are all their labels and no other.
        bin_counts: `(15,)`, numbers of pairs (image, label) by the probability p of the label. Bin
            m holds m / 15 < p <= (m + 1) / 15, and the first also p = 0.
        bin_probabilities: `(15,)`, mean p in each bin; NaN without pairs.
        bin_accuracies: `(15,)`, fraction of the pairs in each bin whose image has the label; NaN
            without pairs.
        false_positives: the worst predicted labels that the image does not have: those with the
            largest probabilities, largest first.
        false_negatives: the worst labels that the model does not predict: those with the smallest
            probabilities, smallest first.
    """

    confusion: np.ndarray
    average_precision: np.ndarray
    exact_match: float
    false_positives: tuple[LabelMistake, ...]
    false_negatives: tuple[LabelMistake, ...]

    @property
    def num_images(self) -> int:
        """The number of images."""
        return int(self.confusion[0].sum())

    @property
    def mean_average_precision(self) -> float:
        """The mean of `average_precision` over the labels that an image has; NaN if none has."""
        found = self.average_precision[self.counts > 0]
        return float(found.mean()) if len(found) else float("nan")

    @property
    def counts(self) -> np.ndarray:
        """`(num_labels,)`, number of images with each label."""
        return self.confusion[:, 1].sum(axis=1)

    @property
    def label_accuracy(self) -> np.ndarray:
        """`(num_labels,)`, fraction of images for which the prediction of the label is right."""
        return self.confusion.trace(axis1=1, axis2=2) / self.num_images

    @property
    def precision(self) -> np.ndarray:
        """`(num_labels,)`, fraction of the images predicted to have the label that have it.

        NaN for a label that is never predicted.
        """
        return metrics.ratio(self.confusion[:, 1, 1], self.confusion[:, :, 1].sum(axis=1))

    @property
    def recall(self) -> np.ndarray:
        """`(num_labels,)`, fraction of the images with the label that are predicted to have it.

        NaN for a label without images.
        """
        return metrics.ratio(self.confusion[:, 1, 1], self.counts)

    def __str__(self) -> str:
        fractions = {
            "average precision": self.average_precision,
            "precision": self.precision,
            "recall": self.recall,
        }
        blocks = [
            [self._summary()],
            self._table("label", self.counts, fractions, "average precision"),
            self._worst("worst false positives, by the probability", self.false_positives),
            self._worst("worst false negatives, by the probability", self.false_negatives),
        ]
        return "\n\n".join("\n".join(lines) for lines in blocks if lines)

    def _summary(self):
        numbers = {
            "mean average precision": self.mean_average_precision,
            "exact match": self.exact_match,
            "label accuracy": self.label_accuracy.mean(),
            "calibration error": self.calibration_error,
        }
        labels = len(self.class_names)
        head = f"{images(self.num_images)}, {labels} label{'s' if labels > 1 else ''}"
        return f"{head}: {', '.join(f'{name} {percent(x)}' for name, x in numbers.items())}"

    def _worst(self, title, mistakes):
        lines = [
            f"  {name_of(each)}: {self._name(each.label)} ({percent(each.probability)})"
            for each in mistakes[:MOST_LINES]
        ]
        return [title, *lines] if lines else []
