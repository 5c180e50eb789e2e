"""One file of rules for each way of naming weights."""

from keras_mixers.weights.formats import google, hugging_face, locuslab, timm

FORMATS = (*google.FORMATS, *hugging_face.FORMATS, *locuslab.FORMATS, *timm.FORMATS)

__all__ = ["FORMATS", "google", "hugging_face", "locuslab", "timm"]
