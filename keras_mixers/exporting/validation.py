"""What `export` is given, judged before anything is written."""

import keras

from keras_mixers import arguments
from keras_mixers.exporting import onnx
from keras_mixers.exporting.formats import FORMATS, format_of
from keras_mixers.exporting.serving import attentions
from keras_mixers.graph import all_layers, producer
from keras_mixers.preprocessing import Preprocessing

# Endings that promise a file of another kind.
OTHER_FILES = {".h5", ".json", ".keras", ".npz", ".pb", ".pt", ".pth", ".safetensors", ".zip"}
# Options whose default is not None.
DEFAULTS = {"target": "onnx", "dtype": "float32"}


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
    if "float" not in model.inputs[0].dtype:
        raise ValueError(
            "`model` must take images of floats. Received an input of dtype"
            f" {model.inputs[0].dtype}; `preprocessing` takes bytes"
        )
    for weight in model.weights:
        if "float" in weight.dtype and weight.dtype != "float32":
            raise ValueError(
                "`model` must hold its weights in float32, as under 'float32' and the mixed"
                f" policies. Received: {weight.path!r} in {weight.dtype}; build the model with"
                " dtype='float32' and give it the weights by set_weights(model.get_weights())"
            )
    for layer in all_layers(model):
        if getattr(layer.dtype_policy, "quantization_mode", None):
            raise ValueError(
                "`model` must not be quantized by Keras. Received: layer"
                f" {layer.path!r} under {layer.dtype_policy.name!r}; export(..., quantize='int8')"
                " does it for a model in floats"
            )


def check_path(path):
    """The path as a `pathlib.Path`, and the format that it names."""
    path = arguments.output_path(path)
    file_format = format_of(path)
    is_folder = not file_format.SUFFIX
    if path.suffix.lower() in OTHER_FILES or (is_folder and path.is_file()):
        suffixes = " or ".join(repr(module.SUFFIX) for module in FORMATS if module.SUFFIX)
        raise ValueError(
            f"`path` must end in {suffixes}, or name a folder for a SavedModel."
            f" Received: path='{path}'{', a file' if path.is_file() else ''}"
        )
    if not path.name or path.name == "..":
        raise ValueError(f"`path` must name a file or folder. Received: path='{path}'")
    if is_folder:
        check_folder(path, file_format.PARTS)
    else:
        arguments.file_path(path, file_format.SUFFIX)
    return path, file_format


def check_folder(path, parts):
    """Raise ValueError if the folder holds anything besides `parts`: export would delete it."""
    others = {file.name for file in path.iterdir()} - parts if path.is_dir() else set()
    if others:
        raise ValueError(
            "`path` is a folder that holds something other than a SavedModel, which export would"
            f" replace. Received: path='{path}', with {sorted(others)[0]!r} in it"
        )


def check_options(target, dtype, quantize, attention_maps):
    """Refuse options that are not what they must be."""
    arguments.choice("target", target, onnx.TARGETS)
    arguments.choice("dtype", dtype, ("float32", "float16"))
    arguments.choice("quantize", quantize, (None, "int8", "float16"))
    arguments.flag("attention_maps", attention_maps)
    if quantize and dtype != "float32":
        raise ValueError(
            "`quantize` takes a model in float32. Received:"
            f" quantize={quantize!r} and dtype={dtype!r}; one of the two will do"
        )


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


def check_purpose(model, attention_maps, quantize, calibration_data):
    """Refuse what would change nothing."""
    if calibration_data is not None and not quantize:
        raise ValueError(
            "`calibration_data` is for `quantize`. Received: calibration_data with quantize=None"
        )
    if attention_maps and not attentions(model):
        raise ValueError(
            "`attention_maps` needs a MultiHeadSelfAttention in the model. Received:"
            f" model={model.name!r}, which has none"
        )


def check_preprocessing(preprocessing, model):
    """Refuse what does not make the images that the model takes, and a model of no logits."""
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
    last = producer(model.outputs[0])
    activation = getattr(last, "activation", None)
    if activation not in (None, keras.activations.linear):
        name = getattr(activation, "__name__", activation)
    elif type(last).__name__ in ("LogSoftmax", "Sigmoid", "Softmax"):
        name = type(last).__name__
    else:
        name = None
    if name or model.output_shape[-1] == 1:
        raise ValueError(
            "`model` must end in logits of two classes or more, of which `preprocessing` makes"
            f" probabilities. Received: a model whose last layer, {last.name!r},"
            f" {f'applies {name}' if name else 'has one output'}"
        )
