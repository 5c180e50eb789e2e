"""What the outputs of a model mean."""

import keras


def is_sigmoid(model):
    """Whether the model's loss treats each class as a separate decision, so uses a sigmoid."""
    loss = getattr(model, "loss", None)
    return getattr(loss, "kind", None) == "sigmoid" or (
        isinstance(loss, keras.losses.BinaryCrossentropy) and loss.from_logits
    )
