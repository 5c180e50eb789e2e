"""Write a model for deployment, prove the file gives the model's answers, then put it in place."""

import dataclasses
import os
import pathlib

import keras

from keras_mixers import files
from keras_mixers.export import onnx, saved_model, verify

# Endings that promise a file of another kind.
OTHER_FILES = {".tflite", ".keras", ".h5", ".pb", ".pt", ".safetensors"}


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What was exported, and how far its answers are from the model's; `str()` reads as a line.

    Attributes:
        path: of the file or folder.
        format: `"onnx"` or `"saved_model"`.
        size: in bytes.
        largest_difference: from the model's answers, absolute, on random images at batch 1 and 3.
    """

    path: pathlib.Path
    format: str
    size: int
    largest_difference: float

    def __str__(self):
        return (
            f"{self.path}: {self.format}, {self.size / 1e6:.1f} MB, within"
            f" {self.largest_difference:.1e} of the model"
        )


def export(model: keras.Model, path: str | os.PathLike) -> ExportReport:
    """Export a model for inference: ONNX for a path ending in `.onnx`, else a SavedModel folder.

    The file takes `images`, float32 `(batch, H, W, C)` with any batch, and gives `logits`. It is
    written to a temporary place, loaded by its own runtime (onnxruntime, or TensorFlow), and its
    answers compared with the model's, to 1e-4 (of the largest, where that is above 1); only then
    does it replace what was at `path`.

    Args:
        model: a built functional model with one input and one output, of float32 layers.
        path: where to; its folder must exist.

    Returns:
        An `ExportReport`.

    Raises:
        ValueError: `model` or `path` will not do.
        RuntimeError: Keras runs on another backend than TensorFlow, or the exported file does not
            give the model's answers; what was at `path` stays.

    Example:
        >>> import tempfile
        >>> from keras_mixers import ViT
        >>> model = ViT("Ti/16", input_shape=(32, 32, 3), depth=1, num_classes=10)
        >>> report = export(model, tempfile.mkdtemp() + "/vit.onnx")
        >>> report.format
        'onnx'
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"`path` must be a string or a path. Received: path={path!r}")
    path = pathlib.Path(path)
    check_model(model)
    check_path(path)
    target = onnx if path.suffix.lower() == ".onnx" else saved_model
    with files.replacing(path) as temporary:
        target.save(model, temporary)
        difference = verify.largest_difference(model, lambda images: target.run(temporary, images))
    return ExportReport(path, target.FORMAT, files.size(path), difference)


def check_model(model):
    """Refuse what cannot be exported, before anything is written."""
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
    if None in model.input_shape[1:]:
        raise ValueError(
            "`model` must have a fixed image size. Received an input of shape"
            f" {tuple(model.input_shape)}"
        )
    narrow = [layer.name for layer in all_layers(model) if layer.compute_dtype != "float32"]
    if narrow:
        raise ValueError(
            "`model` must compute in float32. Received layers that do not:"
            f" {', '.join(narrow[:3])}{', ...' if len(narrow) > 3 else ''}; build it with"
            " dtype='float32' and give it the weights by set_weights(model.get_weights())"
        )


def all_layers(model):
    """The layers of a model and of the models inside it."""
    for layer in model.layers:
        yield from all_layers(layer) if isinstance(layer, keras.Model) else [layer]


def check_path(path):
    """Refuse a place that is not there, or that holds something else than an export."""
    if path.suffix.lower() in OTHER_FILES:
        raise ValueError(
            "`path` must end in '.onnx', or name a folder for a SavedModel. Received:"
            f" path='{path}'"
        )
    if not path.parent.is_dir():
        raise ValueError(f"`path` must lie in a folder that exists. Received: path='{path}'")
    if path.suffix.lower() == ".onnx" and path.is_dir():
        raise ValueError(f"`path` is a folder, not a file. Received: path='{path}'")
    if path.suffix.lower() != ".onnx" and path.is_dir() and any(path.iterdir()):
        if not (path / saved_model.PROTO).is_file():
            raise ValueError(
                "`path` is a folder that holds something other than a SavedModel, which export"
                f" would replace. Received: path='{path}'"
            )
    elif path.suffix.lower() != ".onnx" and path.is_file():
        raise ValueError(
            "`path` must end in '.onnx', or name a folder for a SavedModel. Received:"
            f" path='{path}', a file"
        )
