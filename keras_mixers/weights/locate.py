"""Find the file of a builder's `weights`: a row of the catalog, the hub or a path."""

import hashlib
import os
import pathlib

from keras_mixers import arguments, files
from keras_mixers.weights import checkpoint
from keras_mixers.weights.catalog import FAMILIES, Checkpoint, checkpoints
from keras_mixers.weights.download import fetch
from keras_mixers.weights.hub import HUB
from keras_mixers.weights.source import Source

SUFFIXES = {".npz", ".safetensors", ".json", ".pth", ".pt", ".bin", ".tar", ".keras", ".h5"}


def pretrained(family: str | None = None) -> dict[str, Checkpoint]:
    """The published checkpoints of a family, or all: `{name: Checkpoint}`.

    Args:
        family: `"ViT"`, `"MLPMixer"` or `"ConvMixer"`; `None` for all.

    Raises:
        ValueError, TypeError: if `family` is not one of these.

    Example:
        >>> row = pretrained()["vit_base_patch16_224.augreg_in21k_ft_in1k"]
        >>> row.variant, row.top1, row.preprocessing.crop_fraction, row.class_names[0]
        ('B/16', 84.532, 0.9, 'tench')
    """
    arguments.choice("family", family, (*FAMILIES, None))
    return {row.name: row for row in checkpoints().values() if family in (row.family, None)}


def find(family, variant, weights, size, fits):
    """The catalog's row for `weights`, which is a name or a tag such as `"augreg_in1k"`.

    A tag names a training. Of the variant's rows with this tag, `find` prefers those whose
    arguments the model has, of these the row with the model's image size, and else the row with the
    smallest size.

    Raises:
        ValueError: if no row fits; the message suggests similar names.
    """
    rows = pretrained(family)
    if weights in rows:
        row = rows[weights]
        if row.variant != variant:
            raise ValueError(
                f"`weights` must be for the variant {variant!r}. Received: weights={weights!r},"
                f" which is for {row.variant!r}"
            )
        return row
    fitting = [row for row in rows.values() if row.variant == variant]
    tagged = [row for row in fitting if row.tag == weights]
    if not tagged:
        known = [name for row in fitting for name in (row.name, row.tag)]
        raise ValueError(
            f"`weights` must be a file, 'hf://owner/name', or one of"
            f" {', '.join(sorted({row.tag for row in fitting})) or '(none)'} for {variant!r}"
            f" (km.pretrained({family!r}) lists all)."
            f" {arguments.received(weights=weights)}{arguments.nearest(weights, known)}"
        )
    sizes = {row.name: row.preprocessing.size for row in tagged}
    return min(tagged, key=lambda row: (not fits(row), sizes[row.name] != size, sizes[row.name]))


def download(row):
    """The path of a row's file in Keras's cache; downloads the file if it is not there.

    The file is moved into the cache when it is complete and has the published digest. An error or
    Ctrl-C leaves nothing. The next download removes what a killed process leaves.

    Raises:
        OSError: if the file cannot be downloaded or written.
        ValueError: if the file does not have the published digest or is damaged.
    """
    home = pathlib.Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    folder = home / "keras_mixers"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{row.name}{pathlib.PurePosixPath(row.url).suffix}"
    if path.is_file():
        check_digest(row, path, digest_of(path) if row.sha256 else None)
        return path
    print_restrictions(row)
    with files.replacing(path) as temporary:
        check_digest(row, path, fetch(row.url, temporary))
        # Read the names, because a server that states no length can cut a file without error.
        with Source(temporary) as source:
            checkpoint.read_entries(source, checkpoint.container(source))
    return path


def print_restrictions(row):
    """Print the licence of a file if it excludes commercial use or must be accepted."""
    restrictions = {
        "excludes commercial use": row.non_commercial,
        "must be accepted on huggingface.co first": row.gated,
    }
    found = [text for text, applies in restrictions.items() if applies]
    if found:
        print(f"The licence {row.license} of {row.name} {' and '.join(found)}")


def digest_of(path):
    """The sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_digest(row, path, digest):
    """Raise ValueError if the row has a digest and the file has another one."""
    if row.sha256 not in (None, digest):
        raise ValueError(
            f"'{path}' must have the published sha256 {row.sha256}. Received: {row.url} with"
            f" {digest}; delete the file to download it again"
        )


def locate(weights, family, variant, size, fits):
    """The source that a builder's `weights` name: a path, or a `Checkpoint` to download.

    Args:
        weights: as in the builder.
        family: that of the model.
        variant: that of the model.
        size: (height, width) of its images.
        fits: `Checkpoint` -> whether the model has its arguments.

    Raises:
        TypeError: if `weights` is neither a string nor a path.
        ValueError: if the catalog does not have the name for this variant.
        FileNotFoundError: if `weights` is a path without a file.
    """
    expected = "None, a name in the catalog, 'hf://owner/name' or a path"
    path = arguments.path("weights", weights, expected)
    if isinstance(weights, os.PathLike) or weights.startswith(HUB):
        return weights
    # Some names end like a file: beit3_base_patch16_224.pt.
    looks_like_path = path.suffix in SUFFIXES or os.sep in weights
    is_path = path.is_file() or (looks_like_path and weights not in checkpoints())
    if is_path and not path.is_file():
        raise FileNotFoundError(f"`weights` must be a file. {arguments.received(weights=weights)}")
    return weights if is_path else find(family, variant, weights, size, fits)
