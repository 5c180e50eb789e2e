"""What a load did: which keys went where, what was changed on the way, what was left."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What `load_weights` did; `str()` reads as a few lines.

    Attributes:
        format: the way of naming that was recognised.
        loaded: how many weights of the model were set.
        adapted: `{role: what was done}` for weights that did not fit as they were.
        skipped: `{key of the source: why it was left}`.
        untouched: `{path of a weight of the model: why it keeps its value}`.
    """

    format: str
    loaded: int
    adapted: dict
    skipped: dict
    untouched: dict

    def __str__(self):
        lines = [f"{self.format}: {self.loaded} weights set"]
        for title, found in (
            ("adapted", self.adapted),
            ("skipped in the file", self.skipped),
            ("untouched in the model", self.untouched),
        ):
            reasons = {}
            for name, reason in found.items():
                reasons.setdefault(reason, []).append(name)
            for reason, names in reasons.items():
                more = f", ... ({len(names)})" if len(names) > 3 else ""
                lines.append(f"  {title}: {', '.join(names[:3])}{more}: {reason}")
        return "\n".join(lines)
