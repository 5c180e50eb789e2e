"""The data of a trial, with the batch size and the augmentation of its recipe."""

import math

from keras_tuner.errors import FatalTypeError, FatalValueError

from keras_mixers import arguments


def fit_arguments(recipe, load, data, options, load_options):
    """Prepare the arguments of `model.fit` and count the steps of an epoch.

    Args:
        recipe: has the batch size and the augmentation.
        load: a function that makes batches with both, or None.
        data: the positional arguments of `model.fit` if `load` is None. Arrays are divided into
            batches by the recipe's batch size. A dataset of batches is used unchanged.
        options: the keywords of `model.fit`.
        load_options: further keywords of `load`.

    Returns:
        (positional arguments of `fit`, keywords of `fit`, steps in an epoch)

    Raises:
        FatalTypeError, FatalValueError: if the data are invalid. KerasTuner ends the search then,
            instead of failing one trial after the other.
    """
    if load is not None:
        return load_batches(recipe, load, data, options, load_options)
    x = data[0] if data else options.get("x")
    if x is None:
        raise FatalTypeError(
            "search() must be given the data: load=..., arrays x, y, or batches. Received: none"
        )
    if "batch_size" in options:
        raise FatalTypeError(
            "`batch_size` must not be passed to search(), because the space searches it. To fix it,"
            " pass it to the space's constructor. Received: search() with"
            f" batch_size={arguments.shown(options['batch_size'])}"
        )
    if hasattr(x, "shape"):
        images = len(x) - int(len(x) * options.get("validation_split", 0.0))
        steps = options.get("steps_per_epoch") or math.ceil(images / recipe.batch_size)
        return data, {**options, "batch_size": recipe.batch_size}, steps
    return data, options, options.get("steps_per_epoch") or count_batches(x)


def load_batches(recipe, load, data, options, load_options):
    """The result of `fit_arguments` for the batches that the function `load` makes."""
    given = [name for name in ("x", "y", "validation_data", "batch_size") if name in options]
    given += ["positional arguments"] if data else []
    if given or not callable(load):
        raise FatalTypeError(
            "`load` must be a function, load(batch_size=..., augmentation=...) -> (train,"
            " validation, ...), and x, y, batch_size and validation_data must not be passed with"
            f" it. {arguments.received(load=load)} with {', '.join(given) or 'none of these'}"
        )
    train, validation, *_ = load(
        batch_size=recipe.batch_size, augmentation=recipe.augmentation, **load_options
    )
    # Because the pipeline of `load` shuffles, `fit` need not.
    options = {"shuffle": False, **options, "validation_data": validation}
    return (train,), options, options.get("steps_per_epoch") or count_batches(train)


def count_batches(dataset):
    """The number of batches in an epoch, which the learning rate schedule needs."""
    try:
        return len(dataset)
    except TypeError:
        raise FatalValueError(
            "search() must be given steps_per_epoch if the dataset does not know its length."
            f" Received: {arguments.shown(dataset)}"
        ) from None
