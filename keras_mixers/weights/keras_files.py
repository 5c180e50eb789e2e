"""Load Keras's own files, `.keras` and `.weights.h5`, completely or not at all."""

import io
import pathlib
import tempfile
import zipfile

import numpy as np

from keras_mixers.weights.checkpoint import reading
from keras_mixers.weights.report import LoadReport

# By kind of file: a name that lets Keras choose the right reader.
NAMES = {"keras": "model.keras", "h5": "model.weights.h5"}
MOST_LISTED = 5  # lines in an error


def load(model, source, kind):
    """Compare a file with the model, then load it with Keras.

    After any error the model and its optimizer get their previous values back.
    """
    with tempfile.TemporaryDirectory() as folder:
        current = pathlib.Path(folder, "current.weights.h5")
        model.save_weights(current)
        check_shapes(file_shapes(source, kind), file_shapes(current, "h5"), source)

        variables = {id(variable): variable for variable in model.variables}
        if getattr(model, "optimizer", None):
            variables |= {id(variable): variable for variable in model.optimizer.variables}
        before = [(variable, variable.numpy()) for variable in variables.values()]
        # Link to the source, because it may have any name.
        path = pathlib.Path(folder, NAMES[kind])
        path.symlink_to(pathlib.Path(source).absolute())
        try:
            model.load_weights(path)
        except BaseException:
            for variable, value in before:
                variable.assign(value)
            raise
    return LoadReport(f"Keras {kind}", len(model.weights), {}, {}, {})


def file_shapes(source, kind):
    """`{name: shape}` of a file's weights, without the optimizer's.

    Raises:
        ValueError: if the file is damaged or holds NaN or infinite values.
    """
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
            infinite = [n for n, a in arrays.items() if a.dtype.kind == "f" and not finite(a)]
    if infinite:
        raise ValueError(
            f"`source` must be finite. Received: NaN or infinite values in {infinite[0]!r}"
        )
    return shapes


def finite(array):
    """Whether an array on disk has only finite values."""
    return bool(np.isfinite(array[...]).all())


def check_shapes(in_file, in_model, source):
    """Raise ValueError if names or shapes differ, because Keras could load a part of the file."""
    lines = [
        f"{n!r} {in_file[n]} in the file is {in_model[n]} in the model"
        for n in in_file.keys() & in_model
        if in_file[n] != in_model[n]
    ]
    lines += [f"{n!r} {in_file[n]} has no place in the model" for n in in_file.keys() - in_model]
    lines += [f"{n!r} {in_model[n]} is missing in the file" for n in in_model.keys() - in_file]
    if lines:
        raise ValueError(
            f"`source` does not fit the model, which is unchanged. Received: '{source}':\n  "
            + "\n  ".join(sorted(lines)[:MOST_LISTED])
        )
