"""The models: a builder for each family, with a table of its published variants."""

from keras_mixers.models.abstract import abstract_weights
from keras_mixers.models.conv_mixer import ConvMixer
from keras_mixers.models.create import create_model, list_models
from keras_mixers.models.flops import count_flops
from keras_mixers.models.hybrid import Hybrid
from keras_mixers.models.image_model import ImageModel
from keras_mixers.models.mixers import LETTERS
from keras_mixers.models.mlp_mixer import MLPMixer
from keras_mixers.models.variants import variants
from keras_mixers.models.vit import ViT

__all__ = [
    "LETTERS",
    "ConvMixer",
    "Hybrid",
    "ImageModel",
    "MLPMixer",
    "ViT",
    "abstract_weights",
    "count_flops",
    "create_model",
    "list_models",
    "variants",
]
