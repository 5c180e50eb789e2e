"""Where the next iteration over a training dataset begins, which `km.training.Backup` checks."""

# The datasets of TensorFlow whose batches have the order of their input. A shuffle has another
# order after a resume, and a cache would repeat the resumed part of an epoch.
IN_ORDER = {"_MapDataset", "_ParallelMapDataset", "_PrefetchDataset", "_OptionsDataset"}


def with_position(dataset, position):
    """The dataset of `load`, with a function that returns the (epoch, batch) of the next batch."""
    dataset.keras_mixers_position = position
    return dataset


def origin_of(data):
    """The dataset of `load` from which `data` was made by `map` or `prefetch`; else None."""
    while not hasattr(data, "keras_mixers_position"):
        if type(data).__name__ not in IN_ORDER:
            return None
        (data,) = data._inputs()
    return data
