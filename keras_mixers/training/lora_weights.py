"""Save what a LoRA run trained, and add it to the same base again."""

import os
import pathlib

import keras

from keras_mixers import arguments
from keras_mixers.graph import all_layers, lora_matrices
from keras_mixers.training import lora_file
from keras_mixers.training.lora_file import Content, Update
from keras_mixers.training.lora_names import Names, array_of
from keras_mixers.weights.load import assign_all


def save_lora_weights(model: keras.Model, path: str | os.PathLike[str]) -> pathlib.Path:
    """Write the LoRA matrices of a model, its head, and all other weights that train, to one file.

    The file is small, because it has no frozen weights. `load_lora_weights` adds its content to the
    same base. A file that exists is replaced only when the new file is complete.

    Args:
        model: a functional model with a `PatchEmbed` and LoRA matrices, such as a model that
            `Recipe(lora_rank=...)` has compiled; the backbone may be a nested model.
        path: the file to write, which ends in `.lora.h5`, in a folder that exists.

    Returns:
        The path.

    Raises:
        ValueError: if the model has no LoRA matrices or is not functional with one `PatchEmbed`; if
            `path` has another suffix or its folder does not exist.
        TypeError: if `model` is not a Keras model or `path` is not a path.

    Example:
        >>> import tempfile
        >>> import keras_mixers as km
        >>> model = km.ViT("Ti/16", input_shape=(32, 32, 3), depth=1, num_classes=10)
        >>> km.Recipe(epochs=1, lora_rank=4).compile(model, steps_per_epoch=100)
        >>> save_lora_weights(model, tempfile.mkdtemp() + "/pets.lora.h5").name
        'pets.lora.h5'

    Source: "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685.
    """
    path = lora_file.checked_path(arguments.output_path(path))
    names = Names(model)
    if not names.updated:
        raise ValueError(
            "`model` must have LoRA matrices, as after km.Recipe(lora_rank=...).compile. Received:"
            f" model={model.name!r} without any; model.save() keeps any model"
        )
    updates = {
        name: Update(*map(array_of, lora_matrices(layer)), float(layer.lora_alpha))
        for name, layer in names.updated.items()
    }
    trained = {name: array_of(variable) for name, variable in names.trained().items()}
    lora_file.write(path, Content(updates, trained, names.digest(updates)))
    return path


def load_lora_weights(
    model: keras.Model, path: str | os.PathLike[str], *, head: str = "keep"
) -> None:
    """Add the LoRA matrices of a file to a model, and set the other weights that the file has.

    The model needs the base that the matrices were trained on, such as the same
    `km.create_model(...)` in another process. A warning says if its kernels differ. Matrices of the
    same rank that the model has are replaced. If anything does not fit, the error names it, and the
    model is unchanged. To train further, compile the model by a `Recipe` with this `lora_rank`.

    Args:
        model: a functional model with a `PatchEmbed`; the backbone may be a nested model.
        path: a file of `save_lora_weights`.
        head: `"keep"` loads the head too, and raises an error if it does not fit. `"skip"` loads
            only weights of the backbone, for a model with another head or without one.

    Raises:
        ValueError: if the file is damaged; if the model does not have a layer or weight of the file
            in this shape; if the model has matrices of another rank, or in other layers.
        ValueError: if `path` or `head` is invalid, or if the model is not functional with one
            `PatchEmbed`.
        TypeError: if `model` is not a Keras model or `path` is not a path.
        FileNotFoundError: if the file does not exist.

    Example:
        >>> import tempfile
        >>> import keras_mixers as km
        >>> keras.utils.set_random_seed(0)
        >>> model = km.MLPMixer("S/16", input_shape=(32, 32, 3), depth=1, num_classes=10)
        >>> base = km.save_weights(model, tempfile.mkdtemp() + "/base.safetensors")
        >>> km.Recipe(epochs=1, lora_rank=2).compile(model, steps_per_epoch=100)
        >>> path = save_lora_weights(model, tempfile.mkdtemp() + "/mixer.lora.h5")
        >>> other = km.MLPMixer("S/16", input_shape=(32, 32, 3), depth=1, num_classes=10)
        >>> report = km.load_weights(other, base)
        >>> load_lora_weights(other, path)
    """
    path = lora_file.checked_path(path)
    arguments.choice("head", head, ("keep", "skip"))
    names, content = Names(model), lora_file.read(path)
    updates, trained = content.updates, content.trained
    if head == "skip":
        updates, trained = names.without_head(updates), names.without_head(trained)
    check_updates(path, names, updates)
    check_trained(path, names, trained)
    if names.digest(content.updates) != content.base:
        arguments.warn(
            f"The LoRA matrices in {path} were trained with other kernels than those of"
            f" {model.name!r}, so their sum may be of no use. Load the weights of the base first"
        )
    for name, update in updates.items():
        if name not in names.updated:
            names.layers[name].enable_lora(update.rank, lora_alpha=update.alpha)
    variables = [names.variables[name] for name in trained]
    values = list(trained.values())
    for name, update in updates.items():
        variables += lora_matrices(names.layers[name])
        values += [update.a, update.b]
    assign_all(model, variables, values)
    forget_compiled(model)


def check_updates(path, names, updates):
    """Raise a ValueError unless the model can have exactly these LoRA matrices."""
    for name, update in updates.items():
        layer = names.layers.get(name)
        if layer is None or layer.quantization_mode or layer.kernel_constraint:
            why = "which the model does not have" if layer is None else "which cannot have any here"
            raise misfit(path, names, f"matrices for {name}, {why}")
        *inputs, outputs = names.variables[name].shape
        expected = (*inputs, update.rank), (update.rank, outputs)
        if (update.a.shape, update.b.shape) != expected:
            found = f"{update.a.shape} and {update.b.shape}"
            raise misfit(path, names, f"matrices {found} for {name}, a kernel {(*inputs, outputs)}")
        if name in names.updated and (update.rank, update.alpha) != (
            layer.lora_rank,
            layer.lora_alpha,
        ):
            raise misfit(
                path,
                names,
                f"rank {update.rank} and alpha {update.alpha:g} for {name}, where the model has"
                f" rank {layer.lora_rank} and alpha {layer.lora_alpha:g}. To add the model's"
                " matrices to its kernels, save the model and load it again",
            )
    missing = sorted(names.updated.keys() - updates)
    if missing:
        raise misfit(path, names, f"no matrices for {missing[0]}, where the model has some")


def check_trained(path, names, trained):
    """Raise a ValueError unless the model has these weights in these shapes."""
    for name, array in trained.items():
        variable = names.variables.get(name)
        shape = None if variable is None else tuple(variable.shape)
        if shape != array.shape:
            there = "which the model does not have" if shape is None else f"not {shape}"
            raise misfit(
                path, names, f"{name} of shape {array.shape}, {there}; head='skip' skips the head"
            )


def misfit(path, names, found):
    """A ValueError for a file that belongs to another model."""
    return ValueError(
        f"`path` must fit the model {names.model.name!r}. Received: path={path}, with {found}"
    )


def forget_compiled(model):
    """Let Keras compile the model again, because its functions do not know new matrices."""
    for each in (model, *all_layers(model)):
        if isinstance(each, keras.Model):
            each.train_function = each.test_function = each.predict_function = None
