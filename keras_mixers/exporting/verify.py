"""Compare the outputs of an exported file with the outputs of the model."""

import statistics
import time

import numpy as np

from keras_mixers.exporting.serving import batches_of
from keras_mixers.graph import all_layers

BATCHES = (1, 3)  # two sizes, because one would not show a batch size that is fixed by mistake
# The largest difference that is allowed, relative to the largest output if that is above 1.
TOLERANCES = {"float32": 1e-4, "float16": 2e-2}
# In int8: the norm of all differences, relative to the norm of all outputs.
INT8_TOLERANCE = 0.3
INT8_REMEDY = (
    ". `keep_float` leaves layers of an ONNX file in float32. Without `calibration_data`, a"
    " TensorFlow Lite file stores only weights in int8"
)
RANDOM_IMAGES = 32
ROUNDS = 5  # of calls to measure the latency
LARGE = 3 * 512**2  # numbers: four times as many are not made of a larger image


def random_images(serving, batch, size=None):
    """Random images as the file takes them: uint8 with preprocessing, else float32.

    With preprocessing they have `size`, by default the model's, if the file takes any size.
    """
    generator = np.random.default_rng(batch)
    *model_size, channels = serving.model.input_shape[1:]
    if serving.preprocessing:
        shape = (batch, *(serving.picture_size or size or model_size), channels)
        return generator.integers(0, 256, shape, dtype="uint8")
    return generator.uniform(-1, 1, (batch, *model_size, channels)).astype("float32")


def batches_to_compare(serving):
    """Yield random images, or calibration images in int8, in batches that the file must compute.

    Calibrated ranges of int8 numbers do not fit random images. With preprocessing, the second batch
    has images of another size, because a file can be right only at that of calibration images.
    """
    rows, columns = serving.model.input_shape[1:3]
    fixed = [serving.batch] * (2 if serving.preprocessing else 1)
    for i, batch in enumerate(fixed if serving.batch else BATCHES):
        if serving.quantize == "int8" and serving.calibration:
            images = serving.calibration[0]
            images = images[np.arange(batch) % len(images)]
            yield at_another_size(images) if i and serving.preprocessing else images
        else:
            yield random_images(serving, batch, (rows + 3 + 6 * i, columns + 5))


def at_another_size(images):
    """Images of about the same content, with a quarter of the pixels or four times as many."""
    if images[0].size > LARGE:
        return images[:, ::2, ::2]
    return images.repeat(2, axis=1).repeat(2, axis=2)


def largest_difference(serving, reference, run):
    """The largest absolute difference between `run(images)` and `reference(images)`.

    Args:
        serving: the `Serving`.
        reference: `serving.compiled()`, which this function compares with the model.
        run: the exported file, as its format's `load` returns it.

    Raises:
        RuntimeError: if an output is missing, has another shape, or differs too much.
    """
    remedy = INT8_REMEDY if serving.quantize == "int8" else ""
    largest = 0.0
    for i, images in enumerate(batches_to_compare(serving)):
        expected = outputs_of(reference, images)
        if i == 0:
            check_reference(serving, images, expected)
        outputs = run(images)
        for name, value in expected.items():
            difference = _checked_difference(
                name, outputs.get(name), value, serving.precision, len(images), remedy
            )
            largest = max(largest, difference)
    return largest


def outputs_of(reference, images):
    """The outputs of the reference as arrays."""
    import tensorflow as tf

    return {name: value.numpy() for name, value in reference(tf.constant(images)).items()}


def check_reference(serving, images, outputs):
    """Compare the reference, in float32, with the model under its own dtype policies."""
    prepared = serving.preprocessing(images) if serving.preprocessing else images
    precision = precision_of(serving.model)
    for name, expected in serving.model_outputs(prepared).items():
        if not np.isfinite(outputs[name]).all():
            raise RuntimeError("The model's outputs are NaN or infinite; `path` is unchanged")
        expected = np.asarray(expected, "float32")
        _checked_difference(name, outputs[name], expected, precision, len(images))


def precision_of(model):
    """Whose tolerance applies to the model's own outputs, under its dtype policies.

    Half precision differs from float32 by more than 1e-4, so the tolerance of int8 applies to it.
    """
    parts = [model, *all_layers(model)]
    mixed = any(part.compute_dtype in ("float16", "bfloat16") for part in parts)
    return "int8" if mixed else "float32"


def _checked_difference(name, output, expected, precision, batch, remedy=""):
    """The largest absolute difference of one output; RuntimeError if it exceeds the tolerance."""
    shape = None if output is None else output.shape
    if shape != expected.shape:
        raise RuntimeError(
            f"The exported file returns {name!r} of shape {shape} at batch {batch}; the model"
            f" returns {expected.shape}. `path` is unchanged"
        )
    error, tolerance = error_and_tolerance(output, expected, precision)
    if not error <= tolerance:  # also raises if the error is NaN
        raise RuntimeError(
            f"The exported file's {name!r} differs from the model's by {error:.2e} at batch"
            f" {batch}, more than the tolerance of {tolerance:.2e}; `path` is unchanged{remedy}"
        )
    return float(np.max(np.abs(output - expected)))


def error_and_tolerance(output, expected, precision):
    """The difference of two arrays as a precision measures it, and how large it may be."""
    if precision == "int8":
        error = float(np.linalg.norm(output - expected))
        return error, INT8_TOLERANCE * float(np.linalg.norm(expected))
    error = float(np.max(np.abs(output - expected)))
    return error, TOLERANCES[precision] * max(1.0, float(np.max(np.abs(expected))))


def agreement(serving, reference, run):
    """The fraction of images for which file and reference have the same largest logit.

    The images are the calibration data, or random images. With several outputs the result is None.
    """
    if len(serving.model.outputs) > 1:
        return None
    random = random_images(serving, RANDOM_IMAGES)
    images = serving.calibration or batches_of(random, serving.batch or RANDOM_IMAGES)
    same = [
        np.argmax(run(batch)["logits"], -1) == np.argmax(outputs_of(reference, batch)["logits"], -1)
        for batch in images
    ]
    return float(np.mean(np.concatenate(same)))


def latencies(serving, *runs):
    """Milliseconds for one image in each of `runs`: medians of calls in turn, after a first one.

    Each measured call follows another of the same file, because the threads of the other file are
    busy for a short time after its calls.
    """
    batch = serving.batch or 1
    images = random_images(serving, batch)
    times = [[] for _ in runs]
    for _ in range(ROUNDS):
        for run, passed in zip(runs, times, strict=True):
            run(images)
            start = time.perf_counter()
            run(images)
            passed.append(time.perf_counter() - start)
    return [1000 * statistics.median(passed) / batch for passed in times]
