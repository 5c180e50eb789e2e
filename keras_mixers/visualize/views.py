"""The views of the explorer: attention, hidden units, kernels, and maps of the whole model."""

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
MOST_BYTES = 4_000_000  # of attention weights in a page; larger ones are coarsened
MOST_UNITS = 64  # shown of one layer
ITEMS = {
    "units": ("hidden unit", "one weight per patch"),
    "kernels": ("kernel", "one weight per neighbour"),
}


def views_of(model, images, layers, classes):
    """(views, grid): what the page can show, as JSON-compatible data, and the grid of patches.

    `classes` has the name of the class that the model predicts for each image, or is empty if the
    model is not a classifier. A view has `rows` x `columns` cells. A cell covers `step` x `step`
    patches, or one weight of a kernel.
    """
    calls = layer_calls(model)
    found = {
        name: node for name, node in calls.items() if isinstance(mixer_of(node.operation), KINDS)
    }
    if not found:
        raise ValueError(
            "`model` must have a MultiHeadSelfAttention, TokenMixing or ConvMixerBlock layer."
            f" Received: '{model.name}'"
        )
    wanted = select(found, found, layers)
    attention = {
        name: node
        for name, node in wanted.items()
        if isinstance(mixer_of(node.operation), MultiHeadSelfAttention)
    }
    maps = attention_maps(model, images, list(attention)) if attention else {}
    grid = one_grid(model, attention) if attention else token_grid(model)
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
        views += whole_model_views(model, images, classes)
    return views, grid


def whole_model_views(model, images, classes):
    """Rollout, and for a classifier also relevance."""
    rollout = attention_rollout(model, images)
    texts = ["How much each patch contributes to the output."] * len(images)
    views = [map_view("All layers: rollout", "contribution to the output", rollout, texts)]
    if classes:
        texts = [f"How much each patch supports {name}." for name in classes]
        found = relevance(model, images)
        views.append(map_view("All layers: relevance", "gradient x attention", found, texts))
    return views


def smallest_step(maps, grid):
    """The smallest side of a cell, in patches, with which all maps fit in `MOST_BYTES`."""
    for step in range(1, max(grid.rows, grid.columns) + 1):
        cells = grid.num_prefix + math.ceil(grid.rows / step) * math.ceil(grid.columns / step)
        size = sum(len(each) * each.shape[1] * cells**2 * 2 for each in maps) * 4 / 3
        if size <= MOST_BYTES:
            break
    return step


def coarsen(maps, grid, step):
    """Attention weights between cells of patches: summed over keys, averaged over queries.

    Prefix tokens stay single.

    Shapes: `(N, heads, T, T) -> (N, heads, S, S)`, whose rows still sum to 1.
    """
    rows, columns = np.mgrid[: grid.rows, : grid.columns].reshape(2, -1) // step
    cells = grid.num_prefix + rows * math.ceil(grid.columns / step) + columns
    cell_of_token = np.concatenate([np.arange(grid.num_prefix), cells])
    member = np.eye(cell_of_token.max() + 1, dtype="float32")[cell_of_token]
    return (member / member.sum(axis=0)).T @ maps @ member


def attention_view(name, maps, grid, step):
    """The attention weights of a layer, as 16-bit fractions of the largest in each row."""
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
    """The hidden units or kernels of a layer with the largest norm."""
    item, meaning = ITEMS[kind]
    chosen = strongest(maps, MOST_UNITS)
    title = f"{item}s".capitalize()
    if len(chosen) < len(maps):
        title += f", {len(chosen)} of {len(maps)}, those with the largest norm"
    return {
        "name": name,
        "kind": kind,
        "label": "weight",
        "item": item,
        "meaning": meaning,
        "title": title,
        "numbers": chosen.tolist(),
        "limit": float(np.abs(maps[chosen]).max()) or 1.0,
        "rows": maps.shape[1],
        "columns": maps.shape[2],
        "step": 1,
        "values": encoded(maps[chosen], "<f4"),
    }


def map_view(name, label, maps, texts):
    """One map and one text for each image."""
    return {
        "texts": texts,
        "name": name,
        "kind": "map",
        "label": label,
        "rows": maps.shape[1],
        "columns": maps.shape[2],
        "step": 1,
        "values": encoded(maps, "<f4"),
    }


def encoded(array, dtype):
    """A finite array as Base64 text."""
    return base64.b64encode(np.ascontiguousarray(finite(array), dtype)).decode()


def finite(array):
    """Return the array unchanged.

    Raises:
        ValueError: if it contains NaN or infinity.
    """
    if not np.isfinite(array).all():
        raise ValueError("`model` must have finite weights and outputs. Received: NaN or infinity")
    return array
