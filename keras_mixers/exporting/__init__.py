"""Models as files that run where no Keras is installed."""

from keras_mixers.exporting.pipeline import export
from keras_mixers.exporting.report import ExportReport

__all__ = ["ExportReport", "export"]
