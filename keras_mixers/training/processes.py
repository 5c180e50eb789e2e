"""What the processes of one training run do together, on JAX.

With one process, each function does its part without JAX. With several, all processes must call the
same functions in the same order, because each call waits for all processes.
"""

import contextlib
import functools
import zlib

import keras
import numpy as np

from keras_mixers import graph

MOST_TEXT = 2000  # bytes of an error message that the other processes receive
# The errors of a `Backup`. All other errors of another process become a RuntimeError.
SHARED = {error.__name__: error for error in (FloatingPointError, OSError, TypeError, ValueError)}


def count():
    """The number of processes that train together."""
    if keras.backend.backend() != "jax":
        return 1
    import jax

    return jax.process_count()


def is_first():
    """Whether this process writes the files."""
    if count() == 1:
        return True
    import jax

    return jax.process_index() == 0


def highest(number):
    """The highest of the integers that the processes give."""
    if count() == 1:
        return number
    return int(highest_of_devices()(global_number(number)))


def together(action):
    """Call `action` in each process, and return its result; if one fails, raise in all.

    Raises:
        ValueError, TypeError, OSError, FloatingPointError, RuntimeError: if `action` raises this
            error, here or in another process. The message then names the other process.
    """
    if count() == 1:
        return action()
    import jax

    result = failure = None
    try:
        result = action()
    except Exception as error:
        failure = error
    # The lowest process that failed has the highest number.
    rank = jax.process_count() - jax.process_index()
    failed = jax.process_count() - highest(rank if failure else 0)
    if failed == jax.process_count():
        return result
    record = text_of_process(failed, f"{type(failure).__name__}\n{failure}")
    name, _, text = record.partition("\n")
    if failure:
        raise failure
    raise SHARED.get(name, RuntimeError)(f"process {failed} stopped with {name}: {text}")


def first(action):
    """Call `action` in the first process, and return its result there; if it fails, raise in all.

    Raises:
        ValueError, TypeError, OSError, FloatingPointError, RuntimeError: as in `together`.
    """
    return together(action if is_first() else lambda: None)


def check_equal(content, message):
    """Raise a ValueError in all processes if they have different bytes."""
    if count() == 1:
        return
    number = zlib.crc32(content) >> 1  # a positive int32
    if highest(number) != -highest(-number):
        raise ValueError(message)


@contextlib.contextmanager
def whole_values(variables):
    """A scope in which each variable has its whole value in the first process.

    A process can read only the parts of a value that are on its devices. The parts come here one
    variable after the other, because the devices may not have the memory for all. In the other
    processes the scope changes nothing.
    """
    if count() == 1:
        yield
        return
    from jax.experimental import multihost_utils

    values = []
    for variable in variables:
        value = variable.value
        if not (value.is_fully_addressable or value.is_fully_replicated):
            value = multihost_utils.process_allgather(value, tiled=True)
        if is_first():
            values.append(np.asarray(value))
    with local(variables, values) if is_first() else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def assigned_together(variables):
    """A scope whose assignments reach the variables at its end, on the devices of all processes.

    All processes assign the same whole values. After an error, no variable has changed.
    """
    if count() == 1:
        yield
        return
    import jax

    with local(variables, [np.zeros(v.shape, v.dtype) for v in variables]):
        yield
        values = [np.asarray(variable.value) for variable in variables]
    for variable, value in zip(variables, values, strict=True):
        sharding = variable.value.sharding
        variable.assign(jax.make_array_from_callback(value.shape, sharding, value.__getitem__))


@contextlib.contextmanager
def local(variables, values):
    """A scope in which the variables have these values, in the memory of this process."""
    import jax

    memory = jax.default_device(jax.local_devices(backend="cpu")[0])
    with memory, graph.other_values(variables, values):
        yield


@functools.cache
def mesh_of_processes():
    """One device of each process, in the order of the processes."""
    import jax

    devices = {device.process_index: device for device in reversed(jax.devices())}
    return jax.sharding.Mesh([devices[i] for i in range(jax.process_count())], ["process"])


@functools.cache
def highest_of_devices():
    """The compiled function of `highest`."""
    import jax

    everywhere = jax.sharding.NamedSharding(mesh_of_processes(), jax.sharding.PartitionSpec())
    return jax.jit(jax.numpy.max, out_shardings=everywhere)


@functools.lru_cache(maxsize=16)  # because each step passes the same few numbers
def global_number(number):
    """An array of one number of each process; each is on a device of its process."""
    import jax

    mesh = mesh_of_processes()
    part = jax.device_put(np.full(1, number, "int32"), mesh.local_devices[0])
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("process"))
    return jax.make_array_from_single_device_arrays((mesh.size,), spread, [part])


def text_of_process(index, text):
    """The text that one process gives, in all processes, shortened to `MOST_TEXT` bytes."""
    import jax
    from jax.experimental import multihost_utils

    data = np.frombuffer(text.encode()[:MOST_TEXT].ljust(MOST_TEXT), "uint8")
    data = multihost_utils.broadcast_one_to_all(data, jax.process_index() == index)
    return data.tobytes().decode(errors="ignore").strip()
