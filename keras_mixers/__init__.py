"""Isotropic vision backbones for Keras: ViT, MLP-Mixer, ConvMixer and hybrids of them."""

from keras_mixers import data, layers
from keras_mixers.export import ExportReport, export
from keras_mixers.models import ConvMixer, Hybrid, MLPMixer, ViT, variants

__version__ = "0.1.0"

__all__ = ["ConvMixer", "ExportReport", "Hybrid", "MLPMixer", "ViT", "data", "export", "layers", "variants"]
