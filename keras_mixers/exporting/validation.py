"""Validate the arguments of `export` before anything is written."""

import difflib
import math
import os
import re

import keras

from keras_mixers import arguments
from keras_mixers.exporting import onnx, repository, saved_model, tflite, web
from keras_mixers.exporting.formats import BY_NAME, FORMATS, format_of
from keras_mixers.exporting.onnx.int8 import check_has_layers
from keras_mixers.exporting.serving import attention_layers, output_names
from keras_mixers.graph import all_layers, producer
from keras_mixers.models import image_model
from keras_mixers.models.outputs import check_one_logit
from keras_mixers.preprocessing import Preprocessing
from keras_mixers.preprocessing.decode import MAX_PIXELS, MAX_SIDE

# Suffixes of files that `export` does not write, and that do not name a folder.
OTHER_FILES = {".h5", ".json", ".keras", ".npz", ".pb", ".pt", ".pth", ".safetensors", ".zip"}
# The defaults of options, where they are not None.
DEFAULTS = {"target": "onnx", "dtype": "float32", "keep_float": (), "sensitivity": False}
FROM_MODEL = "model"  # the default of `preprocessing` and `class_names`


def check_model(model):
    """Check the model's input and output, and its dtypes."""
    ends = ("inputs", "outputs") if isinstance(model, keras.Model) else ()
    counts = [len(getattr(model, end, None) or ()) for end in ends]
    if counts[:1] != [1] or not counts[1]:
        is_path = isinstance(model, (str, os.PathLike))
        remedy = "; load it with keras.models.load_model" if is_path else ""
        raise ValueError(
            "`model` must be a built functional or Sequential model with one input and one or more"
            f" outputs. {arguments.received(model=model)}{remedy}"
        )
    names = output_names(model)
    reserved = [name for name in names if re.fullmatch(r"images|attention_\d+", name)]
    if len(set(names)) < len(names) or reserved:
        raise ValueError(
            "`model` must have outputs of different names, those of the layers that compute them,"
            " and not 'images' or 'attention_0', which have another meaning in the file."
            f" {arguments.received(names=names)}; add a keras.layers.Identity(name=...) to each"
        )
    if len(model.input_shape) != 4 or None in model.input_shape[1:]:
        raise ValueError(
            "`model` must take images, (batch, H, W, C), of a known size. Received: an input of"
            f" shape {tuple(model.input_shape)}"
        )
    if "float" not in model.inputs[0].dtype:
        raise ValueError(
            "`model` must take images in a float dtype. Received: an input of dtype"
            f" {model.inputs[0].dtype}; with `preprocessing` the file takes uint8"
        )
    for weight in model.weights:
        if "float" in weight.dtype and weight.dtype != "float32":
            raise ValueError(
                "`model` must hold its weights in float32, as with the dtype policy 'float32' or a"
                f" mixed policy. Received: {weight.path!r} in {weight.dtype}; build the model with"
                " dtype='float32' and copy the weights by set_weights(model.get_weights())"
            )
    for layer in all_layers(model):
        if getattr(layer.dtype_policy, "quantization_mode", None):
            raise ValueError(
                "`model` must not be quantized by Keras. Received: layer"
                f" {layer.path!r} with the dtype policy {layer.dtype_policy.name!r};"
                " export(..., quantize='int8') quantizes a model in float32"
            )


def check_path(path, name, version):
    """The path as a `pathlib.Path`, the format that `name` or the path names, and the version."""
    path = arguments.path("path", path)
    arguments.output_path(path if version is None else outermost_new(path))
    arguments.text("path", str(path.absolute()))  # because the runtimes open paths in UTF-8
    file_format = format_of(path, arguments.choice("format", name, (None, *BY_NAME)))
    is_folder = not file_format.SUFFIX
    is_other = is_folder and (format_of(path).SUFFIX or (path.exists() and not path.is_dir()))
    suffixes = [module.SUFFIX for module in FORMATS if module.SUFFIX]
    if not name and is_folder and not path.exists():  # a misspelt suffix, such as .onx
        is_other |= bool(difflib.get_close_matches(path.suffix.lower(), suffixes, cutoff=0.7))
    if path.suffix.lower() in OTHER_FILES or is_other:
        expected = f"end in {' or '.join(map(repr, suffixes))}, or name a folder for a SavedModel"
        if name:
            end = f"end in {file_format.SUFFIX!r}" if file_format.SUFFIX else "name a folder"
            expected = f"{end if version is None else 'name a folder'} for the format {name!r}"
        kind = ", which exists and is not a folder" if path.exists() else ""
        raise ValueError(f"`path` must {expected}. Received: path='{path}'{kind}")
    if not path.name or path.name == "..":
        raise ValueError(f"`path` must name a file or folder. Received: path='{path}'")
    if version is not None:
        version = repository.check(path, file_format, version)
    elif is_folder:
        check_folder(path, file_format)
    else:
        arguments.file_path(path, file_format.SUFFIX)
    return path, file_format, version


def outermost_new(path):
    """The first part of a path that does not exist, or the path: `export` creates what follows."""
    new = [part for part in (path, *path.parents) if not part.exists()]
    return new[-1] if new else path


def check_folder(path, file_format):
    """Raise ValueError if the folder holds anything that `export` did not write in this format."""
    found = file_format.other_content(path) if path.is_dir() else None
    if found:
        raise ValueError(
            "`path` must name a new or empty folder, or one that holds only what `export` wrote for"
            f" the format {file_format.FORMAT!r}, because `export` replaces the folder. Received:"
            f" path='{path}', {found}"
        )


def check_options(target, dtype, quantize, attention_maps, batch, sensitivity):
    """Check the options that do not depend on the model or the format."""
    arguments.choice("target", target, onnx.TARGETS)
    arguments.choice("dtype", dtype, ("float32", "float16"))
    arguments.choice("quantize", quantize, (None, "int8", "float16"))
    arguments.flag("attention_maps", attention_maps)
    if batch is not None:
        arguments.integer("batch", batch)
    arguments.flag("sensitivity", sensitivity)
    if quantize and dtype != "float32":
        raise ValueError(
            "`quantize` must be None if `dtype` is not 'float32'. Received:"
            f" quantize={quantize!r} and dtype={dtype!r}; use one of the two"
        )


def check_keep_float(keep_float):
    """The names of layers as a tuple."""
    expected = "`keep_float` must be a tuple of paths of layers"
    names = arguments.sequence("keep_float", keep_float, arguments.MOST_BLOCKS, expected)
    return tuple(arguments.text("keep_float", name) for name in names)


def meant(model, holds_preprocessing, **facts):
    """The values of `preprocessing` and `class_names`, where `"model"` means the model's.

    A file that cannot hold preprocessing gets None, because the user did not ask for it.
    """
    for name, value in facts.items():
        if isinstance(value, str) and value == FROM_MODEL:
            is_refused = name == "preprocessing" and not holds_preprocessing
            value = None if is_refused else image_model.fact_of(model, name)
        yield value


def check_picture_size(size, file_format, given, preprocessing, quantize):
    """The (height, width) of the pictures that a TensorFlow Lite file prepares, or None.

    `given` is the user's argument `preprocessing`, and `preprocessing` what it means in the file.
    """
    is_inside = preprocessing is not None
    if size is None:
        if file_format is tflite and is_inside:
            raise ValueError(
                "`picture_size` must be (height, width) for the format 'tflite' with"
                " `preprocessing`, because its interpreter lacks the arithmetic in float64 that"
                " finds the weights for another size. Received: picture_size=None;"
                " preprocessing='outside' writes the model's as functions in Python and JavaScript"
                " next to the file"
            )
        return None
    if file_format is not tflite or not is_inside:
        is_lacking = file_format is tflite and isinstance(given, str) and given == FROM_MODEL
        remedy = ", which the model lacks; set model.preprocessing" if is_lacking else ""
        raise ValueError(
            "`picture_size` must be None, except for the format 'tflite' with `preprocessing`,"
            " because other files take any size, or prepared images."
            f" {arguments.received(picture_size=size)} for the format {file_format.FORMAT!r} with"
            f" preprocessing={arguments.shown(given)}{remedy}"
        )
    if quantize == "int8":
        raise ValueError(
            "`quantize` must not be 'int8' with `picture_size`, because the format also quantizes"
            " the weights of the resize. Received: quantize='int8'; quantize='float16' keeps them"
            " exact"
        )
    size = arguments.pair("picture_size", size)
    if math.prod(size) > MAX_PIXELS or max(size) > MAX_SIDE:
        raise ValueError(
            f"`picture_size` must have at most {MAX_PIXELS} pixels, and at most {MAX_SIDE} on one"
            f" side. {arguments.received(picture_size=size)}"
        )
    return size


def check_format(file_format, **options):
    """Raise ValueError if the format does not support one of the options."""
    for refused, instead in file_format.REFUSES.items():
        name, *others = refused if isinstance(refused, tuple) else (refused,)
        if all(options[option] != DEFAULTS.get(option) for option in (name, *others)):
            together = "".join(f" with `{other}`" for other in others)
            raise ValueError(
                f"`{name}` must be {DEFAULTS.get(name)!r} for the format {file_format.FORMAT!r}"
                f"{together}. Received: {name}={options[name]!r}; {instead}"
            )


def check_has_effect(model, attention_maps, quantize, calibration_data, keep_float, sensitivity):
    """Raise ValueError if an option, or a name in `keep_float`, would have no effect."""
    if (keep_float or sensitivity) and quantize != "int8":
        raise ValueError(
            "`keep_float` and `sensitivity` must be () and False without quantize='int8'. Received:"
            f" {keep_float=}, {sensitivity=}, {quantize=}"
        )
    check_has_layers(model, keep_float)
    if calibration_data is not None and not quantize:
        raise ValueError(
            "`calibration_data` must be None without `quantize`. Received: calibration_data with"
            " quantize=None"
        )
    if attention_maps and not attention_layers(model):
        raise ValueError(
            "`attention_maps` must be False for a model without MultiHeadSelfAttention. Received:"
            f" attention_maps=True for the model {model.name!r}"
        )


def check_class_names(class_names, model):
    """The names of the outputs as a list, or None."""
    if class_names is None:
        return None
    classes = model.outputs[0].shape[-1]
    return list(image_model.check_class_names(model, class_names)[-classes:])


def check_top(top, file_format, model, names, preprocessing):
    """The number of classes that `serve_encoded` names, at most those of the model, or None."""
    if top is None:
        return None
    top = arguments.integer("top", top)
    if not (file_format is saved_model and names and saved_model.takes_files(model, preprocessing)):
        raise ValueError(
            "`top` must be None, except for a SavedModel with `class_names` and `preprocessing`"
            f" that takes image files. {arguments.received(top=top)} for the format"
            f" {file_format.FORMAT!r} with class_names={arguments.shown(names)} and"
            f" preprocessing={preprocessing}"
        )
    for name in names:
        arguments.text("class_names", name)  # because TensorFlow's strings are in UTF-8
    return min(top, len(names))


def check_runtime(runtime, file_format, model, preprocessing):
    """The folder or address of onnxruntime-web for the format `"web"`; None for other formats."""
    if file_format is web:
        return web.check(model, preprocessing, runtime)
    if runtime is not None:
        raise ValueError(
            f"`runtime` must be None for the format {file_format.FORMAT!r}."
            f" {arguments.received(runtime=runtime)}; format='web' supports it"
        )
    return None


def check_preprocessing(preprocessing, model):
    """Check that preprocessing makes the images that the model takes, and the model logits."""
    if preprocessing is None:
        return
    if not isinstance(preprocessing, Preprocessing):
        raise TypeError(
            "`preprocessing` must be a keras_mixers.Preprocessing, 'model' to put the model's into"
            " the file, 'outside' to write it next to the file, or None."
            f" {arguments.received(preprocessing=preprocessing)}"
        )
    image_model.check_makes_input(model, preprocessing)
    if len(model.outputs) == 1:
        check_returns_logits(model)


def check_returns_logits(model):
    """Check that the one output of a model is logits, of which the file makes probabilities."""
    last = producer(model.outputs[0])
    activation = getattr(last, "activation", None)
    if activation not in (None, keras.activations.linear):
        name = getattr(activation, "__name__", activation)
    elif type(last).__name__ in ("LogSoftmax", "Sigmoid", "Softmax"):
        name = type(last).__name__
    else:
        name = None
    if name:
        raise ValueError(
            "`model` must end in logits, because with `preprocessing` the file also returns"
            f" probabilities. Received: a model whose last layer, {last.name!r}, applies {name};"
            " preprocessing=None exports it without"
        )
    check_one_logit(model, "; preprocessing=None exports it without probabilities")
