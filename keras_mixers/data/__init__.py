"""Batches a model trains on, from a dataset's name or a folder of images."""

from keras_mixers.data.augmentation import Augmentation
from keras_mixers.data.info import Info
from keras_mixers.data.load import images, load

__all__ = ["Augmentation", "Info", "images", "load"]
