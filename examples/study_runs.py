"""The training runs of a study, each with a file for its result, so that a study can be resumed.

A run that has its file is finished. Each file is written atomically, so that a kill loses only the
run that was training.
"""

import dataclasses
import json
import re
import statistics


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run: a model, with or without augmentation, and the seed.

    `settings` is a flat dict of what must not change when the study is resumed.
    """

    model: str
    augmentation: str
    seed: int
    settings: dict = dataclasses.field(repr=False, compare=False)

    def __str__(self):
        return f"{self.model}, {self.augmentation} augmentation, seed {self.seed}"

    @property
    def name(self):
        """The part of the names of its files that tells it from other runs."""
        return re.sub(r"[^\w.]+", "-", f"{self.model} {self.augmentation} {self.seed}")

    def write(self, folder, result):
        """Write the result, a dict of numbers, next to the settings of the run."""
        from keras_mixers.files import write_text

        names = {"model": self.model, "augmentation": self.augmentation, "seed": self.seed}
        row = {**names, **result, "settings": self.settings}
        write_text(folder / f"{self.name}.json", json.dumps(row, indent=1) + "\n")

    def read(self, folder):
        """The row that `write` wrote, or None if the run is not finished.

        Raises:
            ValueError: if the file is damaged, or if the run had other settings.
        """
        file = folder / f"{self.name}.json"
        if not file.exists():
            return None
        try:
            row = json.loads(file.read_text(encoding="utf-8"))
            before = dict(row.pop("settings"))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"--resume needs the files of a study. Received: {file}, which is damaged:"
                f" {error!r}"
            ) from None
        now = json.loads(json.dumps(self.settings))  # with the lists that JSON makes of tuples
        names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        if names:
            changed = ", ".join(f"{n} {before.get(n)!r} (now {now.get(n)!r})" for n in names)
            raise ValueError(
                "--resume needs the settings of the study in --output; give the same flags,"
                f" another --output, or --overwrite. Received: {file}, which had {changed}"
            )
        return row


def seconds_left(runs, rows):
    """The estimated seconds of the unfinished runs, or None before the first run is finished.

    A run takes as long as other seeds of its model, or as the mean run.
    """
    if not rows:
        return None
    mean = statistics.mean(row["seconds"] for row in rows.values())

    def expected(run):
        seeds = [r["seconds"] for other, r in rows.items() if other.model == run.model]
        return statistics.median(seeds) if seeds else mean

    return sum(expected(run) for run in runs if run not in rows)


def in_words(seconds):
    """A duration, such as `2 h 05 min`."""
    if seconds is None:
        return "an unknown time"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"
