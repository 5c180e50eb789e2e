"""Models whose weights have shapes and no values, to count parameters and multiply-adds."""

import contextlib

import keras

from keras_mixers.graph import uninitialized_variables


@contextlib.contextmanager
def abstract_weights():
    """Make a context in which models have weights with a shape and no values.

    Building such a model takes no memory for weights and little time. `count_params()` and
    `count_flops` work on the model; calling it does not.

    Example:
        >>> from keras_mixers import ViT
        >>> with abstract_weights():
        ...     model = ViT("B/16")
        >>> f"{model.count_params():,}"
        '86,567,656'
    """
    # Keras keeps a list of such weights. It would allocate all of them, billions of numbers, at
    # the next stateless call of any model, so this context removes them from the list. Keras's
    # `clear_session()` would also reset the user's dtype policy and seed.
    postponed = uninitialized_variables()
    before = len(postponed)
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        del postponed[before:]
