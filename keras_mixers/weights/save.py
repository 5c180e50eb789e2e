"""Weights out of a model, under the names that timm or Flax load."""

import json
import os
import pathlib

import keras
import numpy as np

from keras_mixers import arguments, files
from keras_mixers.weights.checkpoint import GRID
from keras_mixers.weights.formats import google, timm
from keras_mixers.weights.roles import index_weights

FORMATS = {"timm": (timm.FORMATS, ".safetensors"), "google": (google.FORMATS, ".npz")}


def save_weights(
    model: keras.Model, path: str | os.PathLike, *, format: str = "timm"
) -> pathlib.Path:
    """Write a model's weights as timm or Flax would: `load_weights` the other way round.

    Args:
        model: any functional model with our layers.
        path: where to; its folder must exist. It takes its place when it is complete.
        format: `"timm"` for a `.safetensors` file, or `"google"` for an `.npz` as
            vision_transformer reads it (class token with a position) or else big_vision.

    Returns:
        The path.

    Raises:
        ValueError: `path` does not end as the format's files do, or the format has no name for a
            weight of the model.

    Example:
        >>> import tempfile
        >>> from keras_mixers import MLPMixer
        >>> model = MLPMixer("S/16", input_shape=(32, 32, 3), depth=1, num_classes=10)
        >>> save_weights(model, tempfile.mkdtemp() + "/mixer.npz", format="google").suffix
        '.npz'
    """
    forms, suffix = FORMATS[arguments.choice("format", format, FORMATS)]
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"`path` must be a string or a path. Received: path={path!r}")
    path = pathlib.Path(path)
    if path.suffix != suffix:
        raise ValueError(
            f"`path` must end in '{suffix}' for format={format!r}. Received: path='{path}'"
        )
    if not path.parent.is_dir():
        raise ValueError(f"`path` must lie in a folder that exists. Received: path='{path}'")
    backbone = index_weights(model)
    form = next((form for form in forms if set(backbone.mixers) <= form.mixers), None)
    if form is None:
        raise ValueError(
            f"`format`={format!r} must have names for the model's blocks. Received blocks:"
            f" {', '.join(sorted(set(backbone.mixers)))}; model.save() keeps any model"
        )
    arrays = named_arrays(backbone, form)
    with files.replacing(path) as temporary:
        if format == "timm":
            write_timm(arrays, temporary, backbone.grid)
        else:
            write_google(arrays, temporary, backbone.positions)
    return path


def named_arrays(backbone, form):
    """`{their name: array}` of all weights; one that has no name there is refused."""
    nameless = [weight.path for weight in backbone.unmatched]
    arrays = {}
    for weight in backbone.roles.values():
        named = form.for_role(weight.role)
        if named is None:
            nameless.append(weight.variable.path)
            continue
        keys, transform = named
        array = keras.ops.convert_to_numpy(weight.variable.value)
        arrays |= zip(keys, transform.to_file(array, weight), strict=True)
    if nameless:
        raise ValueError(
            f"`format` must have a name for each weight. Received: {form.name}, which has none for"
            f" {', '.join(nameless[:3])}{', ...' if len(nameless) > 3 else ''}; model.save() keeps"
            " any model"
        )
    return arrays


def write_timm(arrays, path, grid):
    """A safetensors file that torch loads strictly: BatchNorms have their counters too."""
    from safetensors.numpy import save_file

    for key in [key for key in arrays if key.endswith("running_mean")]:
        arrays[key.replace("running_mean", "num_batches_tracked")] = np.zeros((), "int64")
    contiguous = {key: np.asarray(array, order="C") for key, array in arrays.items()}
    save_file(contiguous, path, metadata={"format": "pt", GRID: json.dumps(grid)})


def write_google(arrays, path, positions):
    """An npz archive in the spelling of the code that will read it."""
    old = positions is not None and positions.num_prefix > 0
    np.savez(path, **{google.released_name(key, old): a for key, a in arrays.items()})
