"""KerasTuner search spaces for every family, imported as they are asked for."""

import importlib

from keras_mixers.deprecation import renamed

__all__ = [
    "HyperConvMixer",
    "HyperHybrid",
    "HyperMLPMixer",
    "HyperViT",
    "infeasible",
    "within_budget",
]


def __getattr__(name):
    """KerasTuner brings TensorFlow: it waits until a space is asked for."""
    if name == "bounded":
        return renamed("bounded", __getattr__("within_budget"))
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    file = {"infeasible": "trials", "within_budget": "search"}.get(name, "families")
    return getattr(importlib.import_module(f"{__name__}.{file}"), name)


def __dir__():
    return __all__
