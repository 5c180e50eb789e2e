"""KerasTuner search spaces for all model families."""

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
    """Import a public name when it is used, because KerasTuner imports TensorFlow."""
    if name == "bounded":
        return renamed("bounded", __getattr__("within_budget"))
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    file = {"infeasible": "trials", "within_budget": "search"}.get(name, "families")
    return getattr(importlib.import_module(f"{__name__}.{file}"), name)


def __dir__():
    return __all__
