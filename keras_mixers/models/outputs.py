"""What the outputs of a model mean."""

import keras


def is_sigmoid(model):
    """Whether the model's loss treats each class as a separate decision, so uses a sigmoid."""
    loss = getattr(model, "loss", None)
    return getattr(loss, "kind", None) == "sigmoid" or (
        isinstance(loss, keras.losses.BinaryCrossentropy) and loss.from_logits
    )


def probabilities(model, logits):
    """The probabilities that a model's logits mean: their softmax, or a sigmoid of each."""
    return keras.ops.sigmoid(logits) if is_sigmoid(model) else keras.ops.softmax(logits)
