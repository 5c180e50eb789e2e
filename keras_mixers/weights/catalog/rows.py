"""Read the rows of checkpoints.csv.

An empty field is an unknown fact, except for `source`. There it means the repository of the same
name, `timm/NAME`, on the Hugging Face hub. A source with another `owner/name` is a repository too.
The first row of an architecture is its default.

timm's rows come from its pretrained configurations (timm 1.0.31), and their licences too. The
accuracies come from the sources in `top1_source`. The model cards state sizes and digests.
"""

import csv
import functools
import pathlib

from keras_mixers.preprocessing import Preprocessing
from keras_mixers.weights.catalog.architectures import architectures
from keras_mixers.weights.catalog.checkpoint import Checkpoint

FILE = pathlib.Path(__file__).with_name("checkpoints.csv")

# Name -> (mean, std) of the colours in 0..1.
COLORS = {
    "half": ((0.5,) * 3, (0.5,) * 3),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "satellite": ((0.43, 0.411, 0.296), (0.213, 0.156, 0.143)),
    "unit": ((0.0,) * 3, (1.0,) * 3),
}


@functools.cache
def checkpoints():
    """All rows: `{name: Checkpoint}`."""
    with FILE.open(encoding="utf-8", newline="") as file:
        rows = [checkpoint(row) for row in csv.DictReader(file)]
    return {row.name: row for row in rows}


def checkpoint(row):
    """The `Checkpoint` of a row of the file."""
    name = row["name"]
    known = architectures()[name.partition(".")[0]]
    url = address(row["source"] or f"timm/{name}")
    mean, std = COLORS[row["colors"]]
    return Checkpoint(
        name=name,
        family=known.family,
        variant=known.variant,
        arguments=known.arguments,
        url=url,
        format="google" if url.endswith(".npz") else "timm",
        num_classes=int(row["classes"]),
        preprocessing=Preprocessing(
            size=known.size,
            crop_fraction=float(row["crop"]),
            interpolation=row["interpolation"],
            mean=mean,
            std=std,
            crop_mode=row["crop_mode"],
        ),
        license=row["license"] or None,
        size=row["file_size"] or None,
        sha256=row["sha256"] or None,
        top1=float(row["top1"]) if row["top1"] else None,
        top1_source=row["top1_source"] or None,
        gated=row["gated"] == "yes",
    )


def address(source):
    """The URL of a file: of a repository's model.safetensors, unless the source is a URL."""
    if source.startswith("https://"):
        return source
    return f"https://huggingface.co/{source}/resolve/main/model.safetensors"
