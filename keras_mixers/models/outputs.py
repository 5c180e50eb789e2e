"""What the outputs of a model mean: logits or probabilities, of one choice or of several."""

import keras

from keras_mixers.graph import layer_calls
from keras_mixers.models.image_model import fact_of


def kind_of_output(model):
    """`"logits"`, `"probabilities"`, or `None` for features, tokens or several outputs.

    Logits come from a `Dense` layer without an activation, or from the average of such layers.
    Probabilities come from a softmax of two or more logits.
    """
    if len(model.outputs) != 1 or len(model.outputs[0].shape) != 2:
        return None
    last = list(layer_calls(model).values())[-1]
    layer = last.operation
    activation = getattr(layer, "activation", None)
    if isinstance(layer, keras.layers.Softmax) or activation is keras.activations.softmax:
        return "probabilities" if model.outputs[0].shape[-1] > 1 else None
    if isinstance(layer, keras.layers.Average):
        layers = [node.operation for node in last.parent_nodes]
    else:
        layers = [layer]
    linear = keras.activations.linear
    dense = all(isinstance(each, keras.layers.Dense) for each in layers)
    return "logits" if dense and all(each.activation is linear for each in layers) else None


SIGMOID_LOSSES = (keras.losses.BinaryCrossentropy, keras.losses.BinaryFocalCrossentropy)
SOFTMAX_LOSSES = (
    keras.losses.CategoricalCrossentropy,
    keras.losses.CategoricalFocalCrossentropy,
    keras.losses.SparseCategoricalCrossentropy,
)


def is_sigmoid(model):
    """Whether each output is a separate decision, so that its probability is a sigmoid.

    The model's loss decides it, and then the model's fact `multi_label`, which a file keeps if it
    is loaded with `compile=False`. One output of a model that is not compiled is a separate
    decision too, because the softmax of one logit is always 1.
    """
    if kind_of_output(model) == "probabilities":
        return False
    loss = getattr(model, "loss", None)
    if isinstance(loss, SIGMOID_LOSSES):
        return loss.from_logits
    if isinstance(loss, SOFTMAX_LOSSES):
        return False
    if hasattr(loss, "kind"):  # km.training.Crossentropy
        return loss.kind == "sigmoid"
    is_single = loss is None and model.outputs[0].shape[-1] == 1
    return is_single or bool(fact_of(model, "multi_label"))


def check_one_logit(model, hint=""):
    """Raise a ValueError if a model has one logit, and its loss does not use a sigmoid.

    `hint` ends the message.
    """
    if model.outputs[0].shape[-1] == 1 and not is_sigmoid(model):
        raise ValueError(
            "`model` must have two or more outputs, or be compiled with Recipe(loss='sigmoid'),"
            " because the softmax of one logit is always 1. Received:"
            f" {model.name!r} with one output and the loss {model.loss!r}{hint}"
        )


def probabilities(model, outputs):
    """The probabilities that the outputs `(N, num_classes)` mean.

    They are the softmax of logits, or a sigmoid of each, or the outputs of a softmax.
    """
    if kind_of_output(model) == "probabilities":
        return outputs
    return keras.ops.sigmoid(outputs) if is_sigmoid(model) else keras.ops.softmax(outputs)
