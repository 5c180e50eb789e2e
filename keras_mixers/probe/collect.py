"""Find the layers to probe, and collect what they compute."""

import contextlib
import functools
import numbers

import keras
import numpy as np

from keras_mixers import arguments
from keras_mixers.graph import functional, layer_calls, run
from keras_mixers.layers import Residual


class StopForward(Exception):
    """Raised by a visitor of `run` that has seen all it wants: what follows is not computed."""


def mixer_of(layer):
    """What mixes in a residual half-block; any other layer itself."""
    return layer.mixer if isinstance(layer, Residual) else layer


def mixer_input(layer, x):
    """What the mixer gets where the layer gets x."""
    return layer.norm(x) if isinstance(layer, Residual) else x


def find_layers(model, kind, layers=None):
    """The places of layers of one kind, alone or in a `Residual`: `{name: node}`.

    Raises:
        ValueError: there is none, or none of that name or number.
    """
    everything = layer_calls(model)
    found = {
        n: node for n, node in everything.items() if isinstance(mixer_of(node.operation), kind)
    }
    if not found:
        inside = sorted({type(mixer_of(node.operation)).__name__ for node in everything.values()})
        raise ValueError(
            f"`model` must have a {kind.__name__} layer. Received: '{model.name}', made of"
            f" {', '.join(inside)}"
        )
    return select(found, found, layers)


def select(everything, numbered, layers):
    """Those of `everything` that `layers` names, or numbers as they stand in `numbered`.

    It is a name, a number (-1 is the last), a list of such, or `None` for all that are numbered.

    Raises:
        ValueError: there is none of that name or number.
    """
    if layers is None:
        return numbered
    wanted, names = set(), list(numbered)
    given = list(layers) if isinstance(layers, (list, tuple)) else [layers]
    for layer in given or [[]]:
        is_number = isinstance(layer, numbers.Integral) and not isinstance(layer, bool)
        if is_number and -len(names) <= layer < len(names):
            wanted.add(names[layer])
        elif isinstance(layer, str) and layer in everything:
            wanted.add(layer)
        else:
            near = arguments.nearest(layer, everything)
            raise ValueError(
                f"`layers` must be names or numbers (from 0, or -1 for the last) of"
                f" {', '.join(names)}. Received: {layer!r}{near}"
            )
    return {name: node for name, node in everything.items() if name in wanted}


def one_layer(layer):
    """Refuse what means several layers, where one is to be shown."""
    if isinstance(layer, bool) or not isinstance(layer, (str, numbers.Integral)):
        raise ValueError(f"`layer` must be a name or a number. Received: layer={layer!r}")
    return layer


def collect(model, images, wanted, compute, batch_size):
    """What `compute(layer, x)` gives of each wanted call and its input: `{name: array (N, ...)}`.

    `compute` is a function of a layer and its input's batch, or `None` for the layer's output.
    Nothing is computed beyond the last wanted call; arrays are float32.
    """
    seen = {name: [] for name in wanted}
    for batch in batches(model, images, batch_size):
        left = set(wanted)

        def visit(name, layer, *args, left=left, **kwargs):
            output = functools.cache(lambda: layer(*args, **kwargs))
            if name in left:
                seen[name].append(to_numpy(compute(layer, args[0]) if compute else output()))
                left.remove(name)
                if not left:
                    raise StopForward
            return output()

        with contextlib.suppress(StopForward):
            run(model, batch, visit)
    return {name: np.concatenate(parts) for name, parts in seen.items()}


def batches(model, images, batch_size):
    """The images in parts, as tensors of the dtype that the model's input has.

    Raises:
        ValueError: they are not what the model takes.
    """
    check_images(model, images)
    arguments.integer("batch_size", batch_size)
    dtype = functional(model).inputs[0].dtype
    for start in range(0, len(images), batch_size):
        yield keras.ops.convert_to_tensor(images[start : start + batch_size], dtype=dtype)


def check_images(model, images):
    """Refuse what is no batch of images for the model."""
    inputs = functional(model).inputs
    if len(inputs) != 1:
        raise ValueError(
            f"`model` must have one input. Received: '{model.name}', which has {len(inputs)}"
        )
    expected, given = inputs[0].shape, getattr(images, "shape", None)
    fits = given is not None and len(given) == len(expected)
    alone = given is not None and len(given) == len(expected) - 1
    fits = fits and all(e in (None, g) for e, g in zip(expected[1:], given[1:], strict=True))
    if not fits or not given[0]:
        sizes = ", ".join(str(side or "any") for side in expected[1:])
        raise ValueError(
            f"`images` must be an array of shape (N, {sizes}) with an image or more, as model"
            f" '{model.name}' takes them. Received: "
            + (f"a {type(images).__name__}" if given is None else f"shape {tuple(given)}")
            + ("; `image[None]` is a batch of one" if alone else "")
        )
    if not np.isfinite(keras.ops.convert_to_numpy(images)).all():
        raise ValueError("`images` must be finite. Received: NaN or infinity")


def to_numpy(tensor):
    """A tensor or a weight as an array of float32."""
    return keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))
