"""Models as files that run where no Keras is installed."""

from keras_mixers.export.export import export
from keras_mixers.export.report import ExportReport

__all__ = ["ExportReport", "export"]
