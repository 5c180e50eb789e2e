"""Memory of a trial: release what TensorFlow keeps, and fail the trial if memory runs out."""

import contextlib

import keras

from keras_mixers.tuning.budget import InfeasibleError


@contextlib.contextmanager
def released_gradients():
    """Release what TensorFlow stores about the graphs that are traced inside the context.

    TensorFlow registers each custom gradient until the process ends. Our fused CPU kernels have
    custom gradients, and so have some operations of TensorFlow. Each registered gradient keeps its
    graph, with weights and data, in memory. The traced graphs work after the release too.
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
def infeasible_if_out_of_memory():
    """Raise `InfeasibleError` instead of an out-of-memory error; raise other errors as they are."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        first_line = str(error).strip().partition("\n")[0]
        raise InfeasibleError(f"out of memory ({type(error).__name__}: {first_line})") from None


def is_out_of_memory(error):
    """Whether an error says that TensorFlow, JAX, NumPy or Python has run out of memory."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ in ("OutOfMemoryError", "ResourceExhaustedError")
        or "RESOURCE_EXHAUSTED" in str(error)  # because JAX and XLA have only this text
    )
