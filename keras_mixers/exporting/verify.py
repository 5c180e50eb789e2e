"""Whether an exported file gives the answers of the model it came from."""

import statistics
import time

import numpy as np

from keras_mixers.graph import all_layers

BATCHES = (1, 3)  # two sizes: a batch fixed by mistake shows
# How far an answer may be from the model's, of the largest answer where that is above 1.
BOUNDS = {"float32": 1e-4, "float16": 2e-2}
RELATIVE_BOUND = 0.3  # for int8: of the length of the answers, all taken as one vector
RANDOM_IMAGES = 32


def random_images(serving, batch, size=None):
    """What the served function takes: bytes, of `size` if they may be of any, or floats."""
    generator = np.random.default_rng(batch)
    *own, channels = serving.model.input_shape[1:]
    if serving.preprocessing:
        shape = (batch, *(size or own), channels)
        return generator.integers(0, 256, shape, dtype="uint8")
    return generator.uniform(-1, 1, (batch, *own, channels)).astype("float32")


def images_to_compare(serving, batch):
    """Random images, of a size of their own; those of the calibration where ranges come of them."""
    if serving.quantize == "int8" and serving.calibration:
        images = serving.calibration[0]
        return images[np.arange(batch) % len(images)]
    rows, columns = serving.model.input_shape[1:3]
    return random_images(serving, batch, (rows + 3 * batch, columns + 5))


def largest_difference(serving, reference, run):
    """The largest absolute difference between `run(images)` and `reference(images)`.

    Args:
        serving: what is served.
        reference: `serving.compiled()`, which is itself compared with the model.
        run: the exported file.

    Raises:
        RuntimeError: an output is missing, has another shape, or is over the bound.
    """
    largest = 0.0
    for batch in BATCHES:
        images = images_to_compare(serving, batch)
        expected = answers_of(reference, images)
        if batch == 1:
            compare_with_the_model(serving, images, expected["logits"])
        answers = run(images)
        for name, value in expected.items():
            difference = _difference(name, answers.get(name), value, serving.precision, batch)
            largest = max(largest, difference)
    return largest


def answers_of(reference, images):
    """What the reference gives, as arrays."""
    import tensorflow as tf

    return {name: value.numpy() for name, value in reference(tf.constant(images)).items()}


def compare_with_the_model(serving, images, logits):
    """Judge the reference in float32 by the model as it is, under its own dtype policies."""
    prepared = serving.preprocessing(images) if serving.preprocessing else images
    if not np.isfinite(logits).all():
        raise RuntimeError("The model's own answers are not finite; nothing was put in place")
    own = np.asarray(serving.answer(prepared), "float32")
    parts = [serving.model, *all_layers(serving.model)]
    mixed = any(part.compute_dtype in ("float16", "bfloat16") for part in parts)
    _difference("logits", logits, own, "int8" if mixed else "float32", 1)


def _difference(name, answer, expected, precision, batch):
    """The largest difference of one output, if it may be."""
    shape = None if answer is None else answer.shape
    if shape != expected.shape:
        raise RuntimeError(
            f"The exported file gives {name!r} of shape {shape} at batch {batch}, the model"
            f" {expected.shape}; nothing was put in place"
        )
    difference = float(np.max(np.abs(answer - expected)))
    if precision == "int8":
        error = float(np.linalg.norm(answer - expected))
        bound = RELATIVE_BOUND * float(np.linalg.norm(expected))
    else:
        error = difference
        bound = BOUNDS[precision] * max(1.0, float(np.max(np.abs(expected))))
    if not error <= bound:
        raise RuntimeError(
            f"The exported file's {name!r} differs from the model's by {error:.2e} at batch"
            f" {batch}, over the bound of {bound:.2e}; nothing was put in place"
        )
    return difference


def agreement(serving, reference, run):
    """The share of calibration or random images whose largest logit is the float32 model's."""
    images = serving.calibration or [random_images(serving, RANDOM_IMAGES)]
    same = [
        np.argmax(run(batch)["logits"], -1) == np.argmax(answers_of(reference, batch)["logits"], -1)
        for batch in images
    ]
    return float(np.mean(np.concatenate(same)))


def latency(serving, run):
    """Milliseconds for one image, the median of five runs after one."""
    image = random_images(serving, 1)
    times = []
    for _ in range(6):
        start = time.perf_counter()
        run(image)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[1:])
