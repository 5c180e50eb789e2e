"""Export models to files that run where Keras is not installed."""

from keras_mixers.exporting.pipeline import export
from keras_mixers.exporting.report import ExportReport

__all__ = ["ExportReport", "export"]
