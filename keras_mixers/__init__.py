"""Isotropic vision backbones for Keras: ViT, MLP-Mixer, ConvMixer and hybrids of them."""

from keras_mixers import data, layers, training, tuning
from keras_mixers.export import ExportReport, export
from keras_mixers.models import ConvMixer, Hybrid, MLPMixer, ViT, count_flops, variants
from keras_mixers.preprocessing import Preprocessing
from keras_mixers.training import Recipe, recipes
from keras_mixers.version import __version__
from keras_mixers.weights import (
    Checkpoint,
    LoadReport,
    load_weights,
    pretrained,
    save_weights,
)

__all__ = [
    "Checkpoint",
    "ConvMixer",
    "ExportReport",
    "Hybrid",
    "LoadReport",
    "MLPMixer",
    "Preprocessing",
    "Recipe",
    "ViT",
    "__version__",
    "count_flops",
    "data",
    "export",
    "layers",
    "load_weights",
    "pretrained",
    "recipes",
    "save_weights",
    "training",
    "tuning",
    "variants",
]
