"""Published variants: their sizes and their weights."""

import dataclasses
from typing import Any

from keras_mixers import arguments
from keras_mixers.arguments import MOST_BLOCKS
from keras_mixers.weights import Checkpoint, load_weights, locate
from keras_mixers.weights.catalog import architectures

# The default of a builder's argument whose value None has a meaning: the variant's value.
FROM_VARIANT: Any = type("FromVariant", (), {"__repr__": lambda self: "FROM_VARIANT"})()
OPTIONAL = {"pool", "position_embedding", "rotary", "layer_scale_init"}
# Arguments that may differ from those of the weights, because loading resizes the weights, or
# because the names of the weights show a difference that matters.
FREE = {
    "input_shape",
    "patch_size",
    "position_prefix",
    "pool",
    "class_token",
    "norm_after_pool",
    "layer_scale_init",
}
# Arguments that the shapes of weights do not show. Published models have these values unless
# their row has another.
UNSEEN = {
    "activation": "gelu",
    "epsilon": 1e-6,
    "head_dim": None,
    "score": "scaled_dot",
    "rotary": None,
}


def published(table, variant, block, defaults, **overrides):
    """Arguments for `Architecture`: `defaults`, then the variant's row, then the user's values.

    `blocks` replaces `depth`: a tuple that contains `block` once for each unit of depth.
    """
    check_variant(variant, table)
    given = {
        name: value
        for name, value in overrides.items()
        if value is not FROM_VARIANT and (value is not None or name in OPTIONAL)
    }
    sizes = {**defaults, **table[variant], **given}
    depth = arguments.integer("depth", sizes.pop("depth"), maximum=MOST_BLOCKS)
    return {**sizes, "blocks": (block,) * depth}


def check_variant(variant, table):
    """Raise an error if a variant is not in the table; it may be another kind of name."""
    if isinstance(variant, str) and variant.partition(".")[0] in architectures():
        raise ValueError(
            "`variant` must be a name in keras_mixers.variants."
            f" {arguments.received(variant=variant)}, a name for km.create_model({variant!r})"
        )
    arguments.choice("variant", variant, table)


def located(weights, family, table, variant, architecture):
    """What a builder's `weights` means: `(path of the downloaded file, its Checkpoint)`.

    The second is None for a file outside the catalog, and both are None if `weights` is None.

    Raises:
        ValueError: if the weights need another architecture.
    """
    if weights is None:
        return None, None

    def fits(row):
        return not differing(row, table[variant], architecture)

    size = architecture.input_shape[:2]
    found = locate.locate(weights, family, variant, size, fits)
    if not isinstance(found, Checkpoint):
        return found, None
    check_arguments(found, table[variant], architecture)
    return locate.download(found), found


def given_argument(architecture, name):
    """The value of a builder's argument, in the form of the rows of `VARIANTS`."""
    if name == "depth":
        return len(architecture.blocks)
    value = getattr(architecture, "mlp_dim" if name == "channels_mlp_dim" else name)
    if name == "kernel_size" and value[0] == value[1]:
        return value[0]
    return getattr(value, "__name__", value)  # because an activation may be a function


def differing(row, variant, architecture):
    """`{name: published value}` of the arguments in which a model differs from published weights.

    The published model has the arguments of its `Checkpoint` row, else of its variant, else of
    UNSEEN. The result includes arguments that the shapes of weights do not show.
    """
    expected = {**UNSEEN, **variant, **row.arguments}
    return {
        name: expected[name]
        for name in sorted(set(expected) - FREE)
        if given_argument(architecture, name) != expected[name]
    }


def check_arguments(row, variant, architecture):
    """Raise an error if a model differs from that of the published weights, before a download."""
    for name, value in differing(row, variant, architecture).items():
        given = arguments.shown(given_argument(architecture, name))
        raise ValueError(
            f"`{name}` must be {value!r} for weights={row.name!r}. Received: {name}={given}"
        )


def filled(model, path, checkpoint):
    """Load the weights of a file into a model, resized to fit, and return the model.

    If `path` is None, the weights stay random. The model gets the facts of the `Checkpoint`.
    """
    if path is not None:
        report = load_weights(model, path, adapt=True)
        if report.adapted or report.untouched:  # because no weight may change silently
            print(report)
    if checkpoint is not None:
        model.preprocessing = fitted(checkpoint.preprocessing, model.input_shape)
        if model.output_shape[-1] == checkpoint.num_classes:
            model.class_names = checkpoint.class_names
    return model


def fitted(preprocessing, input_shape):
    """A checkpoint's preprocessing for images of another size or number of channels.

    It is None for other channels if those of the checkpoint differ, because no one knows how the
    new ones relate to them.
    """
    _, *size, channels = input_shape
    colors = {name: getattr(preprocessing, name) for name in ("mean", "std")}
    if channels != len(preprocessing.mean):
        if any(len(set(each)) > 1 for each in colors.values()):
            return None
        colors = {name: each[0] for name, each in colors.items()}
    return dataclasses.replace(preprocessing, size=tuple(size), **colors)
