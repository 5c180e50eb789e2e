"""The file of a `Backup`: Keras's weights in HDF5, the progress as JSON, and a digest at the end.

The file is made and read in memory, because HDF5 ends the process by a signal if it writes to a
full disk. The digest covers all bytes, so that no damage remains unnoticed.
"""

import dataclasses
import hashlib
import io
import json

import numpy as np
from keras import ops

from keras_mixers import hdf5
from keras_mixers.arguments import shown
from keras_mixers.files import replacing
from keras_mixers.graph import disabled_lora, lora_layers, lora_matrices
from keras_mixers.serialization import parse_json
from keras_mixers.training import processes

PROGRESS = "keras_mixers_progress"  # the dataset in the HDF5 file that holds the progress as JSON
SEEDS = "keras_mixers_seeds"  # the group of the states of seed generators, and of LoRA matrices
LABEL = b"\nkeras_mixers backup 2 blake2b "
MOST = 2**40  # epochs or batches


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far training is, and the metrics of each epoch."""

    epoch: int = 0
    batch: int = 0
    history: dict = dataclasses.field(default_factory=dict)


class NamedBytes(io.BytesIO):
    """A file in memory, with the name that Keras expects of a weights file."""

    def __str__(self):
        return "memory.weights.h5"


def write(path, model, progress):
    """Replace the file by one with the state of the model and its optimizer."""
    import h5py

    content = state_of(model)
    with h5py.File(content, "r+") as file:
        file[PROGRESS] = json.dumps(dataclasses.asdict(progress))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(content.getbuffer())
        file.write(trailer(content.getbuffer()))


def read(path):
    """`(progress, content)` of the file, or `(Progress(), None)` without a file.

    Raises:
        ValueError: if the file is damaged, or was not written by `write`.
    """
    if path.exists() and not path.is_file():
        raise invalid(path, "it is not a regular file")
    try:
        data = memoryview(path.read_bytes())
    except FileNotFoundError:
        return Progress(), None
    length = len(trailer(b""))
    content = data[:-length]
    if data[-length:] != trailer(content):
        raise invalid(path, "it is damaged, incomplete or another file, because its digest differs")
    content = NamedBytes(content)
    try:
        return check(content), content
    except Exception as error:  # h5py raises exceptions of many types
        raise invalid(path, error) from None


def check(content):
    """The progress in the content of a file whose arrays are all finite."""
    import h5py

    with h5py.File(content, "r") as file:
        for name, dataset in datasets(file).items():
            if dataset.dtype.kind in "OS":
                raise ValueError(f"{name} has text instead of numbers")
            array = hdf5.array_of(dataset)
            if array.dtype.kind not in "biu" and not np.isfinite(array).all():
                raise ValueError(f"{name} has NaN or infinite values")
        return check_progress(parse_json(hdf5.array_of(file[PROGRESS])))


def check_progress(record):
    """The `Progress` of a JSON value."""
    names = [field.name for field in dataclasses.fields(Progress)]
    if not isinstance(record, dict) or sorted(record) != sorted(names):
        raise ValueError(f"its progress must be a dict of {', '.join(names)}")
    for name in ("epoch", "batch"):
        if type(record[name]) is not int or not 0 <= record[name] <= MOST:
            raise ValueError(
                f"its `{name}` must be an integer of at least 0, not {shown(record[name])}"
            )
    history = record["history"]
    # A metric may be NaN: the validation loss can be, while the training loss is finite.
    if not isinstance(history, dict) or not all(
        isinstance(values, list) and all(type(value) in (int, float) for value in values)
        for values in history.values()
    ):
        raise ValueError("its `history` must be a dict of lists of numbers")
    return Progress(**record)


def restore(path, content, model):
    """Assign the state in `content` to the model and its optimizer, completely or not at all.

    Raises:
        ValueError: if the state is not of this model and this optimizer.
    """
    if processes.count() > 1:
        with processes.assigned_together(variables(model)):
            check_layout(path, content, state_of(model))
            assign(content, model)
        return
    before = state_of(model)
    check_layout(path, content, before)
    try:
        assign(content, model)
    except BaseException:
        assign(before, model)
        raise


def check_layout(path, content, state):
    """Raise a ValueError if two contents differ in the names, shapes or dtypes of their arrays."""
    saved, current = layout(content), layout(state)
    if saved != current:
        name = min(saved.items() ^ current.items())[0]
        raise ValueError(
            "`path` must be a backup of this model and this optimizer. Received:"
            f" path={path}, whose {len(saved)} arrays differ in name, shape or dtype from the"
            f" {len(current)} arrays here, for example {name}:"
            f" {saved.get(name, 'none')} instead of {current.get(name, 'none')}"
        )


def state_of(model):
    """The weights, optimizer and seeds of a model as a Keras weights file in memory."""
    import h5py

    content = NamedBytes()
    with disabled_lora(model):  # or Keras would save the sum of a kernel and its LoRA matrices
        model.save_weights(content)
    with h5py.File(content, "r+") as file:
        for i, variable in enumerate(seeds_and_lora(model)):
            file[f"{SEEDS}/{i}"] = ops.convert_to_numpy(variable)
    return content


def variables(model):
    """All variables of a model and its optimizer."""
    return [*model.variables, *model.optimizer.variables]


def assign(content, model):
    """Assign the content of `state_of`."""
    import h5py

    model.load_weights(content)
    with h5py.File(content, "r") as file:
        for i, variable in enumerate(seeds_and_lora(model)):
            variable.assign(file[f"{SEEDS}/{i}"][()])


def seeds_and_lora(model):
    """The states of seed generators, which Keras does not save with most layers; LoRA matrices."""
    weights = {id(weight) for weight in model.weights}
    seeds = [variable for variable in model.variables if id(variable) not in weights]
    return seeds + [matrix for layer in lora_layers(model) for matrix in lora_matrices(layer)]


def layout(content):
    """`{name: (shape, dtype)}` of the arrays in a weights file."""
    import h5py

    with h5py.File(content, "r") as file:
        return {name: (array.shape, str(array.dtype)) for name, array in datasets(file).items()}


def datasets(file):
    """`{name: dataset}` of the arrays in an HDF5 file, without the progress."""
    import h5py

    found = {name: item for name, item in hdf5.items(file) if isinstance(item, h5py.Dataset)}
    found.pop(PROGRESS, None)
    return found


def trailer(content):
    """The bytes that follow the content."""
    return LABEL + hashlib.blake2b(content, digest_size=32).hexdigest().encode()


def invalid(path, reason):
    """A ValueError for a file that cannot be used."""
    return ValueError(
        "`path` must be a file that a Backup wrote, or must not exist. Received:"
        f" path={path}: {reason}. Restore a copy of the file, or delete it to train from the"
        " beginning"
    )
