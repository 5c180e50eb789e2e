"""KerasTuner search spaces for all model families."""

import importlib

from keras_mixers.deprecation import renamed

__all__ = [
    "HyperConvMixer",
    "HyperFineTune",
    "HyperHybrid",
    "HyperMLPMixer",
    "HyperViT",
    "SearchResults",
    "TrialResult",
    "infeasible",
    "results",
    "within_budget",
]

FILES = {
    "HyperFineTune": "fine_tune",
    "SearchResults": "table",
    "TrialResult": "table",
    "infeasible": "trials",
    "results": "trials",
    "within_budget": "search",
}


def __getattr__(name):
    """Import a public name when it is used, because KerasTuner imports TensorFlow."""
    if name == "bounded":
        return renamed("bounded", __getattr__("within_budget"))
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    file = FILES.get(name, "families")
    return getattr(importlib.import_module(f"{__name__}.{file}"), name)


def __dir__():
    return __all__
