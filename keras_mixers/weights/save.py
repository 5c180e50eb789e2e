"""Save a model's weights under the names that timm or Google's Flax code loads."""

import json
import os
import pathlib

import keras

from keras_mixers import arguments, files
from keras_mixers.graph import lora_matrices
from keras_mixers.weights import npz, safetensors
from keras_mixers.weights.formats import google, timm
from keras_mixers.weights.roles import index_weights

FORMATS = {"timm": (timm.FORMATS, ".safetensors"), "google": (google.FORMATS, ".npz")}


def save_weights(
    model: keras.Model, path: str | os.PathLike[str], *, format: str = "timm"
) -> pathlib.Path:
    """Write a model's weights to a file that timm or Flax can load; inverse of `load_weights`.

    A file that exists is replaced only when the new file is complete. The kernel of a layer with
    LoRA matrices (Keras's `enable_lora`) is written with its update, `kernel + alpha / rank * A B`,
    and the matrices are not written.

    Args:
        model: any functional model with layers of keras_mixers.
        path: the file to write, in a folder that exists.
        format: `"timm"` for a `.safetensors` file, or `"google"` for an `.npz` file. Google's code
            has two spellings. If the model's class token has a position, the file has the spelling
            of vision_transformer, else the spelling of big_vision.

    Returns:
        The path.

    Raises:
        ValueError: if `format` is unknown; if `path` does not have the format's suffix or its
            folder does not exist; if the format has no name for a weight of the model.
        TypeError: if `model` is not a Keras model or `path` is not a path.

    Example:
        >>> import tempfile
        >>> from keras_mixers import MLPMixer
        >>> model = MLPMixer("S/16", input_shape=(32, 32, 3), depth=1, num_classes=10)
        >>> save_weights(model, tempfile.mkdtemp() + "/mixer.npz", format="google").suffix
        '.npz'
    """
    forms, suffix = FORMATS[arguments.choice("format", format, FORMATS)]
    path = arguments.file_path(path, suffix, f" for format={format!r}")
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
            write_google(arrays, temporary, backbone)
    return path


def named_arrays(backbone, form):
    """`{key of the format's rules: array}` for all weights of a model.

    Raises:
        ValueError: if the format has no name for a weight.
    """
    nameless = [variable.path for variable in backbone.unmatched]
    own_rules, arrays = form.own_rules(backbone), {}
    for weight in backbone.roles.values():
        rules = form.for_role(weight.role, own_rules)
        if not rules:
            nameless.append(weight.variable.path)
            continue
        array = value(weight.variable, backbone)
        arrays |= zip(rules[0].keys, rules[0].transform.to_file(array, weight), strict=True)
    if nameless:
        raise ValueError(
            f"`format` must have a name for each weight. Received: {form.name}, which has none for"
            f" {', '.join(nameless[:3])}{', ...' if len(nameless) > 3 else ''}; model.save() keeps"
            " any model"
        )
    return arrays


def value(variable, backbone):
    """The array of a weight; a kernel with LoRA matrices is `kernel + alpha / rank * A B`.

    The sum has the kernel's precision. Keras computes it in the precision of the layer.
    """
    array = keras.ops.convert_to_numpy(variable.value)
    layer = backbone.lora.get(id(variable))
    if layer is None:
        return array
    a, b = (
        keras.ops.convert_to_numpy(matrix.value).astype("float64")
        for matrix in lora_matrices(layer)
    )
    update = layer.lora_alpha / layer.lora_rank * (a @ b)
    return (array.astype("float64") + update).astype(array.dtype)


def write_timm(arrays, path, grid):
    """Write a safetensors file.

    The metadata hold the grid of patches, because its sides do not follow from the number of
    positions.
    """
    metadata = {"format": "pt", safetensors.GRID: json.dumps(grid)}
    safetensors.write(path, timm.as_saved(arrays), metadata)


def write_google(arrays, path, backbone):
    """Write an npz file with the spelling of vision_transformer or of big_vision.

    Raises:
        ValueError: if the model computes what Google's code does not have.
    """
    for weight in backbone.roles.values():
        if getattr(weight.layer, "rotary", None) or getattr(weight.layer, "gated", False):
            raise ValueError(
                "`format`='google' must have the model's blocks. Received: layer"
                f" {weight.layer.name!r} with rotary positions or a gated MLP, which Google's code"
                " does not have; format='timm' and model.save() keep them"
            )
    positions = backbone.positions
    old = positions is not None and positions.num_prefix > 0
    named = {google.released_name(key, old): array for key, array in arrays.items()}
    npz.write(path, named, backbone.grid)
