"""How Keras saves objects of this package: the registered name, and a config by signature."""

import inspect
import json
from collections.abc import Callable
from typing import Any, Self, TypeVar

import keras

Registered = TypeVar("Registered", bound=Callable)


def registered(thing: Registered) -> Registered:
    """A decorator: Keras finds the class or function by the name "keras_mixers>Name" in a file."""
    return keras.saving.register_keras_serializable("keras_mixers")(thing)


class ConfigFromSignature:
    """A mixin that derives `get_config` and `from_config` from the constructor's signature.

    A subclass keeps one attribute for each constructor argument, of the same name and meaning. The
    config then has each argument exactly once, so no key can be missing or surplus.
    """

    def get_config(self) -> dict[str, Any]:
        arguments = inspect.signature(type(self).__init__).parameters.values()
        names = [a.name for a in arguments if a.name != "self" and a.kind is not a.VAR_KEYWORD]
        # Keras's base classes define `get_config`; other classes, such as dataclasses, do not.
        try:
            inherited = super().get_config() if hasattr(super(), "get_config") else {}
        except NotImplementedError:  # because LearningRateSchedule declares it without a body
            inherited = {}
        return {**inherited, **{name: to_json(getattr(self, name)) for name in names}}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        # Keras's own function deserializes nested objects, because it applies the caller's
        # `safe_mode`.
        return cls(
            **{
                name: keras.saving.deserialize_keras_object(value)
                if isinstance(value, dict)
                else value
                for name, value in config.items()
            }
        )


def to_json(value):
    """A constructor argument in a form that JSON can hold."""
    if isinstance(value, keras.layers.Layer):
        config = keras.saving.serialize_keras_object(value)
        # Without its build config the layer is loaded unbuilt, and its parent builds it inside the
        # parent's name scope. Otherwise its weight paths would not begin with the parent's name.
        config.pop("build_config", None)
        return config
    if isinstance(value, ConfigFromSignature):
        return keras.saving.serialize_keras_object(value)
    if isinstance(value, tuple):
        return list(value)
    if callable(value):
        return keras.activations.serialize(value)
    return value


def parse_json(text, object_pairs_hook=None):
    """Parse JSON, and raise a ValueError for all text that is not valid JSON.

    Python raises a RecursionError for text that is nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=object_pairs_hook)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None
