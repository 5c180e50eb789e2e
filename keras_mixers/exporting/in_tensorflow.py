"""Export a model on JAX or torch: another process exports a copy of it in TensorFlow.

The processes exchange three files: the model, the request, and the answer. The request holds the
arguments of `export`, images, and the model's outputs for them. The answer is the report or the
error, and the warnings.
"""

import json
import os
import pathlib
import pickle
import subprocess
import sys
import warnings
import zipfile

import keras

from keras_mixers import arguments, files
from keras_mixers.exporting import validation, verify
from keras_mixers.exporting.serving import MAX_IMAGES, Serving, calibration_arrays
from keras_mixers.models.outputs import is_sigmoid

MODEL, REQUEST, ANSWER = "model.keras", "request.pickle", "answer.pickle"
# What the other process runs. It ends by an exception, so that temporary files are removed.
PROGRAM = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
from keras_mixers.exporting import export, in_tensorflow
in_tensorflow.answer(sys.argv[1], export)
"""
# How the lines begin that TensorFlow prints while it looks for GPUs.
NOISE = (b"WARNING: All log messages before absl", b"I0000 ", b"W0000 ", b"E0000 ")
# A loss, by whether probabilities are the sigmoid of logits (`is_sigmoid`).
LOSSES = {True: keras.losses.BinaryCrossentropy, False: keras.losses.CategoricalCrossentropy}


def export(model, path, **options):
    """`keras_mixers.export` with the same arguments, on any backend of Keras."""
    validation.check_model(model)
    with files.temporary_folder() as folder:
        model.save(folder / MODEL)
        request = request_for(model, path, options, folder / MODEL)
        (folder / REQUEST).write_bytes(pickle.dumps(request))
        status = run(folder)
        if not (folder / ANSWER).exists():
            raise RuntimeError(
                "The process that exports the model in TensorFlow ended without an answer, with"
                f" exit status {status}. `path` is unchanged"
            )
        report, error, warned = pickle.loads((folder / ANSWER).read_bytes())
    try:
        for message, category in warned:
            arguments.warn(message, category)
    finally:  # because a user's filter may make warnings errors
        if error:
            raise error
    return report


def request_for(model, path, options, file):
    """What the other process needs besides the model's file."""
    data = options.get("calibration_data")
    if data is not None:
        options = {**options, "calibration_data": first_images(data)}
    serving = Serving(model)
    images = verify.random_images(serving, 1)
    outputs = serving.model_outputs(keras.ops.convert_to_tensor(images))
    return {
        "path": path,
        "options": options,
        "modules": modules_of_registered_objects(file),
        "is_sigmoid": is_sigmoid(model),
        "images": images,
        "outputs": {name: as_float32(output) for name, output in outputs.items()},
    }


def first_images(data):
    """The calibration images that `export` reads, as a list of arrays."""
    arrays, count = [], 0
    for array in calibration_arrays(data):
        arrays.append(array[:MAX_IMAGES])
        count += len(arrays[-1])
        if count >= MAX_IMAGES:
            break
    return arrays


def as_float32(x):
    """A tensor of any float dtype as an array."""
    return keras.ops.convert_to_numpy(keras.ops.cast(x, "float32"))


def modules_of_registered_objects(file):
    """The modules of the user's registered classes and functions that a model's file names."""
    with zipfile.ZipFile(file) as archive:
        config = archive.read("config.json").decode()
    registered = keras.saving.get_custom_objects().items()
    used = [thing for name, thing in registered if json.dumps(name) in config]
    modules = {thing.__module__ for thing in used if hasattr(thing, "__module__")}
    if "__main__" in modules:
        raise ValueError(
            "`model` must not use classes or functions that a script or a notebook defines, because"
            " another process exports it in TensorFlow. Move them into a module and import it"
        )
    return sorted(modules)


def run(folder):
    """Run `answer` in another process, print what it prints to stderr, and return its status."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            for line in process.stdout:
                if not line.startswith(NOISE):
                    sys.stderr.write(line.decode(errors="replace"))
                    sys.stderr.flush()
        except BaseException:
            process.terminate()
            raise
    return process.returncode


def environment():
    """The environment variables of the other process."""
    # TensorFlow ends the process if `XLA_FLAGS` has a flag of JAX that it does not know.
    inherited = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return {
        "TF_CPP_MIN_LOG_LEVEL": "2",
        **inherited,
        "KERAS_BACKEND": "tensorflow",
        "PYTHONPATH": os.pathsep.join(folder or str(pathlib.Path.cwd()) for folder in sys.path),
        "CUDA_VISIBLE_DEVICES": "-1",  # because the first process may hold the GPU's memory
    }


def answer(folder, export):
    """Export as a request asks, and write the report or the error, and the warnings.

    The other process calls this function.

    Args:
        folder: the folder with the request.
        export: `keras_mixers.export`.
    """
    folder = pathlib.Path(folder)
    report = problem = None
    with warnings.catch_warnings(record=True) as caught:
        try:
            request = pickle.loads((folder / REQUEST).read_bytes())
            model = copy_of(folder / MODEL, request)
            check_same_outputs(model, request["images"], request["outputs"])
            report = export(model, request["path"], **request["options"])
        except Exception as error:  # the first process raises it
            name = type(error).__name__
            problem = error if is_builtin(type(error)) else RuntimeError(f"{name}: {error}")
    warned = [
        (str(each.message), each.category if is_builtin(each.category) else UserWarning)
        for each in caught
    ]
    (folder / ANSWER).write_bytes(pickle.dumps((report, problem, warned)))


def is_builtin(kind):
    """Whether a class is Python's, so that the first process knows it."""
    return kind.__module__ == "builtins"


def copy_of(file, request):
    """The model in a file, compiled with a loss that gives the same probabilities."""
    try:
        for module in request["modules"]:
            __import__(module)
        model = keras.models.load_model(file, compile=False)
    except Exception as error:  # Keras raises many kinds of errors
        raise ValueError(
            "`model` must be a model that another process can load, because that process exports it"
            " in TensorFlow. Register the model's own classes and functions by"
            " keras.saving.register_keras_serializable, in a module. Keras's message:"
            f" {error}"
        ) from error
    model.compile(loss=LOSSES[request["is_sigmoid"]](from_logits=True))
    return model


def check_same_outputs(model, images, expected):
    """Raise RuntimeError if a copy of the model in TensorFlow computes other outputs."""
    precision = verify.precision_of(model)
    for name, output in Serving(model).model_outputs(images).items():
        error, tolerance = verify.error_and_tolerance(as_float32(output), expected[name], precision)
        if not error <= tolerance:  # also raises if the error is NaN
            raise RuntimeError(
                f"The model's {name!r} in TensorFlow differs from that in the Keras backend of this"
                f" process by {error:.2e}, more than the tolerance of {tolerance:.2e}; `path` is"
                " unchanged"
            )
