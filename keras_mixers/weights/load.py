"""Load the weights of a file into a model: all of them or none."""

import os

import keras
import numpy as np

from keras_mixers import arguments
from keras_mixers.arguments import shown
from keras_mixers.graph import all_layers
from keras_mixers.weights import checkpoint, keras_files, keras_names, resize
from keras_mixers.weights.entries import FLOATS
from keras_mixers.weights.hub import local_file
from keras_mixers.weights.plan import make_plan
from keras_mixers.weights.report import LoadReport
from keras_mixers.weights.roles import index_weights
from keras_mixers.weights.source import Source

HEAD_CHOICES = ("auto", "keep", "skip")


def load_weights(
    model: keras.Model,
    source: str | os.PathLike[str],
    *,
    head: str = "auto",
    adapt: bool = False,
    position_method: str | None = None,
) -> LoadReport:
    """Fill a model with the weights of a published checkpoint or of a file of `save_weights`.

    The content of the file decides its format:

    - `.npz`: the names of Google's ViT and MLP-Mixer.
    - `.safetensors`: the names of timm; of Hugging Face's ViT (also MAE and I-JEPA), DeiT, DINOv2,
      DINOv3, CLIP and SigLIP; of OpenAI's CLIP, OpenCLIP and Perception Encoder; of the authors of
      DINOv2, DINOv3, EVA, MAE and ConvMixer. The index of a file in several parts,
      `.safetensors.index.json`, is read with the files that it names in its folder.
    - `.pth`: the same names. This needs torch, which reads the file as weights only. Objects next
      to the weights, such as the training's arguments, are not loaded, and a file that asks for
      code is refused.
    - `.keras` and `.weights.h5`: Keras's own files of models with layers of keras_mixers. They are
      read as data, and nothing in them is run. They also hold the weights of the user's layers and
      the optimizer's state, which are loaded where the model has them in the same shape.

    The model may be any functional model with layers of keras_mixers: from a builder, assembled
    by hand, nested in another model or loaded from a file. Each key is used once and each weight
    is set once; the report lists the exceptions with their reasons. If anything does not fit, the
    error names it, and the model is unchanged.

    The keys of a file, or the dictionaries in it, may have prefixes that wrappers of the model
    gave them, such as `module.`, `_orig_mod.`, `backbone.`, `visual.trunk.` or `state_dict.`. Of
    several models in a file, averaged weights come first (`state_dict_ema`, `model_ema`,
    `teacher`), and an image tower before a text tower. The report names the part that was used and
    the keys outside of it.

    A layer with LoRA matrices (Keras's `enable_lora`) gets only its kernel from the file. The
    matrices stay as they are, and the report lists them: matrices that are trained still add their
    update to the new kernel.

    A bias that the original computes without is zero: the projection of CLIP has none, and in some
    models queries, keys and values, or only keys, have none. The report lists these biases. If the
    model lacks such a bias, the file's must be zero. Any other missing weight is an error.

    A file does not state the number of heads, the activation or the epsilons. Build the model with
    the values of the original model.

    Args:
        model: the model to fill.
        source: the path of a file, or `hf://owner/name@revision/file` to download a file from the
            Hugging Face hub. Revision and file may be absent: `hf://owner/name` is the newest
            model.safetensors, or else its index or pytorch_model.bin.
        head: `"auto"` loads the file's head if it fits, and else leaves the model's head
            unchanged. `"keep"` raises an error if it does not fit. `"skip"` leaves the model's
            head unchanged.
        adapt: whether to change arrays that do not fit. Positions are resized to another grid.
            The patch kernel is resized to another patch size (by FlexiViT's pseudo-inverse, arXiv
            2212.08013) or number of channels. An MLP-Mixer's token-mixing weights are resized to
            another grid, which is an approximation. A class token that the model does not have is
            skipped. Files of `save_weights` and `.keras` files state their grid. For other files
            `load_weights` assumes a square, or the model's grid if the number of patches is not a
            square.
        position_method: how to resize positions: `"bilinear_corners"` (Google), `"bilinear"`,
            `"bicubic"` (Hugging Face), `"bicubic_antialias"` (timm), or None for the method of
            the file's format.

    Returns:
        A `LoadReport`; print it to see what was loaded.

    Raises:
        ValueError: if the file is damaged, changes while it is read, has an unknown format or does
            not fit; the message names the keys and both shapes or grids. Also if the model is not
            functional, if its layers do not form one backbone, or if another argument is invalid.
        TypeError: if `model` is not a Keras model, if `source` is not a path, or if another
            argument has a wrong type.
        FileNotFoundError: if `source`, or a file that it names, does not exist.
        OSError: if a file of the hub cannot be downloaded. A PermissionError says that the user
            must first accept a licence on the repository's page.
        ImportError: if the file is a `.pth` and torch is not installed, or `source` starts with
            `hf://` and huggingface_hub is not installed.

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
    arguments.path("source", source)
    source = os.fspath(source)  # not a `pathlib.Path`, which turns hf:// into hf:/
    arguments.choice("head", head, HEAD_CHOICES)
    arguments.flag("adapt", adapt)
    arguments.choice("position_method", position_method, (*resize.POSITION_METHODS, None))
    backbone = index_weights(model)
    with Source(local_file(source)) as file:
        kind, form = checkpoint.container(file), None
        if kind in ("keras", "h5"):
            entries, names, grid = keras_files.read_entries(file, kind, model.count_params())
            form, backbone = keras_names.recognise(
                kind, entries, names, model, backbone, head, adapt
            )
        else:
            entries, grid = checkpoint.read_entries(file, kind)
        plan = make_plan(entries, backbone, source, head, adapt, position_method, grid, form)
        # Read and check all arrays before the first weight is set.
        values = [read(assignment) for assignment in plan.assignments]
        check_zeros(plan.zeros)
        file.check_unchanged()
    variables = [assignment.weight.variable for assignment in plan.assignments]
    loaded = len({id(weight) for weight in model.weights} & set(map(id, variables)))
    report = LoadReport(plan.format, loaded, plan.adapted, plan.skipped, plan.untouched, plan.part)
    assign_all(model, variables, values)
    return report


def assign_all(model, variables, values):
    """Set all variables, or none: after any exception, also Ctrl-C, they have their old values.

    `values` becomes empty, because each value is released once it is set.
    """
    before = []
    try:
        for variable in reversed(variables):
            before.append((variable, kept_value(variable)))
            variable.assign(values.pop())
        refresh(model)
    except BaseException:
        for variable, value in before:
            variable.assign(value)
        refresh(model)
        raise


def kept_value(variable):
    """The value of a variable, which stays the same when the variable gets another one.

    On JAX an array never changes. Of an array that is split over several processes, no process
    could make a copy.
    """
    if keras.backend.backend() == "jax":
        return variable.value
    return np.array(keras.ops.convert_to_numpy(variable.value))


def refresh(model):
    """Let Normalization layers read their weights, because they compute with copies of them."""
    for layer in all_layers(model):
        if isinstance(layer, keras.layers.Normalization) and layer.built:
            layer.finalize_state()


def read(assignment):
    """Read the arrays of an `Assignment` and return the value that its weight gets.

    Raises:
        ValueError: if an array does not have the declared shape or a dtype that fits, or if the
            value is not finite in the weight's dtype.
    """
    variable, arrays = assignment.weight.variable, []
    dtype = keras.backend.standardize_dtype(variable.dtype)
    is_float = "float" in dtype
    valid = FLOATS if is_float else (dtype,)
    with np.errstate(over="ignore"):  # because the error below names the key
        for entry in assignment.entries:
            if entry.dtype not in valid:
                raise ValueError(
                    f"{shown(entry.key)} must have {'a float dtype' if is_float else 'the dtype'}"
                    f" ({', '.join(valid)}) for {variable.path}. Received: dtype {entry.dtype},"
                    f" shape {entry.shape}"
                )
            array = np.asarray(entry.read())
            if array.shape != entry.shape:
                raise ValueError(
                    f"{shown(entry.key)} must have the declared shape {entry.shape}. Received:"
                    f" {array.shape}"
                )
            wide = "float64" if dtype == "float64" else "float32"
            arrays.append(array.astype(wide if is_float else dtype, copy=False))
        array = in_layout(assignment, arrays)
        if assignment.change:
            array = assignment.change.apply(array)
        array = np.asarray(array, dtype, order="C")
    finite = np.isfinite(array) if is_float else np.True_
    if not finite.all():
        entry = assignment.entries[0]
        raise ValueError(
            f"{shown(entry.key)} must be finite as {variable.dtype} for {variable.path}. Received:"
            f" {np.count_nonzero(~finite)} NaN or infinite values, shape {entry.shape}"
        )
    return array


def in_layout(assignment, arrays):
    """The arrays of an `Assignment` as one array in the weight's layout.

    Raises:
        ValueError: if the values do not fit the model.
    """
    try:
        return assignment.transform.to_model(arrays, assignment.weight)
    except ValueError as error:
        raise ValueError(f"{shown(assignment.entries[0].key)} {error}") from None


def check_zeros(entries):
    """Raise a ValueError if an array that the model has no weight for is not zero."""
    for entry in entries:
        count = np.count_nonzero(entry.read())
        if count:
            raise ValueError(
                f"{shown(entry.key)} must be zero, because the model has no such bias. Received:"
                f" {count} numbers that are not zero. `qkv_bias` and `without_bias` of the builder"
                " give the model biases"
            )
