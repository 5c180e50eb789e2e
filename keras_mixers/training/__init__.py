"""Training with plain `compile` and `fit`: recipes, their parts, and a backup callback."""

from keras_mixers.training.average_precision import AveragePrecision
from keras_mixers.training.backup import Backup
from keras_mixers.training.lora_weights import load_lora_weights, save_lora_weights
from keras_mixers.training.losses import Accuracy, Crossentropy
from keras_mixers.training.optimizer import LayerwiseAdamW, LayerwiseSGD
from keras_mixers.training.published import recipes
from keras_mixers.training.recipe import Recipe
from keras_mixers.training.schedule import WarmUp
from keras_mixers.training.sharding import layout_map

__all__ = [
    "Accuracy",
    "AveragePrecision",
    "Backup",
    "Crossentropy",
    "LayerwiseAdamW",
    "LayerwiseSGD",
    "Recipe",
    "WarmUp",
    "layout_map",
    "load_lora_weights",
    "recipes",
    "save_lora_weights",
]
