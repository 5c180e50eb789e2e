"""What is published: a family's rows, and the weights that were trained for them."""

import types

from keras_mixers import arguments


def published(table, variant, **overrides):
    """A variant's row with everything that is not `None` in `overrides` put in its place."""
    arguments.choice("variant", variant, table)
    given = {name: value for name, value in overrides.items() if value is not None}
    return types.SimpleNamespace(**{**table[variant], **given})


def located(weights, family, variant, architecture):
    """The file of a builder's `weights`, or None; refused before the model is made."""
    if weights is None:
        return None
    from keras_mixers.weights.locate import locate  # it knows models, so here it waits

    return locate(weights, family, variant, architecture)


def filled(model, source):
    """The model with the weights of a file, if there is one, adapted to its size."""
    if source is not None:
        from keras_mixers.weights import load_weights

        report = load_weights(model, source, adapt=True)
        if report.adapted or report.untouched:  # nothing is changed without a word
            print(report)
    return model
