"""What a checkpoint expects of an image: as data, as a Keras layer, as a function for tf.data."""

from keras_mixers.preprocessing.layer import PreprocessImages
from keras_mixers.preprocessing.preprocessing import Preprocessing

__all__ = ["PreprocessImages", "Preprocessing"]
