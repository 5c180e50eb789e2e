"""The published architectures and checkpoints. Each fact has a published source."""

from keras_mixers.weights.catalog.architectures import PublishedArchitecture, architectures
from keras_mixers.weights.catalog.checkpoint import Checkpoint
from keras_mixers.weights.catalog.class_names import imagenet_1k
from keras_mixers.weights.catalog.rows import checkpoints

# Here, because reading the files would slow the import of the package.
FAMILIES = ("ViT", "MLPMixer", "ConvMixer")

__all__ = [
    "FAMILIES",
    "Checkpoint",
    "PublishedArchitecture",
    "architectures",
    "checkpoints",
    "imagenet_1k",
]
