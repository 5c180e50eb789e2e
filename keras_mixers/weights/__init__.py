"""Load and save weights under the names of published checkpoints."""

from keras_mixers.weights.catalog import Checkpoint
from keras_mixers.weights.load import load_weights
from keras_mixers.weights.locate import pretrained
from keras_mixers.weights.report import LoadReport
from keras_mixers.weights.save import save_weights

__all__ = ["Checkpoint", "LoadReport", "load_weights", "pretrained", "save_weights"]
