"""From a name to a file: the catalog's rows, the hub, or a path; downloaded once, whole."""

import hashlib
import os
import pathlib

import keras

from keras_mixers import arguments, files
from keras_mixers.models.variants import TABLES
from keras_mixers.weights import checkpoint
from keras_mixers.weights.catalog import CHECKPOINTS, Checkpoint
from keras_mixers.weights.hub import HUB

SUFFIXES = {".npz", ".safetensors", ".pth", ".tar", ".keras", ".h5"}
# The images' and patches' size is the user's choice: weights are resized to it.
FREE = {"input_shape", "patch_size", "position_prefix"}
# What shapes do not show, as published models have it where their rows say nothing else.
UNSEEN = {
    "activation": "gelu",
    "epsilon": 1e-6,
    "head_dim": None,
    "score": "scaled_dot",
}


def pretrained(family: str) -> dict[str, Checkpoint]:
    """The published checkpoints of a family: `{name: Checkpoint}`.

    Args:
        family: `"ViT"`, `"MLPMixer"` or `"ConvMixer"`.

    Raises:
        ValueError: there is no such family.

    Example:
        >>> row = pretrained("ViT")["vit_base_patch16_224.augreg_in21k_ft_in1k"]
        >>> row.variant, row.top1, row.preprocessing.crop_fraction
        ('B/16', 84.532, 0.9)
    """
    arguments.choice("family", family, TABLES)
    return {row.name: row for row in CHECKPOINTS if row.family == family}


def find(family, variant, weights, input_shape):
    """The catalog's row for `weights`, by its name or by its tag.

    A tag, such as `"augreg_in21k_ft_in1k"`, stands for the variant's row of that training whose
    image size is the model's, or else the smallest.

    Raises:
        ValueError: there is none; near names are offered.
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
            f" (km.pretrained({family!r}) has all). Received:"
            f" weights={weights!r}{arguments.nearest(weights, known)}"
        )
    same_size = [row for row in tagged if row.preprocessing.size == tuple(input_shape[:2])]
    return min(same_size or tagged, key=lambda row: row.preprocessing.size)


def download(row):
    """The path of a row's file in Keras's cache, fetched if it is not there.

    It comes with a progress bar into a temporary place, and takes its own when it is complete and
    has the published digest. An error or Ctrl-C leaves nothing behind; a process that is killed
    leaves a hidden folder, and never a file that would be taken for whole.

    Raises:
        OSError: it could not be fetched.
        ValueError: it has not the published digest.
    """
    home = pathlib.Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    folder = home / "keras_mixers"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{row.name}{pathlib.PurePosixPath(row.url).suffix}"
    if not path.is_file():
        with files.replacing(path) as temporary:
            fetch(row.url, temporary)
            check_digest(row, temporary)
            # A server that states no length can be cut without an error: the names must be whole.
            checkpoint.read_entries(temporary, checkpoint.container(temporary))
    check_digest(row, path)
    return path


def fetch(url, path):
    """Download by Keras, whose errors do not say what to do instead."""
    try:
        keras.utils.get_file(path.name, url, cache_dir=path.parent, cache_subdir="")
    except Exception as error:
        raise OSError(
            f"{url} could not be fetched ({error}). Download it by other means and give its path"
            " as `weights`"
        ) from error


def check_digest(row, path):
    """Refuse a file that is not the one whose digest was published."""
    if row.sha256 is None:
        return
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(2**20), b""):
            digest.update(chunk)
    if digest.hexdigest() != row.sha256:
        raise ValueError(
            f"'{path}' must have the published sha256 {row.sha256}. Received: {row.url} with"
            f" {digest.hexdigest()}; delete the file to fetch it again"
        )


def locate(weights, family, variant, architecture):
    """The file that a builder's `weights` mean: a path as it is, a name by the catalog.

    Raises:
        ValueError: there is no such name, or the model would not compute what it is for.
        OSError: it could not be fetched.
    """
    if not isinstance(weights, (str, os.PathLike)):
        raise TypeError(
            "`weights` must be None, a name in the catalog, 'hf://owner/name' or a path. Received:"
            f" weights={weights!r}"
        )
    if isinstance(weights, os.PathLike) or weights.startswith(HUB):
        return weights
    is_path = pathlib.Path(weights).suffix in SUFFIXES or os.sep in weights
    if is_path or pathlib.Path(weights).is_file():
        if not pathlib.Path(weights).is_file():
            raise FileNotFoundError(f"`weights` must be a file. Received: weights={weights!r}")
        return weights
    row = find(family, variant, weights, architecture.input_shape)
    check_arguments(row, architecture)
    return download(row)


def given_argument(architecture, name):
    """What a builder was given, by its own name for it."""
    if name == "depth":
        return len(architecture.pattern)
    value = getattr(architecture, "mlp_dim" if name == "channels_mlp_dim" else name)
    if name == "kernel_size" and value[0] == value[1]:
        return value[0]
    return getattr(value, "__name__", value)  # an activation may be a function


def check_arguments(row, architecture):
    """Refuse a model that would not compute what the weights were trained for.

    Its architecture is the row's arguments, else its variant's, else what all of them have. It is
    compared before anything is fetched, and shows what the shapes of weights would not.
    """
    published = {**UNSEEN, **TABLES[row.family][row.variant], **row.arguments}
    for name in sorted(set(published) - FREE):
        given = given_argument(architecture, name)
        if given != published[name]:
            raise ValueError(
                f"`{name}` must be {published[name]!r} for weights={row.name!r}. Received:"
                f" {name}={given!r}"
            )
