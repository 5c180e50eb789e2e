"""Types of flags, and what the commands make of flags that several of them have."""

import argparse
import json
import pathlib
import zipfile

MODEL = "a .keras file, or a name of `keras-mixers models`, whose weights are downloaded once"
DATASET = "digits, a folder of images, a CSV file, or a name in TFDS"


def at_least(lowest):
    """A type of integers that are not below a number."""

    def parse(text):
        number = int(text)
        if number < lowest:
            raise argparse.ArgumentTypeError(f"must be {lowest} or more, not {number}")
        return number

    parse.__name__ = "int"  # because argparse writes this name into "invalid int value"
    return parse


def positive_float(text):
    """A finite number above 0."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a finite number above 0, not {text}")
    return number


def load_model(text):
    """The model of a file, or a published model with its weights.

    Raises:
        ValueError: if the file is damaged.
    """
    import keras_mixers as km

    if not pathlib.Path(text).exists() and not text.endswith(".keras"):
        return km.create_model(text)
    try:
        return model_of_file(text)
    except (KeyError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"MODEL must be a .keras file that is not damaged. Received: {text}: {error}"
        ) from error


def model_of_file(file):
    """The model of a file with its loss, which says what the outputs mean."""
    import keras

    try:
        return keras.models.load_model(file)
    except ValueError:  # the optimizer of a training with LoRA, whose matrices the file has merged
        model = keras.models.load_model(file, compile=False)
    with zipfile.ZipFile(file) as archive:
        compiled = json.loads(archive.read("config.json"))["compile_config"]
    model.compile(loss=keras.saving.deserialize_keras_object(compiled["loss"]))
    return model


def load_dataset(args, model, **options):
    """`km.data.load` of the flag DATASET, with images as the model takes them."""
    import keras_mixers as km
    from keras_mixers.models.image_model import fact_of

    preprocessing = fact_of(model, "preprocessing")
    size = model.input_shape[1:3] if preprocessing is None else None
    return km.data.load(args.dataset, size, preprocessing=preprocessing, **options)
