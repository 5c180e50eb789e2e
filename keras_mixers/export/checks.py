"""What `export` is given, judged before anything is written."""

import os
import pathlib

import keras

from keras_mixers import arguments
from keras_mixers.export import onnx, saved_model, tflite
from keras_mixers.preprocessing import Preprocessing

# Endings that promise a file of another kind.
OTHER_FILES = {".keras", ".h5", ".pb", ".pt", ".safetensors"}
FILES = {".onnx", ".tflite"}


def check_model(model):
    """Refuse what is no functional model with one input of known size and one output."""
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "Export goes through TensorFlow. Received: the Keras backend"
            f" {keras.backend.backend()!r}; save the model with model.save('model.keras') and"
            " export it in a process started with KERAS_BACKEND=tensorflow"
        )
    ends = [getattr(model, side, None) or () for side in ("inputs", "outputs")]
    if not isinstance(model, keras.Model) or [len(end) for end in ends] != [1, 1]:
        raise ValueError(
            "`model` must be a built functional or sequential model with one input and one output."
            f" Received: model={model!r}"
        )
    if len(model.input_shape) != 4 or None in model.input_shape[1:]:
        raise ValueError(
            "`model` must take images, (batch, H, W, C), of a known size. Received an input of"
            f" shape {tuple(model.input_shape)}"
        )
    narrow = [weight.path for weight in model.weights if weight.dtype in ("float16", "bfloat16")]
    if narrow:
        raise ValueError(
            "`model` must hold its weights in float32, as under 'float32' and the mixed policies."
            f" Received: {narrow[0]!r} in {model.weights[0].dtype}; build the model with"
            " dtype='float32' and give it the weights by set_weights(model.get_weights())"
        )


def check_path(path):
    """A `pathlib.Path` that an export may take, in a folder that exists."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"`path` must be a string or a path. Received: path={path!r}")
    path = pathlib.Path(path)
    suffix = path.suffix.lower()
    expected = "`path` must end in '.onnx' or '.tflite', or name a folder for a SavedModel"
    if suffix in OTHER_FILES:
        raise ValueError(f"{expected}. Received: path='{path}'")
    if not path.parent.is_dir():
        raise ValueError(f"`path` must lie in a folder that exists. Received: path='{path}'")
    if suffix in FILES and path.is_dir():
        raise ValueError(f"`path` is a folder, not a file. Received: path='{path}'")
    if suffix not in FILES and path.is_file():
        raise ValueError(f"{expected}. Received: path='{path}', a file")
    if path.is_dir() and any(path.iterdir()) and not (path / saved_model.PROTO).is_file():
        raise ValueError(
            "`path` is a folder that holds something other than a SavedModel, which export would"
            f" replace. Received: path='{path}'"
        )
    return path


def check_options(format, preprocessing, target, dtype, quantize, attention_maps):
    """Refuse options that are not what they must be, or that their format does not have."""
    arguments.choice("target", target, onnx.TARGETS)
    arguments.choice("dtype", dtype, ("float32", "float16"))
    arguments.choice("quantize", quantize, (None, "int8", "float16"))
    arguments.flag("attention_maps", attention_maps)
    if target != "onnx" and format != onnx.FORMAT:
        raise ValueError(
            f"`target` is for ONNX, a path that ends in '.onnx'. Received: target={target!r} for a"
            f" {format}"
        )
    if preprocessing is not None and format == tflite.FORMAT:
        raise ValueError(
            "`preprocessing` must be None for TensorFlow Lite, which lacks its exact arithmetic in"
            " float64. Received: a Preprocessing; preprocess the images before they get to the file"
        )
    if quantize and format == saved_model.FORMAT:
        raise ValueError(
            "`quantize` is for ONNX and TensorFlow Lite. Received: quantize="
            f"{quantize!r} for a {format}; dtype='float16' computes it in half precision"
        )
    if quantize and dtype != "float32":
        raise ValueError(
            "`quantize` takes a model in float32. Received:"
            f" quantize={quantize!r} and dtype={dtype!r}; one of the two will do"
        )
    if dtype != "float32" and format == tflite.FORMAT:
        raise ValueError(
            "`dtype` must be 'float32' for TensorFlow Lite. Received:"
            f" dtype={dtype!r}; quantize='float16' stores its weights in half precision"
        )


def check_preprocessing(preprocessing, model):
    """Refuse what does not make the images that the model takes, or a model of no classes."""
    if preprocessing is None:
        return
    if not isinstance(preprocessing, Preprocessing):
        raise TypeError(
            "`preprocessing` must be a keras_mixers.Preprocessing. Received:"
            f" preprocessing={preprocessing!r}"
        )
    *size, channels = model.input_shape[1:]
    if list(preprocessing.size) != size:
        raise ValueError(
            "`preprocessing` must make images of the model's size. Received:"
            f" size={preprocessing.size} for a model that takes {tuple(size)}"
        )
    preprocessing.check_channels(channels)
    last = model
    while isinstance(last, keras.Model):
        last = last.outputs[0]._keras_history.operation
    softmax = getattr(last, "activation", None) is keras.activations.softmax
    if softmax or isinstance(last, keras.layers.Softmax):
        raise ValueError(
            "`model` must end in logits, of which the file makes probabilities. Received: a model"
            f" whose last layer, {last.name!r}, applies softmax; build it without"
        )


def check_class_names(names, model):
    """The names as a list, one for each logit, or None."""
    if names is None:
        return None
    classes = model.output_shape[-1]
    names = list(names) if not isinstance(names, str) else [names]
    if len(names) != classes or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"`class_names` must be {classes} strings, one for each logit. Received:"
            f" {len(names)}: {names[:3]!r}{' ...' if len(names) > 3 else ''}"
        )
    return names
