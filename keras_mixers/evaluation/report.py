"""The result of an evaluation: arrays, the numbers that follow from them, and a table."""

import dataclasses

import numpy as np

from keras_mixers.evaluation import metrics

MOST_ROWS = 20  # classes in the table
MOST_LINES = 5  # of each list of mistakes
LONGEST_NAME = 30  # characters of a class name in the table


@dataclasses.dataclass(frozen=True, eq=False)
class Mistake:
    """An image whose predicted class is not its true class.

    Attributes:
        index: the position of the image in the dataset, from 0.
        true_class: the number of the true class.
        predicted_class: the number of the predicted class.
        probability: the probability of the predicted class.
        image: `(H, W, C)`, as the model received it.
    """

    index: int
    true_class: int
    predicted_class: int
    probability: float
    image: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """What `evaluate` measured. `print` shows a table.

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

    class_names: tuple[str, ...]
    confusion: np.ndarray
    top5_accuracy: float | None
    bin_counts: np.ndarray
    bin_probabilities: np.ndarray
    bin_accuracies: np.ndarray
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

    @property
    def calibration_error(self) -> float:
        """The expected calibration error, with 15 equal bins.

        The mean over the images of |accuracy - mean probability| of their bin.

        Source: "On Calibration of Modern Neural Networks", arXiv 1706.04599.
        """
        return metrics.calibration_error(
            self.bin_counts, self.bin_probabilities, self.bin_accuracies
        )

    def __str__(self) -> str:
        blocks = [[self._summary()], self._table(), self._confused(), self._worst()]
        return "\n\n".join("\n".join(lines) for lines in blocks if lines)

    def _summary(self):
        numbers = {"accuracy": self.accuracy, "top-5 accuracy": self.top5_accuracy}
        numbers["calibration error"] = self.calibration_error
        shown = [f"{name} {value:.1%}" for name, value in numbers.items() if value is not None]
        head = f"{images(self.num_images)}, {len(self.class_names)} classes"
        return f"{head}: {', '.join(shown)}"

    def _table(self):
        """Rows of all classes in their order, or of the classes with the lowest recall."""
        rows, title = np.arange(len(self.class_names)), []
        if len(rows) > MOST_ROWS:
            rows = np.argsort(self.recall, kind="stable")[:MOST_ROWS]  # NaN comes last
            title = [f"the {MOST_ROWS} classes with the lowest recall"]
        width = max(len("class"), *(len(self._name(row)) for row in rows))
        lines = [f"{'class':{width}}  images  precision  recall"]
        lines += [
            f"{self._name(row):{width}}  {self.counts[row]:6}"
            f"  {percent(self.precision[row]):>9}  {percent(self.recall[row]):>6}"
            for row in rows
        ]
        return title + lines

    def _confused(self):
        off = self.confusion - np.diag(self.confusion.diagonal())
        order = np.argsort(-off, axis=None, kind="stable")[:MOST_LINES]
        pairs = [divmod(int(flat), len(off)) for flat in order if off.flat[flat]]
        lines = [f"  {self._mistaken(*pair)}: {images(off[pair])}" for pair in pairs]
        return ["most frequent mistakes", *lines] if lines else []

    def _worst(self):
        lines = [
            f"  image {each.index}: {self._mistaken(each.true_class, each.predicted_class)}"
            f" ({percent(each.probability)})"
            for each in self.mistakes[:MOST_LINES]
        ]
        title = "worst mistakes, by the probability of the predicted class"
        return [title, *lines] if lines else []

    def _mistaken(self, true, predicted):
        return f"{self._name(true)} as {self._name(predicted)}"

    def _name(self, number):
        """A class name on one line, as UTF-8 can hold it, not longer than the table allows."""
        text = self.class_names[number].encode("utf-8", "replace").decode()
        name = " ".join(text.split())
        return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 3]}..."


def images(count):
    """A number of images as text."""
    return f"{count} image" if count == 1 else f"{count} images"


def percent(fraction):
    """A fraction as text; NaN becomes a dash."""
    return "-" if np.isnan(fraction) else f"{fraction:.1%}"
