"""The published formats: one file of rules for each source of checkpoints."""

from keras_mixers.weights.formats import authors, clip, google, hugging_face, locuslab, timm

FORMATS = (
    *google.FORMATS,
    *hugging_face.FORMATS,
    *clip.FORMATS,
    *locuslab.FORMATS,
    *authors.FORMATS,
    *timm.FORMATS,
)

__all__ = ["FORMATS", "authors", "clip", "google", "hugging_face", "locuslab", "timm"]
