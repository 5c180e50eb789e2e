"""Where the next iteration over a training dataset begins, which `km.training.Backup` checks."""

# The datasets of TensorFlow whose batches have the order of their input. A shuffle has another
# order after a resume, and a cache would repeat the resumed part of an epoch.
IN_ORDER = {"_MapDataset", "_ParallelMapDataset", "_PrefetchDataset", "_OptionsDataset"}


def with_position(dataset, position, return_to):
    """The dataset of `load`, with two functions.

    Args:
        dataset: a dataset whose iterations are one epoch after the other.
        position: () -> the (epoch, batch) of the next batch.
        return_to: epoch -> None; the next iteration is this epoch.
    """
    dataset.keras_mixers_position = position
    dataset.keras_mixers_return_to = return_to
    return dataset


def origin_of(data):
    """The dataset of `load` from which `data` was made by `map` or `prefetch`; else None."""
    while not hasattr(data, "keras_mixers_position"):
        if type(data).__name__ not in IN_ORDER:
            return None
        (data,) = data._inputs()
    return data


def first_batch(data):
    """The first batch of the next iteration; None if there is none.

    For a dataset of `load`, the next iteration stays the same, also if the epoch has one batch or a
    prefetch has read all of them.
    """
    origin = origin_of(data)
    epoch = None if origin is None else origin.keras_mixers_position()[0]
    iterator = iter(data)
    batch = next(iterator, None)
    del iterator  # because a prefetch may read more batches until then
    if origin is not None:
        origin.keras_mixers_return_to(epoch)
    return batch
