"""Classify images, and name their most probable classes."""

import itertools
import os
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from keras_mixers import arguments
from keras_mixers.graph import functional
from keras_mixers.models.image_model import check_class_names, check_makes_input, fact_of
from keras_mixers.models.outputs import (
    check_one_logit,
    is_sigmoid,
    kind_of_output,
    probabilities,
)
from keras_mixers.predicting.items import list_items
from keras_mixers.predicting.prediction import Prediction
from keras_mixers.predicting.read import read
from keras_mixers.preprocessing import Preprocessing


def predict(
    model: keras.Model,
    files: str | os.PathLike[str] | Iterable[Any] | Any,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] | None = None,
    top: int = 5,
    batch_size: int = 32,
) -> list[Prediction]:
    """Classify files, folders of files, or images, and name the most probable classes of each.

    The probabilities are the softmax of the model's logits, or their sigmoid if the model is
    compiled with `Recipe(loss="sigmoid")`, as in files of `km.export`. Those of a sigmoid are
    independent: an image may have several labels, or none. `print` separates the classes above 50%
    from the others.

    A model with one output decides between two classes: the sigmoid of its logit is the probability
    of class 1. With one class name, that class is present or not.

    Files are JPEG, PNG, BMP, WebP, GIF or TIFF. The first frame or page is read. Images are turned
    upright by their EXIF orientation. White is the background of transparent images. Grey and CMYK
    files and PIL images become RGB for a model of 3 channels. Values of 16 bits become their high
    byte. A progress bar shows the batches if there are several.

    Args:
        model: a classifier with one input `(N, H, W, C)` and one output, logits or a softmax.
        files: the path of an image file; a folder, of which the image files are read, by name, and
            not those in its subfolders; a PIL image; an array `(H, W, C)` with values in 0..255,
            bytes or floats; or a list of any of them.
        preprocessing: how to prepare images for the model, such as `info.preprocessing` of
            `km.data.load`; `None` for the model's (see `ImageModel`).
        class_names: one string for each output, or two for one output, the logit of the second.
            `None` for the model's names, and for the indices as strings if it has none.
        top: how many classes to name. Fewer are named if the model has fewer. Of independent
            probabilities, all above 50% are named.
        batch_size: images in a batch.

    Returns:
        A list with one `Prediction` for each image, in order.

    Raises:
        ValueError, TypeError: if an argument is invalid, or if a file is not a readable image; the
            message names it.
        OSError: if a folder cannot be listed; the error names it.

    Example:
        >>> import numpy as np
        >>> mean = keras.layers.GlobalAveragePooling2D()
        >>> classes = keras.layers.Dense(3, kernel_initializer="identity")
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), mean, classes])
        >>> images = np.zeros((2, 20, 30, 3), "uint8")
        >>> images[0, ..., 0] = images[1, ..., 2] = 255
        >>> for prediction in predict(model, images, Preprocessing(8), ["red", "green", "blue"]):
        ...     print(prediction)
        image 0: red 78.7%, green 10.7%, blue 10.7%
        image 1: blue 78.7%, red 10.7%, green 10.7%
    """
    check_model(model)
    preprocessing = check_preprocessing(model, preprocessing)
    names = names_of(model, class_names)
    independent = is_sigmoid(model) and len(names) == model.outputs[0].shape[-1]
    top = arguments.integer("top", top)
    batch_size = arguments.integer("batch_size", batch_size)
    items = list_items(files)

    images = read(items, preprocessing, model.input_shape[-1])
    count = -(-len(items) // batch_size)
    progress = keras.utils.Progbar(count, unit_name="batch") if count > 1 else None
    predictions = []
    while batch := list(itertools.islice(images, batch_size)):
        for values in classify(model, np.asarray(preprocessing.normalize(np.stack(batch)))):
            item = items[len(predictions)]
            source = item if isinstance(item, str) else len(predictions)
            predictions.append(named(source, values, names, top, independent))
        if progress:
            progress.add(1)
    return predictions


def named(source, values, names, top, independent):
    """The `Prediction` of one image from the outputs' probabilities."""
    if len(values) < len(names):  # one output, which decides between two classes
        values = np.concatenate([1 - values, values])
    count = max(top, np.count_nonzero(values > 0.5)) if independent else top
    best = np.argsort(-values, kind="stable")[:count]
    return Prediction(
        source, tuple(names[i] for i in best), tuple(values[best].tolist()), independent
    )


def classify(model, images):
    """The class probabilities of a batch: `(N, H, W, C) -> (N, num_classes)`, float32."""
    outputs = keras.ops.cast(model.predict_on_batch(images), "float32")
    return keras.ops.convert_to_numpy(probabilities(model, outputs))


def check_preprocessing(model, given):
    """The preprocessing that is given, or the model's, which must make the model's images."""
    preprocessing = fact_of(model, "preprocessing") if given is None else given
    if preprocessing is None:
        raise TypeError(
            "`preprocessing` must be a keras_mixers.Preprocessing for a model without one."
            f" Received: preprocessing=None for {model.name!r}; for a km.ImageModel,"
            " model.set_info(info) sets it"
        )
    return check_makes_input(model, preprocessing)


def names_of(model, given):
    """The names of the classes that are given, or the model's, or the indices as strings."""
    names = fact_of(model, "class_names") if given is None else given
    if names is None:
        classes = max(2, model.outputs[0].shape[-1])  # because one output decides between two
        names = map(str, range(classes))
    return check_class_names(model, names)


def check_model(model):
    """Check that a model classifies images of a known size."""
    shape = functional(model).input_shape
    if len(model.inputs) != 1 or len(shape) != 4 or None in shape[1:]:
        raise ValueError(
            "`model` must take images, (batch, H, W, C), of a known size. Received: inputs of shape"
            f" {shape}"
        )
    kind = kind_of_output(model)
    if kind is None:
        raise ValueError(
            "`model` must end in logits (a Dense layer without an activation) or in a softmax of"
            f" logits. Received: {model.name!r}, which does not"
        )
    if kind == "logits":
        check_one_logit(model)
