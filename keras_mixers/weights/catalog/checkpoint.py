"""A row of the catalog: a published file of weights and the model that it fits."""

import dataclasses
from typing import Any

from keras_mixers.preprocessing import Preprocessing
from keras_mixers.weights.catalog.class_names import IMAGENET_1K_CLASSES, imagenet_1k

NON_COMMERCIAL = ("cc-by-nc-4.0", "fair-noncommercial-research-license", "apple-amlr")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A published file of weights and the model that it fits.

    Attributes:
        name: a unique name in the catalog: timm's name, an architecture and a tag.
        family: the builder, `"ViT"`, `"MLPMixer"` or `"ConvMixer"`.
        variant: the row of the builder's table.
        arguments: the builder's arguments that differ from this row.
        url: where the file is published.
        format: how the file names its weights, `"timm"` or `"google"`.
        num_classes: the number of classes; 0 if the model has no head.
        preprocessing: how to prepare an image.
        license: the licence that the source states, or None.
        size: the file's size as the source states it, such as `"346 MB"`, or None.
        sha256: the file's digest if the source publishes it, or None.
        top1: accuracy on the validation images of ImageNet-1k in percent, or None.
        top1_source: where the accuracy is published, or None.
        gated: whether the Hugging Face hub sends the file only to users who accepted its licence.
    """

    name: str
    family: str
    variant: str
    arguments: dict[str, Any]
    url: str
    format: str
    num_classes: int
    preprocessing: Preprocessing
    license: str | None = None
    size: str | None = None
    sha256: str | None = None
    top1: float | None = None
    top1_source: str | None = None
    gated: bool = False

    @property
    def architecture(self) -> str:
        """The part of `name` before the tag, such as `"vit_small_patch14_dinov2"`."""
        return self.name.partition(".")[0]

    @property
    def tag(self) -> str:
        """The name of the training: the part of `name` after the architecture."""
        return self.name.partition(".")[2] or self.name

    @property
    def non_commercial(self) -> bool:
        """Whether the licence is one that is known to exclude commercial use."""
        return self.license in NON_COMMERCIAL

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names of ImageNet-1k's classes in order; None if the model has other classes."""
        return imagenet_1k() if self.num_classes == IMAGENET_1K_CLASSES else None
