"""Models as files that run where no Keras is installed."""

from keras_mixers.export.export import ExportReport, export

__all__ = ["ExportReport", "export"]
