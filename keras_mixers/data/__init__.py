"""Datasets by name, as batches a model trains on."""

from keras_mixers.data.load import load

__all__ = ["load"]
