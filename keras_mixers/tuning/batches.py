"""The data of a trial: batches of the size, and augmented as, its recipe says."""

import math

from keras_tuner.errors import FatalTypeError, FatalValueError


def batches(recipe, load, data, options):
    """What `model.fit` takes, and how many batches a pass has.

    Args:
        recipe: has the size of a batch and the augmentation.
        load: makes batches of them, or None.
        data: else the data itself: arrays are cut into batches, batches taken as they are.
        options: the keywords of `model.fit`.

    Returns:
        (positional arguments of `fit`, its keywords, steps in an epoch)

    Raises:
        FatalTypeError, FatalValueError: these end a search, rather than every trial in turn.
    """
    if load is not None:
        return loaded(recipe, load, data, options)
    x = data[0] if data else options.get("x")
    if x is None:
        raise FatalTypeError(
            "search() must be given the data: load=..., arrays x, y, or batches. Received: none"
        )
    if "batch_size" in options:
        raise FatalTypeError(
            "`batch_size` must be left to the space, each of whose points has one; its constructor"
            f" fixes it. Received: search() with batch_size={options['batch_size']!r}"
        )
    if hasattr(x, "shape"):
        images = len(x) - int(len(x) * options.get("validation_split", 0.0))
        steps = options.get("steps_per_epoch") or math.ceil(images / recipe.batch_size)
        return data, {**options, "batch_size": recipe.batch_size}, steps
    return data, options, options.get("steps_per_epoch") or length(x)


def loaded(recipe, load, data, options):
    """The same from `load`, which knows the images and not yet the batches."""
    given = [name for name in ("x", "y", "validation_data", "batch_size") if name in options]
    if data or given or not callable(load):
        raise FatalTypeError(
            "`load` must be a function, load(batch_size=..., augmentation=...) -> (train,"
            " validation, ...), in place of x, y, batch_size and validation_data. Received:"
            f" load={load!r} with {given or len(data)} of those"
        )
    train, validation, *_ = load(batch_size=recipe.batch_size, augmentation=recipe.augmentation)
    # The pipeline shuffles; `shuffle=False` says that fit need not.
    options = {"shuffle": False, **options, "validation_data": validation}
    return (train,), options, options.get("steps_per_epoch") or length(train)


def length(dataset):
    """How many batches a pass has; a schedule must know."""
    try:
        return len(dataset)
    except TypeError:
        raise FatalValueError(
            "search() must be given steps_per_epoch with batches whose number is not known."
            f" Received: {dataset!r}"
        ) from None
