"""Load datasets by name, or images from a folder, as batches for training."""

from keras_mixers.data.augmentation import Augmentation
from keras_mixers.data.info import Info
from keras_mixers.data.load import images, load

__all__ = ["Augmentation", "Info", "images", "load"]
