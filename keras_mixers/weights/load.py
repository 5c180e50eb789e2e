"""Weights from a file into a model: all of them, or none."""

import os

import keras
import numpy as np

from keras_mixers import arguments
from keras_mixers.weights import checkpoint, keras_files, resize
from keras_mixers.weights.hub import local_file
from keras_mixers.weights.plan import make_plan
from keras_mixers.weights.report import LoadReport
from keras_mixers.weights.roles import index_weights

HEADS = ("auto", "keep", "skip")


def load_weights(
    model: keras.Model,
    source: str | os.PathLike,
    *,
    head: str = "auto",
    adapt: bool = False,
    position_method: str | None = None,
) -> LoadReport:
    """Fill a model with the weights of a published checkpoint, or of one of ours.

    The format is recognised by the file's content: Google's `.npz` (ViT, MLP-Mixer), the names of
    timm, Hugging Face and ConvMixer's authors in `.safetensors` or (where torch is installed, and
    never as a plain pickle) `.pth`, and Keras's `.keras` and `.weights.h5`. The model may be any
    functional one with our layers: built by us, assembled by hand, inside another, read back.
    Every key is used once and every weight set once, or the report says which are not and why.
    What a file does not say, such as the number of heads, the activation and epsilons, is yours to
    build as the original has it. Where anything does not fit, an error names it and the model stays
    as it was.

    Args:
        model: whose weights to set.
        source: the file, or `hf://owner/name` for a model.safetensors on the Hugging Face hub.
        head: `"auto"` fills the head where it fits and else leaves it; `"keep"` insists that it
            fits; `"skip"` leaves it.
        adapt: whether to resize what does not fit: positions for another image size, the patch
            kernel for another patch size (by FlexiViT's pseudo-inverse, arXiv 2212.08013) or
            number of channels, a Mixer's token kernels for another grid (an approximation); and
            to leave out a class token that the model does not have. The grid of a file that does
            not say it is then taken to be square, and otherwise to be the model's.
        position_method: how to resize positions: `"bilinear_corners"` (Google), `"bilinear"`,
            `"bicubic"` (Hugging Face), `"bicubic_antialias"` (timm); `None` for the way of the
            file's origin.

    Returns:
        A `LoadReport`; print it.

    Raises:
        ValueError: the file is damaged, of no known format, or does not fit; its keys and both
            shapes are named. Or the model is not functional, or no backbone of our layers.
        TypeError: `model` is no model, or `source` no path.
        FileNotFoundError: there is no such file.
        ImportError: the file is a `.pth` and torch is not installed.

    Example:
        >>> import tempfile
        >>> from keras_mixers import ViT, save_weights
        >>> size = {"input_shape": (32, 32, 3), "depth": 1, "hidden_dim": 48, "num_heads": 3}
        >>> path = tempfile.mkdtemp() + "/vit.safetensors"
        >>> _ = save_weights(ViT("Ti/16", num_classes=10, **size), path, format="timm")
        >>> report = load_weights(ViT("Ti/16", num_classes=5, **size), path)
        >>> report.skipped["head.weight"]
        "'head.weight' has 10 classes, the model has 5"
    """
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"`source` must be a string or a path. Received: source={source!r}")
    arguments.choice("head", head, HEADS)
    arguments.flag("adapt", adapt)
    arguments.choice("position_method", position_method, (*resize.POSITION_METHODS, None))
    backbone = index_weights(model)
    source = local_file(source)
    kind = checkpoint.container(source)
    if kind in ("keras", "h5"):
        if head != "auto" or adapt:
            raise ValueError(
                "`head` and `adapt` must stay at their defaults for Keras's own files, which fit"
                f" as a whole or not at all. Received: head={head!r}, adapt={adapt}"
            )
        return keras_files.load(model, source, kind)

    entries = checkpoint.read_entries(source, kind)
    file_grid = checkpoint.stored_grid(source, kind)
    plan = make_plan(entries, backbone, source, head, adapt, position_method, file_grid)
    # All are read, checked and held before the first is set. Each is dropped once it is set.
    values = [read(assignment) for assignment in plan.assignments]
    loaded = len(values)
    for assignment in reversed(plan.assignments):
        assignment.weight.variable.assign(values.pop())
    return LoadReport(plan.format, loaded, plan.adapted, plan.skipped, plan.untouched)


def read(assignment):
    """The array that a weight of the model will be, checked."""
    variable, arrays = assignment.weight.variable, []
    work = "float64" if variable.dtype == "float64" else "float32"
    for entry in assignment.entries:
        if entry.dtype not in checkpoint.FLOATS:
            raise ValueError(
                f"{entry.key!r} must be of floats ({', '.join(checkpoint.FLOATS)}) for"
                f" {variable.path}. Received: dtype {entry.dtype}, shape {entry.shape}"
            )
        arrays.append(np.asarray(entry.read(), work))
    array = assignment.transform.to_model(arrays, assignment.weight)
    if assignment.change:
        array = assignment.change.apply(array)
    with np.errstate(over="ignore"):  # told below, with a name
        array = np.ascontiguousarray(array, keras.backend.standardize_dtype(variable.dtype))
    finite = np.isfinite(array)
    if not finite.all():
        raise ValueError(
            f"{assignment.entries[0].key!r} must be finite as {variable.dtype} for {variable.path}."
            f" Received: {np.count_nonzero(~finite)} numbers that are not, of shape"
            f" {assignment.entries[0].shape}"
        )
    return array
