"""Where the next iteration over a training dataset begins, which `km.training.Backup` checks."""


def with_position(dataset, position):
    """The dataset of `load`, with a function that returns the (epoch, batch) of the next batch."""
    dataset.keras_mixers_position = position
    return dataset


def origin_of(data):
    """The dataset of `load` from which `data` was made, such as by `map`; None for other data."""
    while data is not None and not hasattr(data, "keras_mixers_position"):
        inputs = data._inputs() if hasattr(data, "_inputs") else []
        data = inputs[0] if len(inputs) == 1 else None
    return data
