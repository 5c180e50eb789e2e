"""The result for images with one class: arrays, the numbers that follow from them, a table."""

import dataclasses

import numpy as np

from keras_mixers.evaluation import metrics
from keras_mixers.evaluation.result import MOST_LINES, Result
from keras_mixers.evaluation.text import images, name_of, percent


@dataclasses.dataclass(frozen=True, eq=False)
class Mistake:
    """An image whose predicted class is not its true class.

    Attributes:
        index: the position of the image in the dataset, from 0.
        true_class: the number of the true class.
        predicted_class: the number of the predicted class.
        probability: the probability of the predicted class.
        image: `(H, W, C)`, as the model received it.
        file: the path of the image, if the dataset is the validation data of a folder or a CSV
            file; else None.
    """

    index: int
    true_class: int
    predicted_class: int
    probability: float
    image: np.ndarray
    file: str | None = None


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Evaluation(Result):
    """What `evaluate` measured for images with one class each. `print` shows a table.

    Attributes:
        class_names: one name per class.
        confusion: `(num_classes, num_classes)`, numbers of images; row: true class, column:
            predicted class.
        top5_accuracy: fraction of images whose true class is among the five largest outputs. None
            for at most five classes.
        bin_counts: `(15,)`, numbers of images by the probability p of the predicted class. Bin m
            holds m / 15 < p <= (m + 1) / 15.
        bin_probabilities: `(15,)`, mean p in each bin; NaN without images.
        bin_accuracies: `(15,)`, fraction of the images in each bin that are predicted correctly;
            NaN without images.
        mistakes: the worst mistakes: those with the largest probabilities of the predicted class,
            largest first.
    """

    confusion: np.ndarray
    top5_accuracy: float | None
    mistakes: tuple[Mistake, ...]

    @property
    def num_images(self) -> int:
        """The number of images."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """Fraction of images whose predicted class is the true class."""
        return float(self.confusion.trace() / self.num_images)

    @property
    def counts(self) -> np.ndarray:
        """`(num_classes,)`, number of images of each class."""
        return self.confusion.sum(axis=1)

    @property
    def precision(self) -> np.ndarray:
        """`(num_classes,)`, fraction of the images predicted as the class that are of the class.

        NaN for a class that is never predicted.
        """
        return metrics.ratio(self.confusion.diagonal(), self.confusion.sum(axis=0))

    @property
    def recall(self) -> np.ndarray:
        """`(num_classes,)`, fraction of the images of the class that are predicted as the class.

        NaN for a class without images.
        """
        return metrics.ratio(self.confusion.diagonal(), self.counts)

    def __str__(self) -> str:
        blocks = [[self._summary()], self._classes(), self._confused(), self._worst()]
        return "\n\n".join("\n".join(lines) for lines in blocks if lines)

    def _summary(self):
        numbers = {"accuracy": self.accuracy, "top-5 accuracy": self.top5_accuracy}
        numbers["calibration error"] = self.calibration_error
        shown = [f"{name} {value:.1%}" for name, value in numbers.items() if value is not None]
        head = f"{images(self.num_images)}, {len(self.class_names)} classes"
        return f"{head}: {', '.join(shown)}"

    def _classes(self):
        fractions = {"precision": self.precision, "recall": self.recall}
        return self._table("class", self.counts, fractions, "recall")

    def _confused(self):
        off = self.confusion - np.diag(self.confusion.diagonal())
        order = np.argsort(-off, axis=None, kind="stable")[:MOST_LINES]
        pairs = [divmod(int(flat), len(off)) for flat in order if off.flat[flat]]
        lines = [f"  {self._mistaken(*pair)}: {images(off[pair])}" for pair in pairs]
        return ["most frequent mistakes", *lines] if lines else []

    def _worst(self):
        lines = [
            f"  {name_of(each)}: {self._mistaken(each.true_class, each.predicted_class)}"
            f" ({percent(each.probability)})"
            for each in self.mistakes[:MOST_LINES]
        ]
        title = "worst mistakes, by the probability of the predicted class"
        return [title, *lines] if lines else []

    def _mistaken(self, true, predicted):
        return f"{self._name(true)} as {self._name(predicted)}"
