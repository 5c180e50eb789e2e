"""Memory: what a trial leaves behind, and a trial for which there is not enough."""

import contextlib

import keras

from keras_mixers.tuning.budget import InfeasibleError


@contextlib.contextmanager
def forgotten_gradients():
    """What TensorFlow remembers of the graphs traced inside is forgotten at the end.

    It registers each custom gradient (our layers have some on CPUs, its own operations others) for
    as long as the process lives, and with it the graph, its weights and its data. The graphs traced
    so far keep working.
    """
    if keras.backend.backend() != "tensorflow":
        yield
        return
    from tensorflow.python.framework.ops import gradient_registry

    before = set(gradient_registry.list())
    try:
        yield
    finally:
        for name in set(gradient_registry.list()) - before:
            if name.startswith("CustomGradient-"):
                del gradient_registry._registry[name]


@contextlib.contextmanager
def within_memory():
    """What needs more memory than there is becomes infeasible; other errors stay what they are."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        first_line = str(error).strip().partition("\n")[0]
        raise InfeasibleError(f"out of memory ({type(error).__name__}: {first_line})") from None


def is_out_of_memory(error):
    """Whether TensorFlow, JAX, NumPy or Python has run out of memory."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ in ("OutOfMemoryError", "ResourceExhaustedError")
        or "RESOURCE_EXHAUSTED" in str(error)  # of JAX, and of XLA
    )
