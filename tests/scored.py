"""Search spaces with cheap trials: each trial builds and saves a tiny model, without training."""

import keras_tuner

import keras_mixers as km
from keras_mixers.tuning.families import HyperConvMixer
from keras_mixers.tuning.fine_tune import HyperFineTune

TINY = {
    "patch_size": [2, 4],
    "hidden_dim": [4, 8],
    "depth": (1, 3),
    "kernel_size": [3, 5],
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "warmup_fraction": 0.0,
    "schedule": "cosine",
    "batch_size": 16,
    "augmentation": km.data.Augmentation(),
}


def score(model):
    """The validation accuracy that a trial reports: higher for a model with more weights."""
    return model.count_params() / 1000


# Of the 24 configurations, those of width 4 and some of width 8 have at most so many parameters.
SOME_PARAMS = 600


def tiny(**more):
    """A search space of 24 configurations."""
    return Scored((8, 8, 1), 3, **{**TINY, **more})


def tiny_memory():
    """The same space, in which memory runs out for more than `SOME_PARAMS` parameters."""
    return OutOfMemory((8, 8, 1), 3, **TINY)


TINY_VIT = {"model": "vit_tiny_patch16_224", "hidden_dim": 4, "num_heads": 1, "mlp_dim": 8}
TINY_CONV = {"model": "convmixer_768_32", "hidden_dim": 4, "kernel_size": 3}


def tiny_fine_tune(**more):
    """A search space of fine-tuning whose backbones have random weights."""
    random = {"depth": 2, "patch_size": 4, "pretrained": False}
    backbones = {"vit": {**TINY_VIT, **random}, "conv": {**TINY_CONV, **random}}
    return ScoredFineTune(backbones, (8, 8, 3), 3, **more)


def make(kind, folder, space=None, **options):
    """A tuner of six trials; the default space has infeasible trials."""
    space = space or tiny_memory()
    common = {"objective": "val_accuracy", "directory": folder, "seed": 1, **options}
    if kind == "Hyperband":
        return keras_tuner.Hyperband(space, max_epochs=3, **common)
    if kind == "BayesianOptimization":
        return keras_tuner.BayesianOptimization(
            space, **{"max_trials": 6, "num_initial_points": 4, **common}
        )
    return getattr(keras_tuner, kind)(space, **{"max_trials": 6, **common})


class ReportScore:
    """Report `score(model)` after one epoch, and train nothing."""

    def _train(self, hp, model, data, load, options):
        logs = {"val_accuracy": score(model)}
        for callback in options["callbacks"]:
            callback.set_model(model)
            callback.on_epoch_end(0, logs)
        return logs


class Scored(ReportScore, HyperConvMixer):
    """Cheap trials of a family."""


class ScoredFineTune(ReportScore, HyperFineTune):
    """Cheap trials of fine-tuning."""


class OutOfMemory(Scored):
    """Some trials are infeasible, which no check of the size finds out."""

    def _train(self, hp, model, data, load, options):
        if model.count_params() > SOME_PARAMS:
            raise MemoryError(f"{model.count_params()} parameters")
        return super()._train(hp, model, data, load, options)
