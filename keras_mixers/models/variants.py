"""The published variants of all families, and the variant that a model has."""

import copy
from fractions import Fraction
from typing import Any

import keras

from keras_mixers import arguments, layers
from keras_mixers.graph import all_layers
from keras_mixers.layers.base import mixes_tokens
from keras_mixers.models import conv_mixer, mlp_mixer, vit

TABLES = {
    "ViT": vit.VARIANTS,
    "MLPMixer": mlp_mixer.VARIANTS,
    "ConvMixer": conv_mixer.VARIANTS,
}


def variants(family: str) -> dict[str, dict[str, Any]]:
    """Return the published variants of a family: `{name: {argument: value}}`.

    Args:
        family: `"ViT"`, `"MLPMixer"` or `"ConvMixer"`.

    Returns:
        A copy of the table: for each variant, its arguments of the builder.

    Raises:
        ValueError: if `family` is not one of these names.

    Example:
        >>> variants("MLPMixer")["S/32"]["hidden_dim"]
        512
    """
    return copy.deepcopy(TABLES[arguments.choice("family", family, TABLES)])


# Where a model keeps the arguments that tell variants apart: (layer class, attribute).
HELD_BY = {
    "patch_size": (layers.PatchEmbed, "patch_size"),
    "hidden_dim": (layers.PatchEmbed, "hidden_dim"),
    "num_heads": (layers.MultiHeadSelfAttention, "num_heads"),
    "mlp_dim": (layers.ChannelMixing, "mlp_dim"),
    "channels_mlp_dim": (layers.ChannelMixing, "mlp_dim"),
    "tokens_mlp_dim": (layers.TokenMixing, "tokens_mlp_dim"),
    "kernel_size": (layers.ConvMixerBlock, "kernel_size"),
    "distillation_token": (layers.PrefixTokens, "distillation_token"),
    "num_registers": (layers.PrefixTokens, "num_registers"),
    "rotary": (layers.MultiHeadSelfAttention, "rotary"),
    "gated_mlp": (layers.ChannelMixing, "gated"),
    "normalization": (layers.Residual, "normalization"),
    "epsilon": (layers.Residual, "epsilon"),
    "layer_scale_init": (layers.Residual, "layer_scale_init"),
}


# The values of a ViT whose row does not have these arguments.
UNSTATED = {
    "num_registers": 0,
    "rotary": None,
    "gated_mlp": False,
    "normalization": "layer",
    "epsilon": 1e-6,
}


def variant_of(model):
    """The published variant whose sizes a model's layers have, such as `"ViT S/16"`, or None.

    Of several variants with the same sizes, it is the one that agrees in most of `details`.
    """
    parts = all_layers(model)
    pooled = {id(part.mlp) for part in parts if isinstance(part, layers.AttentionPooling)}
    parts = [part for part in parts if id(part) not in pooled]  # its MLP may have another width
    mixers = [layer for layer in parts if mixes_tokens(layer)]
    if len(set(map(type, mixers))) != 1:  # a hybrid, or a model without mixers
        return None
    found = {name: held(parts, *place) for name, place in HELD_BY.items()}
    found["depth"] = len(mixers)
    # Both are None without prefix tokens.
    found["distillation_token"] = bool(found["distillation_token"])
    found["num_registers"] = found["num_registers"] or 0
    agreements = {}
    for family, table in TABLES.items():
        for variant, row in table.items():
            row = {**UNSTATED, **row} if family == "ViT" else row
            if all(found[name] == row[name] for name in found.keys() & row.keys()):
                same = [one == two for one, two in zip(details(parts), stated(row), strict=True)]
                agreements[f"{family} {variant}"] = sum(same)
    return max(agreements, key=agreements.get, default=None)


def details(parts):
    """The pooling, the class token, the inner norms and the missing biases of a ViT's layers."""
    pools = {
        layers.SelectToken: "token",
        keras.layers.GlobalAveragePooling1D: "gap",
        layers.AttentionPooling: "map",
    }
    pool = [pools[type(part)] for part in parts if type(part) in pools]
    attention, mlp = layers.MultiHeadSelfAttention, layers.ChannelMixing
    return (
        pool[0] if pool else None,
        bool(held(parts, layers.PrefixTokens, "class_token")),
        bool(held(parts, attention, "inner_norm")),
        bool(held(parts, mlp, "inner_norm")),
        held(parts, attention, "key_bias") is False,
        held(parts, layers.PatchEmbed, "use_bias") is False,
    )


def stated(row):
    """The same as `details`, by a row of the table."""
    pool, norms = row.get("pool", "token"), row.get("extra_norms", ())
    without_bias = row.get("without_bias", ())
    return (
        pool,
        row.get("class_token", pool == "token"),
        "attention" in norms,
        "mlp" in norms,
        "key" in without_bias,
        "patches" in without_bias,
    )


def held(parts, kind, attribute):
    """The value that all layers of a class have in common, a square as its side; else None."""
    values = {getattr(part, attribute) for part in parts if isinstance(part, kind)}
    if len(values) != 1:
        return None
    (value,) = values
    return value[0] if isinstance(value, tuple) and value[0] == value[1] else value


def scaled_widths(row, hidden_dim):
    """The widths of the MLPs for another `hidden_dim`, in the proportions of a row.

    timm describes a width by its ratio to `hidden_dim` in the same way. The ratio is the simplest
    fraction that gives the published width: 8 / 3 for 2730 / 1024.
    """
    return {
        name: int(simplest_ratio(width, row["hidden_dim"]) * hidden_dim)
        for name, width in row.items()
        if name.endswith("mlp_dim") and width
    }


def simplest_ratio(width, whole):
    """The fraction r with the smallest denominator for which `int(r * whole)` is `width`."""
    ratios = (Fraction(-(-width * below // whole), below) for below in range(1, whole + 1))
    return next(ratio for ratio in ratios if int(ratio * whole) == width)
