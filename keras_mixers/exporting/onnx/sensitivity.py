"""Measure how much each layer loses if only this layer is computed in int8."""

import dataclasses

import numpy as np

from keras_mixers.exporting.onnx.conversion import convert
from keras_mixers.exporting.onnx.int8 import plan, quantized
from keras_mixers.exporting.report import LayerSensitivity
from keras_mixers.exporting.verify import random_images

IMAGES = 32  # to measure with, because each layer is quantized and run separately


def sensitivity(serving, folder, progress):
    """`{path of a layer: (error, agreement)}`, the largest error first.

    The error is the norm of the differences of the first output that int8 in this layer makes,
    relative to the norm of the output. The agreement is the fraction of images whose largest logit
    stays the same. Both are measured after preprocessing, on calibration or random images.
    """
    serving = few_prepared_images(serving)
    images = serving.calibration or [random_images(serving, IMAGES)]
    model = convert(serving, progress)
    expected = first_output(model, images)
    layers, _ = plan(model, serving)
    found = {}
    for layer, nodes in layers.items():
        progress(f"measuring the sensitivity of {layer}")
        output = first_output(quantized(model, nodes, serving, folder), images)
        error = np.linalg.norm(output - expected) / np.linalg.norm(expected)
        same = np.mean(output.argmax(-1) == expected.argmax(-1))
        found[layer] = LayerSensitivity(float(error), float(same))
    return dict(sorted(found.items(), key=lambda item: -item[1].error))


def few_prepared_images(serving):
    """A copy for all layers that takes prepared images, and has few of them for calibration."""
    prepared, count = [], 0
    for batch in serving.calibration:
        batch = batch[: IMAGES - count]
        if len(batch):
            prepared.append(serving.preprocessing(batch) if serving.preprocessing else batch)
            count += len(batch)
    images = tuple(np.asarray(batch) for batch in prepared)
    return dataclasses.replace(
        serving, preprocessing=None, calibration=images, keep_float=(), batch=None
    )


def first_output(model, images):
    """The first output of an `onnx.ModelProto` in onnxruntime for batches of images."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    name = session.get_outputs()[0].name
    return np.concatenate([session.run([name], {"images": batch})[0] for batch in images])
