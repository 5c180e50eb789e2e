"""The most probable classes of one image."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image, the most probable first; `print` shows them.

    Args:
        source: the path of the file as text, or the index of another image in `files`.
        class_names: the names of the classes.
        probabilities: their probabilities.
    """

    source: str | int
    class_names: tuple[str, ...]
    probabilities: tuple[float, ...]

    def __str__(self) -> str:
        source = f"image {self.source}" if isinstance(self.source, int) else self.source
        pairs = zip(self.class_names, self.probabilities, strict=True)
        return printable(f"{source}: {', '.join(f'{name} {value:.1%}' for name, value in pairs)}")


def printable(text):
    r"""The text in one line: line breaks and bytes that are not UTF-8 as `\n`, `\udcff`."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
