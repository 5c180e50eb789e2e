"""The report of a load."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What `load_weights` did; `str()` gives a few lines of text.

    Attributes:
        format: the name of the format that was recognised.
        loaded: how many weights of the model were set.
        adapted: `{role: change}` for weights that were changed to fit, and for biases that are zero
            because the original has none.
        skipped: `{key of the source: reason}` for arrays that were not used.
        untouched: `{path of a weight of the model: reason}` for weights that keep their values.
        part: what precedes the names of the weights that were used, such as `"model_ema"` or
            `"visual.trunk"`; `""` if nothing does.
    """

    format: str
    loaded: int
    adapted: dict[str, str]
    skipped: dict[str, str]
    untouched: dict[str, str]
    part: str = ""

    def __str__(self) -> str:
        origin = f" from '{self.part}'" if self.part else ""
        lines = [f"{self.format}: {self.loaded} weights set{origin}"]
        for title, found in (
            ("adapted", self.adapted),
            ("skipped in the file", self.skipped),
            ("untouched in the model", self.untouched),
        ):
            names_by_reason = {}
            for name, reason in found.items():
                names_by_reason.setdefault(reason, []).append(name)
            for reason, names in names_by_reason.items():
                more = f", ... ({len(names)})" if len(names) > 3 else ""
                lines.append(f"  {title}: {', '.join(names[:3])}{more}: {reason}")
        return "\n".join(lines)
