"""The most probable classes of one image."""

import dataclasses

from keras_mixers import arguments


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image, the most probable first; `print` shows them.

    Args:
        source: the path of the file as text, or the index of another image in `files`.
        class_names: the names of the classes.
        probabilities: their probabilities.
        independent: whether each probability is a separate decision, so that an image may have
            several labels or none.
    """

    source: str | int
    class_names: tuple[str, ...]
    probabilities: tuple[float, ...]
    independent: bool = False

    def __str__(self) -> str:
        source = f"image {self.source}" if isinstance(self.source, int) else self.source
        pairs = list(zip(self.class_names, self.probabilities, strict=True))
        if not self.independent:
            return arguments.one_line(f"{source}: {shown(pairs)}")
        labels = [pair for pair in pairs if pair[1] > 0.5]
        others = f"; at most 50%: {shown(pairs[len(labels) :])}" if pairs[len(labels) :] else ""
        return arguments.one_line(f"{source}: {shown(labels) or 'no label'}{others}")


def shown(pairs):
    """Names and probabilities as text."""
    return ", ".join(f"{name} {value:.1%}" for name, value in pairs)
