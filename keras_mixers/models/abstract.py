"""Models of shapes alone: what is counted of them needs no weights."""

import contextlib

import keras

from keras_mixers.graph import uninitialized_variables


@contextlib.contextmanager
def abstract_weights():
    """Models built inside have weights of a shape and no value: no memory, and little time.

    `count_params()` and `count_flops` tell of them what they tell of others; they compute nothing.

    Example:
        >>> from keras_mixers import ViT
        >>> with abstract_weights():
        ...     model = ViT("B/16")
        >>> f"{model.count_params():,}"
        '86,567,656'
    """
    # Keras remembers such weights, and would make all of them, billions of numbers, the next time
    # any model computes without state: it is told to forget them. Its `clear_session()` would do
    # so too, and forget the user's dtype policy and seed.
    waiting = uninitialized_variables()
    before = len(waiting)
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        del waiting[before:]
