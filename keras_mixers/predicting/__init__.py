"""Classify files and other images with a model, by the names of the classes."""

from keras_mixers.predicting.predict import predict
from keras_mixers.predicting.prediction import Prediction

__all__ = ["Prediction", "predict"]
