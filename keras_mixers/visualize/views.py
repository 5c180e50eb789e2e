"""What the explorer can show: attention, hidden units, kernels, maps of the whole model."""

import base64
import math

import numpy as np

from keras_mixers.graph import layer_calls
from keras_mixers.layers import ConvMixerBlock, MultiHeadSelfAttention, TokenMixing
from keras_mixers.probe import (
    attention_maps,
    attention_rollout,
    depthwise_kernels,
    relevance,
    token_grid,
    token_mixing_units,
)
from keras_mixers.probe.attention import one_grid
from keras_mixers.probe.collect import mixer_of, select
from keras_mixers.probe.token_mixers import other_token_mixers
from keras_mixers.visualize.canvas import strongest

KINDS = (MultiHeadSelfAttention, TokenMixing, ConvMixerBlock)
MOST_BYTES = 4_000_000  # of attention in a page; beyond it patches are taken together
MOST_UNITS = 64  # of a layer
MEANINGS = {
    "units": ("hidden unit", "a weight for each patch"),
    "kernels": ("kernel", "a weight for each neighbour"),
}


def views_of(model, images, layers, classes):
    """(views, grid): what the page can show, as JSON can hold it, and the grid of the patches.

    `classes` has the name of the class that each image is taken for, where there are classes.
    A view has `rows` x `columns` values, each of `step` x `step` patches (or of a kernel's cell).
    """
    everything = layer_calls(model)
    found = {n: at for n, at in everything.items() if isinstance(mixer_of(at.operation), KINDS)}
    if not found:
        raise ValueError(
            "`model` must have a MultiHeadSelfAttention, TokenMixing or ConvMixerBlock layer."
            f" Received: '{model.name}'"
        )
    wanted = select(found, found, layers)
    attending = {
        name: node
        for name, node in wanted.items()
        if isinstance(mixer_of(node.operation), MultiHeadSelfAttention)
    }
    maps = attention_maps(model, images, list(attending)) if attending else {}
    grid = one_grid(model, attending) if attending else token_grid(model)
    step = smallest_step(maps.values(), grid)

    views = []
    for name, node in wanted.items():
        if name in maps:
            views.append(attention_view(name, maps[name], grid, step))
        elif isinstance(mixer_of(node.operation), TokenMixing):
            (units,) = token_mixing_units(model, name).values()
            views.append(weights_view(name, "units", units))
        else:
            (kernels,) = depthwise_kernels(model, name).values()
            views.append(weights_view(name, "kernels", kernels))
    if maps and layers is None and not other_token_mixers(model, maps):
        rollout = attention_rollout(model, images)
        said = ["How much of each patch is in the output."] * len(images)
        views.append(map_view("All layers: rollout", "share in the output", rollout, said))
        if classes:
            speaks = relevance(model, images)
            said = [f"What speaks for {name}." for name in classes]
            view = map_view("All layers: relevance", "gradient x attention", speaks, said)
            views.append(view)
    return views, grid


def smallest_step(maps, grid):
    """How many patches a side are to be taken together, so that all maps fit in `MOST_BYTES`."""
    for step in range(1, max(grid.rows, grid.columns) + 1):
        cells = grid.num_prefix + math.ceil(grid.rows / step) * math.ceil(grid.columns / step)
        size = sum(len(each) * each.shape[1] * cells**2 * 2 for each in maps) * 4 / 3
        if size <= MOST_BYTES:
            break
    return step


def coarsen(maps, grid, step):
    """Weights between squares of patches: keys added, queries averaged; the prefix stays.

    Shapes: `(N, heads, T, T) -> (N, heads, S, S)`, whose rows still sum to 1.
    """
    rows, columns = np.mgrid[: grid.rows, : grid.columns].reshape(2, -1) // step
    cells = grid.num_prefix + rows * math.ceil(grid.columns / step) + columns
    square = np.concatenate([np.arange(grid.num_prefix), cells])
    member = np.eye(square.max() + 1, dtype="float32")[square]
    return (member / member.sum(axis=0)).T @ maps @ member


def attention_view(name, maps, grid, step):
    """The weights of a layer, in 16-bit parts of the largest in each row."""
    maps = coarsen(maps, grid, step) if step > 1 else maps
    largest = maps.max(axis=-1)
    return {
        "name": name,
        "kind": "attention",
        "label": "weight",
        "heads": maps.shape[1],
        "rows": math.ceil(grid.rows / step),
        "columns": math.ceil(grid.columns / step),
        "step": step,
        "largest": encoded(largest, "<f4"),
        "codes": encoded(np.round(maps / largest[..., None] * 65535), "<u2"),
    }


def weights_view(name, kind, maps):
    """The strongest hidden units or kernels of a layer."""
    one, meaning = MEANINGS[kind]
    chosen = strongest(maps, MOST_UNITS)
    some = f", {len(chosen)} of {len(maps)}: those of largest norm"
    return {
        "name": name,
        "kind": kind,
        "label": "weight",
        "one": one,
        "meaning": meaning,
        "title": f"{one}s".capitalize() + (some if len(chosen) < len(maps) else ""),
        "numbers": chosen.tolist(),
        "reach": float(np.abs(maps[chosen]).max()) or 1.0,
        "rows": maps.shape[1],
        "columns": maps.shape[2],
        "step": 1,
        "values": encoded(maps[chosen], "<f4"),
    }


def map_view(name, label, maps, said):
    """One map for each image, and what is said of it."""
    return {
        "said": said,
        "name": name,
        "kind": "map",
        "label": label,
        "rows": maps.shape[1],
        "columns": maps.shape[2],
        "step": 1,
        "values": encoded(maps, "<f4"),
    }


def encoded(array, dtype):
    """A finite array as text."""
    return base64.b64encode(np.ascontiguousarray(finite(array), dtype)).decode()


def finite(array):
    """The array itself.

    Raises:
        ValueError: there is NaN or infinity in it.
    """
    if not np.isfinite(array).all():
        raise ValueError(
            "`model` must have weights and answers that are finite. Received: NaN or infinity"
        )
    return array
