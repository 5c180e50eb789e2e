"""A functional model that knows how to prepare its images, and what its outputs mean."""

from typing import Any

import keras
import numpy as np

from keras_mixers import arguments
from keras_mixers.graph import create_training_state, functional
from keras_mixers.layers.kernels.optimizer import fused_adam
from keras_mixers.preprocessing import Preprocessing
from keras_mixers.serialization import registered, to_json


def check_makes_input(model, preprocessing):
    """Check that preprocessing makes the images that a model takes, and return it."""
    if not isinstance(preprocessing, Preprocessing):
        raise TypeError(
            "`preprocessing` must be a keras_mixers.Preprocessing."
            f" {arguments.received(preprocessing=preprocessing)}"
        )
    shape = functional(model).input_shape
    size = shape[1:3]
    if len(model.inputs) > 1 or len(shape) != 4 or preprocessing.size != tuple(size):
        taken = tuple(size) if len(model.inputs) == 1 else f"{len(model.inputs)} inputs"
        raise ValueError(
            "`preprocessing` must make images of the model's size. Received:"
            f" size={preprocessing.size} for a model that takes {taken}"
        )
    preprocessing.check_channels(shape[-1])
    return preprocessing


def check_class_names(model, names):
    """Check one name for each output of a model, or two for its one output; return a tuple."""
    outputs = functional(model).outputs
    if len(outputs) > 1:
        raise ValueError(
            "`class_names` must be None for a model with several outputs."
            f" {arguments.received(class_names=names)}"
        )
    classes = outputs[0].shape[-1]
    expected = f"`class_names` must be {classes} strings, one for each class"
    names = arguments.sequence("class_names", names, max(classes, 2), expected)
    if classes == 1 and len(names) != 1:
        classes = 2
    return tuple(arguments.class_names(names, classes))


def check_multi_label(_model, value):
    """Check a bool."""
    return arguments.flag("multi_label", value)


# A fact that an `ImageModel` keeps, as an attribute of this name -> its `check(model, value)`.
FACTS = {
    "preprocessing": check_makes_input,
    "class_names": check_class_names,
    "multi_label": check_multi_label,
}


@registered
class ImageModel(keras.Model):
    """A functional model that knows how to prepare its images, and the names of its classes.

    All builders and `create_model` return one. It is built and used like a `keras.Model(inputs,
    outputs)`. `save` writes its facts into the `.keras` file, and `keras.models.load_model` reads
    them in any process that imports keras_mixers. `km.predict`, `km.export` and `km.evaluate` use
    them where they are not given.

    A model that shares the layers, as `keras.Model(model.inputs, ...)` or `km.feature_maps`, has no
    facts, and neither has a model of `keras.models.clone_model`.

    Attributes:
        preprocessing: the `Preprocessing` that makes the images that the model takes, or None. You
            can set it; the size and the number of channels must be the model's.
        class_names: a tuple with the name of each output, or None. A model with one output may have
            two, of which the output is the logit of the second. You can set it.
        multi_label: whether an image may have several labels or none, so that each probability is
            the sigmoid of a logit, also if the model is not compiled. None: not known. You can set
            it, and `Recipe(multi_label=True).compile` does.

    Raises:
        ValueError, TypeError: if a value does not fit the model; the message names the attribute.
            From a file, the error is always a ValueError.

    Example:
        >>> from keras_mixers import Preprocessing, ViT
        >>> model = ViT("Ti/16", input_shape=(32, 32, 3), depth=1, num_classes=2)
        >>> model.preprocessing, model.class_names
        (None, None)
        >>> model.preprocessing, model.class_names = Preprocessing(32), ["cat", "dog"]
        >>> model.save("model.keras")
        >>> keras.models.load_model("model.keras").class_names
        ('cat', 'dog')
    """

    # Without a constructor, because Keras then treats this class as its own functional models.
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] | None = None
    multi_label: bool | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        if name in FACTS:
            # Past Keras, because some of its backends replace tuples, or keep layers elsewhere.
            vars(self)[name] = None if value is None else FACTS[name](self, value)
        else:
            super().__setattr__(name, value)

    def set_info(self, info: Any) -> None:
        """Set all facts from the `Info` of a dataset that the model is trained on.

        Args:
            info: the `Info` of `km.data.load`, or another object with `preprocessing` and
                `class_names`, such as a `Checkpoint`, whose `multi_label` is then not known.

        Raises:
            ValueError, TypeError: if `info` does not fit the model. No fact has changed.

        Warns:
            UserWarning: if the model's preprocessing before, such as a checkpoint's, has another
                mean or standard deviation of the colours. The weights then receive other values
                than in their training; `km.data.load(..., preprocessing=...)` prepares images for
                them.
        """
        if not (hasattr(info, "preprocessing") and hasattr(info, "class_names")):
            raise TypeError(
                "`info` must be the Info of km.data.load, or have preprocessing and class_names."
                f" {arguments.received(info=info)}"
            )
        before = {name: getattr(self, name) for name in FACTS}
        try:
            for name in FACTS:
                setattr(self, name, getattr(info, name, None))
        except (TypeError, ValueError):
            vars(self).update(before)
            raise
        if before["preprocessing"]:
            warn_of_colors("info", self.preprocessing, before["preprocessing"])

    def make_train_function(self, force: bool = False) -> None:
        made = self.train_function is not None and not force
        super().make_train_function(force)
        if made or keras.backend.backend() != "tensorflow":
            return
        step = self.train_function

        def first_step(iterator):
            batch = getattr(iterator, "element_spec", None)
            if batch is None:  # because `train_on_batch` makes a generator of its arrays
                batch = next(iterator)
                iterator = iter([batch])
            create_training_state(self, batch)
            self.train_function = step
            return step(iterator)

        self.train_function = first_step

    def train_step(self, *args: Any, **kwargs: Any) -> Any:
        with fused_adam(self.optimizer):
            return super().train_step(*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        known = {name: to_json(getattr(self, name)) for name in FACTS}
        known = {name: value for name, value in known.items() if value is not None}
        return {**super().get_config(), **known}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "ImageModel":
        graph = {name: value for name, value in config.items() if name not in FACTS}
        model = super().from_config(graph, custom_objects=custom_objects)
        for name in FACTS:
            value = config.get(name)
            try:
                if isinstance(value, dict):
                    value = keras.saving.deserialize_keras_object(value)
                setattr(model, name, value)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"The config of the model {model.name!r} must have a valid {name!r}:"
                    f" {arguments.reason(error)}"
                ) from error
        return model


# Because Keras's older format, `.h5`, names the class of a model without its package.
keras.saving.get_custom_objects()["ImageModel"] = ImageModel


def fact_of(model: keras.Model, name: str) -> Any:
    """A fact of an `ImageModel`; None for other models."""
    return getattr(model, name) if isinstance(model, ImageModel) else None


def warn_of_colors(argument, given, expected):
    """Issue a UserWarning if two `Preprocessing`s have other values of mean or std."""
    for name in ("mean", "std"):
        one, other = getattr(given, name), getattr(expected, name)
        most = max(np.size(one), np.size(other))  # because one number stands for all channels
        if not np.array_equal(np.resize(one, most), np.resize(other, most)):
            arguments.warn(
                f"`{argument}` prepares images with another {name} than the model expects."
                f" Received: {name}={one}; the model's: {other}"
            )
