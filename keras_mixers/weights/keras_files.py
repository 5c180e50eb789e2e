"""Keras's own files, `.keras` and `.weights.h5`, filled in whole or not at all."""

import io
import pathlib
import tempfile
import zipfile

import numpy as np

from keras_mixers.weights.checkpoint import reading
from keras_mixers.weights.report import LoadReport

ENDINGS = {"keras": "model.keras", "h5": "model.weights.h5"}


def load(model, source, kind):
    """Load by Keras what was compared first; on any failure the model gets back what it had."""
    with tempfile.TemporaryDirectory() as folder:
        mine = pathlib.Path(folder, "mine.weights.h5")
        model.save_weights(mine)
        compare(arrays_of(source, kind), arrays_of(mine, "h5"), source)

        variables = {id(variable): variable for variable in model.variables}
        if getattr(model, "optimizer", None):
            variables |= {id(variable): variable for variable in model.optimizer.variables}
        before = [(variable, variable.numpy()) for variable in variables.values()]
        # Keras goes by a file's ending, we by what is in it.
        path = pathlib.Path(folder, ENDINGS[kind])
        path.symlink_to(pathlib.Path(source).absolute())
        try:
            model.load_weights(path)
        except BaseException:
            for variable, value in before:
                variable.assign(value)
            raise
    return LoadReport(f"Keras {kind}", len(model.weights), {}, {}, {})


def arrays_of(source, kind):
    """`{name: shape}` of a file's weights, the optimizer's left out; finite or refused."""
    import h5py

    with reading(source):
        if kind == "keras":
            with zipfile.ZipFile(source) as archive:
                source = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(source, "r") as file:
            found = {}
            file.visititems(lambda name, item: found.update({name: item}))
            arrays = {n: a for n, a in found.items() if isinstance(a, h5py.Dataset)}
            arrays = {n: a for n, a in arrays.items() if not n.startswith("optimizer/")}
            shapes = {name: array.shape for name, array in arrays.items()}
            odd = [n for n, a in arrays.items() if a.dtype.kind == "f" and not finite(a)]
    if odd:
        raise ValueError(f"`source` must be finite. Received: numbers that are not in {odd[0]!r}")
    return shapes


def finite(array):
    """Whether all numbers of an array on disk are."""
    return bool(np.isfinite(array[...]).all())


def compare(theirs, mine, source):
    """Refuse a file that Keras would fill a part of the model from."""
    lines = [
        f"{n!r} {theirs[n]} in the file is {mine[n]} in the model"
        for n in theirs.keys() & mine
        if theirs[n] != mine[n]
    ]
    lines += [f"{n!r} {theirs[n]} has no place in the model" for n in theirs.keys() - mine]
    lines += [f"{n!r} {mine[n]} is missing in the file" for n in mine.keys() - theirs]
    if lines:
        raise ValueError(
            f"`source` does not fit the model, which is unchanged. Received: '{source}':\n  "
            + "\n  ".join(sorted(lines)[:5])
        )
