"""What is published: a family's rows, and the weights that were trained for them."""

from keras_mixers import arguments
from keras_mixers.arguments import MOST_BLOCKS
from keras_mixers.weights import Checkpoint, load_weights, locate

# The images' and patches' size is the user's choice: weights are resized to it.
FREE = {"input_shape", "patch_size", "position_prefix"}
# What shapes do not show, as published models have it where their rows say nothing else.
UNSEEN = {
    "activation": "gelu",
    "epsilon": 1e-6,
    "head_dim": None,
    "score": "scaled_dot",
}


def published(table, variant, block, **overrides):
    """Arguments for `Architecture`: a variant's row, changed by each override that is not None.

    The row's `depth` becomes `blocks`: that many of `block`.
    """
    arguments.choice("variant", variant, table)
    given = {name: value for name, value in overrides.items() if value is not None}
    sizes = {**table[variant], **given}
    depth = arguments.integer("depth", sizes.pop("depth"), maximum=MOST_BLOCKS)
    return {**sizes, "blocks": (block,) * depth}


def located(weights, family, table, variant, architecture):
    """The file of a builder's `weights`, or None; refused before the model is made."""
    if weights is None:
        return None
    found = locate.locate(weights, family, variant, architecture.input_shape)
    if isinstance(found, Checkpoint):
        check_arguments(found, table[variant], architecture)
        found = locate.download(found)
    return found


def given_argument(architecture, name):
    """What a builder was given, by its own name for it."""
    if name == "depth":
        return len(architecture.blocks)
    value = getattr(architecture, "mlp_dim" if name == "channels_mlp_dim" else name)
    if name == "kernel_size" and value[0] == value[1]:
        return value[0]
    return getattr(value, "__name__", value)  # an activation may be a function


def check_arguments(row, variant, architecture):
    """Refuse a model that would not compute what the weights were trained for.

    Its architecture is the row's arguments, else its variant's, else what all of them have. It is
    compared before anything is fetched, and shows what the shapes of weights would not.
    """
    expected = {**UNSEEN, **variant, **row.arguments}
    for name in sorted(set(expected) - FREE):
        given = given_argument(architecture, name)
        if given != expected[name]:
            raise ValueError(
                f"`{name}` must be {expected[name]!r} for weights={row.name!r}. Received:"
                f" {name}={given!r}"
            )


def filled(model, source):
    """The model with the weights of a file, if there is one, adapted to its size."""
    if source is not None:
        report = load_weights(model, source, adapt=True)
        if report.adapted or report.untouched:  # nothing is changed without a word
            print(report)
    return model
