"""Find the layers to probe, run the model up to them, and collect arrays."""

import contextlib
import functools
import numbers

import keras
import numpy as np

from keras_mixers import arguments
from keras_mixers.graph import functional, layer_calls, run
from keras_mixers.layers import Residual
from keras_mixers.probe.images import check_images
from keras_mixers.probe.scale import warn_of_bytes


class StopForward(Exception):
    """Raised inside `run` to end the forward pass, because the remaining layers are not needed."""


def mixer_of(layer):
    """The mixer of a `Residual`; any other layer itself."""
    return layer.mixer if isinstance(layer, Residual) else layer


def mixer_input(layer, x):
    """The input of the layer's mixer if the layer's input is x."""
    return layer.norm(x) if isinstance(layer, Residual) else x


def find_layers(model, kind, layers=None):
    """The calls of layers of one class, inside a `Residual` or not: `{name: node}`.

    `layers` selects some of these calls, as in `select`.

    Raises:
        ValueError: if the model has no such layer, or `layers` names a layer that does not exist.
    """
    calls = layer_calls(model)
    found = {
        name: node for name, node in calls.items() if isinstance(mixer_of(node.operation), kind)
    }
    if not found:
        classes = sorted({type(mixer_of(node.operation)).__name__ for node in calls.values()})
        raise ValueError(
            f"`model` must have a {kind.__name__} layer. Received: '{model.name}', made of"
            f" {', '.join(classes)}"
        )
    return select(found, found, layers)


def select(calls, numbered, layers):
    """The calls that `layers` selects, in order of execution: `{name: node}`.

    Args:
        calls: `{name: node}` of all calls that `layers` may name.
        numbered: `{name: node}` of the calls that `layers` may number.
        layers: a name, a number (-1 is the last), a list of names and numbers, or `None` for all
            of `numbered`.

    Raises:
        ValueError: if no call has that name or number.
    """
    if layers is None:
        return numbered
    selected, names = set(), list(numbered)
    given = list(layers) if isinstance(layers, (list, tuple)) else [layers]
    for layer in given or [[]]:
        is_number = isinstance(layer, numbers.Integral) and not isinstance(layer, bool)
        if is_number and -len(names) <= layer < len(names):
            selected.add(names[layer])
        elif isinstance(layer, str) and layer in calls:
            selected.add(layer)
        else:
            near = arguments.nearest(layer, calls)
            raise ValueError(
                "`layer` or `layers` must be names or numbers (from 0, or -1 for the last) of"
                f" {', '.join(names)}. Received: {arguments.shown(layer)}{near}"
            )
    return {name: node for name, node in calls.items() if name in selected}


def one_layer(layer):
    """Return a layer's name or number unchanged.

    Raises:
        ValueError: if the value is neither, such as a list or `None`, which mean several layers.
    """
    if isinstance(layer, bool) or not isinstance(layer, (str, numbers.Integral)):
        raise ValueError(
            f"`layer` must be a name or a number. Received: layer={arguments.shown(layer)}"
        )
    return layer


def collect(model, images, wanted, compute, batch_size):
    """Apply `compute(layer, input)` at each wanted call: `{name: array (N, ...)}`, float32.

    If `compute` is `None`, the function collects the layer's output. `wanted` holds names of
    calls. The forward pass of each batch ends after the last of them.
    """
    collected = {name: [] for name in wanted}
    for batch in batches(model, images, batch_size):
        remaining = set(wanted)

        def visit(name, layer, *args, remaining=remaining, **kwargs):
            output = functools.cache(lambda: layer(*args, **kwargs))
            if name in remaining:
                value = compute(layer, args[0]) if compute else output()
                collected[name].append(to_numpy(value))
                remaining.remove(name)
                if not remaining:
                    raise StopForward
            return output()

        with contextlib.suppress(StopForward):
            run(model, batch, visit)
    return {name: np.concatenate(parts) for name, parts in collected.items()}


def batches(model, images, batch_size):
    """Yield the images in batches, as tensors with the dtype of the model's input.

    Raises:
        ValueError, TypeError: if the images do not fit the model.
    """
    check_images(model, images)
    warn_of_bytes(model, images)
    arguments.integer("batch_size", batch_size)
    dtype = functional(model).inputs[0].dtype
    for start in range(0, len(images), batch_size):
        yield keras.ops.convert_to_tensor(images[start : start + batch_size], dtype=dtype)


def to_numpy(tensor):
    """A tensor or a weight as a float32 array."""
    return keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))
