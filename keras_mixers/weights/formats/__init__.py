"""The published formats: one file of rules for each source of checkpoints."""

from keras_mixers.weights.formats import google, hugging_face, locuslab, timm

FORMATS = (*google.FORMATS, *hugging_face.FORMATS, *locuslab.FORMATS, *timm.FORMATS)

__all__ = ["FORMATS", "google", "hugging_face", "locuslab", "timm"]
