"""The published checkpoints, one row each. Each fact of a row has a published source.

timm's rows: the file is on the Hugging Face hub, and its model card states its licence and size.
The preprocessing comes from timm's default configurations and the accuracy from timm's
results/results-imagenet.csv. A fact without a source is None.
"""

import dataclasses
from typing import Any

from keras_mixers.preprocessing import Preprocessing

IN21K = 21_843
UNSTATED = None

HALF = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CLIP = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
}
UNIT = {"mean": (0.0,) * 3, "std": (1.0,) * 3}

TIMM_RESULTS = "timm, results/results-imagenet.csv"
AUGREG = "vit_models/augreg/"
GOOGLE_README = "google-research/vision_transformer, README"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A published file of weights and the model that it fits.

    Attributes:
        name: a unique name in the catalog.
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

    @property
    def tag(self) -> str:
        """The name of the training: the part of `name` after the architecture."""
        return self.name.partition(".")[2] or self.name


def row(family, variant, name, url, format, colours, crop, interpolation="bicubic", **rest):
    """A `Checkpoint`; any keyword that is not one of its fields is an argument of the builder."""
    size, classes = rest.pop("size", 224), rest.pop("classes", 1000)
    fields = ("license", "sha256", "top1", "top1_source")
    known = {field: rest.pop(field) for field in fields if field in rest}
    known["size"] = rest.pop("bytes", None)  # because `size` is the size of the image
    if size != 224:
        rest["input_shape"] = (size, size, 3)
    preprocessing = Preprocessing(
        size=(size, size), crop_fraction=crop, interpolation=interpolation, **colours
    )
    return Checkpoint(name, family, variant, rest, url, format, classes, preprocessing, **known)


def timm(family, variant, name, colours, crop, license="apache-2.0", **rest):
    """A row of a timm file on the Hugging Face hub."""
    url = f"https://huggingface.co/timm/{name}/resolve/main/model.safetensors"
    if "top1" in rest:
        rest["top1_source"] = TIMM_RESULTS
    return row(family, variant, name, url, "timm", colours, crop, license=license, **rest)


def timm_vit(variant, name, colours=HALF, crop=None, **rest):
    """A row of timm's ViT."""
    crop = crop or (1.0 if rest.get("size") == 384 else 0.9)
    return timm("ViT", variant, name, colours, crop, **rest)


def deit(variant, name, **rest):
    """A row of timm's DeiT or DeiT-III."""
    return timm_vit(variant, name, colours=IMAGENET, **rest)


def timm_mixer(variant, name, colours=HALF, **rest):
    """A row of timm's MLP-Mixer."""
    return timm("MLPMixer", variant, name, colours, 0.875, **rest)


def timm_conv_mixer(variant, name, **rest):
    """A row of timm's ConvMixer."""
    return timm("ConvMixer", variant, name, IMAGENET, 0.96, license="mit", **rest)


def google(variant, name, url, family="ViT", crop=1.0, interpolation="bilinear", **rest):
    """A row of a file in Google's bucket, trained with the tanh form of GELU."""
    url = f"https://storage.googleapis.com/{url}"
    rest = {"license": "apache-2.0", "activation": "gelu_tanh", **rest}
    return row(family, variant, name, url, "google", HALF, crop, interpolation, **rest)


CHECKPOINTS = (
    timm_vit("B/16", "vit_base_patch16_224.augreg2_in21k_ft_in1k", top1=85.11, bytes="346 MB"),
    timm_vit("B/8", "vit_base_patch8_224.augreg2_in21k_ft_in1k", top1=86.228, bytes="346 MB"),
    timm_vit("Ti/16", "vit_tiny_patch16_224.augreg_in21k_ft_in1k", top1=75.452),
    timm_vit("Ti/16", "vit_tiny_patch16_384.augreg_in21k_ft_in1k", size=384, top1=78.446),
    timm_vit("S/32", "vit_small_patch32_224.augreg_in21k_ft_in1k", top1=75.996),
    timm_vit(
        "S/32", "vit_small_patch32_384.augreg_in21k_ft_in1k", size=384, top1=80.482, bytes="91.7 MB"
    ),
    timm_vit("S/16", "vit_small_patch16_224.augreg_in21k_ft_in1k", top1=81.414),
    timm_vit("S/16", "vit_small_patch16_384.augreg_in21k_ft_in1k", size=384, top1=83.804),
    timm_vit("B/32", "vit_base_patch32_224.augreg_in21k_ft_in1k", top1=80.736),
    timm_vit("B/32", "vit_base_patch32_384.augreg_in21k_ft_in1k", size=384, top1=83.352),
    timm_vit("B/16", "vit_base_patch16_224.augreg_in21k_ft_in1k", top1=84.532, bytes="346 MB"),
    timm_vit(
        "B/16", "vit_base_patch16_384.augreg_in21k_ft_in1k", size=384, top1=86.006, bytes="347 MB"
    ),
    timm_vit("B/8", "vit_base_patch8_224.augreg_in21k_ft_in1k", top1=85.836, bytes="346 MB"),
    timm_vit("L/16", "vit_large_patch16_224.augreg_in21k_ft_in1k", top1=85.85, bytes="1.22 GB"),
    timm_vit(
        "L/16", "vit_large_patch16_384.augreg_in21k_ft_in1k", size=384, top1=87.094, bytes="1.22 GB"
    ),
    timm_vit("S/16", "vit_small_patch16_224.augreg_in1k", top1=78.842, bytes="88.2 MB"),
    timm_vit("B/16", "vit_base_patch16_224.augreg_in1k", top1=79.142),
    timm_vit("Ti/16", "vit_tiny_patch16_224.augreg_in21k", classes=IN21K, bytes="39 MB"),
    timm_vit("S/16", "vit_small_patch16_224.augreg_in21k", classes=IN21K),
    timm_vit("B/16", "vit_base_patch16_224.augreg_in21k", classes=IN21K, bytes="410 MB"),
    timm_vit("L/16", "vit_large_patch16_224.augreg_in21k", classes=IN21K, bytes="1.3 GB"),
    timm_vit("B/16", "vit_base_patch16_224.orig_in21k_ft_in1k", top1=81.786),
    timm_vit("B/16", "vit_base_patch16_384.orig_in21k_ft_in1k", size=384, top1=84.208),
    timm_vit(
        "B/16",
        "vit_base_patch16_224.orig_in21k",
        classes=0,
        bytes="343 MB",
        sha256="1cf14745201dfaffba38831c7cc1003c51618569d0a5dd31a895fe604c427253",
    ),
    timm_vit("H/14", "vit_huge_patch14_224.orig_in21k", classes=0, bytes="2.52 GB"),
    timm_vit("B/16", "vit_base_patch16_224.sam_in1k", top1=80.242),
    timm_vit("S/8", "vit_small_patch8_224.dino", classes=0, colours=IMAGENET),
    timm_vit(
        "L/14",
        "eva_large_patch14_196.in22k_ft_in1k",
        size=196,
        top1=87.956,
        crop=1.0,
        colours=CLIP,
        license="mit",
        pool="gap",
        norm_after_pool=True,
        class_token=True,
    ),
    timm_vit("B/16", "vit_base_patch16_siglip_224.webli", classes=0, pool="map"),
    timm_vit("So400m/14", "vit_so400m_patch14_siglip_224.webli", classes=0, pool="map"),
    timm_vit(
        "B/32",
        "vit_base_patch32_224.orig_in21k",
        classes=0,
        bytes="350 MB",
        sha256="40478a42db6781eff919a325f6e06dfa04f8ed3ff91d0b4121d48e6593d116b7",
    ),
    deit("DeiT-Ti/16", "deit_tiny_patch16_224.fb_in1k", top1=72.196, bytes="22.9 MB"),
    deit("DeiT-S/16", "deit_small_patch16_224.fb_in1k", top1=79.862, bytes="88.2 MB"),
    deit("DeiT-B/16", "deit_base_patch16_224.fb_in1k", top1=81.98, bytes="346 MB"),
    deit("DeiT-B/16", "deit_base_patch16_384.fb_in1k", size=384, top1=83.116, license=UNSTATED),
    deit(
        "DeiT-Ti/16-distilled",
        "deit_tiny_distilled_patch16_224.fb_in1k",
        top1=74.54,
        bytes="23.7 MB",
    ),
    deit(
        "DeiT-S/16-distilled",
        "deit_small_distilled_patch16_224.fb_in1k",
        top1=81.216,
        license=UNSTATED,
    ),
    deit(
        "DeiT-B/16-distilled",
        "deit_base_distilled_patch16_224.fb_in1k",
        top1=83.388,
        license=UNSTATED,
    ),
    deit(
        "DeiT-B/16-distilled",
        "deit_base_distilled_patch16_384.fb_in1k",
        size=384,
        top1=85.428,
        bytes="351 MB",
    ),
    deit("DeiT3-S/16", "deit3_small_patch16_224.fb_in1k", top1=81.374, bytes="88.3 MB"),
    deit("DeiT3-M/16", "deit3_medium_patch16_224.fb_in1k", top1=83.086, license=UNSTATED),
    deit("DeiT3-B/16", "deit3_base_patch16_224.fb_in1k", top1=83.794, bytes="346 MB"),
    deit("DeiT3-L/16", "deit3_large_patch16_224.fb_in1k", top1=84.778, license=UNSTATED),
    deit("DeiT3-H/14", "deit3_huge_patch14_224.fb_in1k", top1=85.222, license=UNSTATED),
    deit(
        "DeiT3-S/16",
        "deit3_small_patch16_224.fb_in22k_ft_in1k",
        top1=83.082,
        bytes="88.3 MB",
        crop=1.0,
    ),
    deit(
        "DeiT3-M/16",
        "deit3_medium_patch16_224.fb_in22k_ft_in1k",
        top1=84.566,
        bytes="155 MB",
        crop=1.0,
    ),
    deit(
        "DeiT3-B/16",
        "deit3_base_patch16_224.fb_in22k_ft_in1k",
        top1=85.728,
        bytes="346 MB",
        crop=1.0,
    ),
    deit(
        "DeiT3-L/16",
        "deit3_large_patch16_224.fb_in22k_ft_in1k",
        top1=86.986,
        bytes="1.22 GB",
        crop=1.0,
    ),
    deit(
        "DeiT3-H/14",
        "deit3_huge_patch14_224.fb_in22k_ft_in1k",
        top1=87.18,
        crop=1.0,
        license=UNSTATED,
    ),
    timm_mixer("B/16", "mixer_b16_224.goog_in21k_ft_in1k", top1=76.64, bytes="240 MB"),
    timm_mixer("L/16", "mixer_l16_224.goog_in21k_ft_in1k", top1=72.09, bytes="833 MB"),
    timm_mixer("B/16", "mixer_b16_224.goog_in21k", classes=IN21K),
    timm_mixer("L/16", "mixer_l16_224.goog_in21k", classes=IN21K),
    timm_mixer(
        "B/16",
        "mixer_b16_224.miil_in21k_ft_in1k",
        top1=82.31,
        bytes="240 MB",
        interpolation="bilinear",
        colours=UNIT,
    ),
    timm_conv_mixer("1536/20", "convmixer_1536_20.in1k", top1=81.37, bytes="207 MB"),
    timm_conv_mixer(
        "768/32",
        "convmixer_768_32.in1k",
        top1=80.158,
        bytes="84.9 MB",
        sha256="62ed5ec91004012a90d1a1ad043c4a74724ad444c82a277a6fff10803391743b",
    ),
    timm_conv_mixer(
        "1024/20",
        "convmixer_1024_20_ks9_p14.in1k",
        top1=76.944,
        bytes="97.9 MB",
        sha256="e9ee7c2d21eadc21b1538011aedb65d8122a368c5967ff01a1a9cbbaf8cc9571",
    ),
    google(
        "B/16",
        "google_vit_b16_augreg_imagenet21k",
        url=AUGREG + "B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0.npz",
        classes=IN21K,
        bytes="391 MiB",
    ),
    google(
        "B/16",
        "google_vit_b16_augreg_imagenet21k_imagenet2012_384",
        url=AUGREG
        + "B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.03-res_384.npz",
        size=384,
        top1=85.49,
        top1_source=GOOGLE_README,
    ),
    google(
        "S/16",
        "google_vit_s16_augreg_imagenet21k",
        url=AUGREG + "S_16-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0.npz",
        classes=IN21K,
        bytes="115 MiB",
    ),
    google(
        "S/16",
        "google_vit_s16_augreg_imagenet21k_imagenet2012_384",
        url=AUGREG
        + "S_16-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.03-res_384.npz",
        size=384,
        top1=83.73,
        top1_source=GOOGLE_README,
    ),
    google(
        "B/16",
        "google_vit_b16_imagenet21k",
        url="vit_models/imagenet21k/ViT-B_16.npz",
        classes=IN21K,
        representation_size=768,
    ),
    google(
        "B/16",
        "google_mixer_b16_imagenet1k",
        family="MLPMixer",
        url="mixer_models/imagenet1k/Mixer-B_16.npz",
        top1=76.44,
        crop=0.875,
        interpolation="bicubic",
        top1_source="arXiv 2105.01601",
    ),
    google(
        "B/16",
        "google_mixer_b16_imagenet21k",
        family="MLPMixer",
        url="mixer_models/imagenet21k/Mixer-B_16.npz",
        classes=IN21K,
        crop=0.875,
        interpolation="bicubic",
    ),
    google(
        "L/16",
        "google_mixer_l16_imagenet1k",
        family="MLPMixer",
        url="mixer_models/imagenet1k/Mixer-L_16.npz",
        top1=71.76,
        crop=0.875,
        interpolation="bicubic",
        top1_source="arXiv 2105.01601",
    ),
    google(
        "S/16",
        "bigvision_vit_s16_i1k_90ep",
        url="big_vision/vit_s16_i1k_90ep.npz",
        top1=76.5,
        crop=0.875,
        top1_source="google-research/big_vision, configs/vit_s16_i1k.py",
        pool="gap",
        position_embedding="sincos2d",
        representation_size=384,
    ),
)

FAMILIES = tuple(dict.fromkeys(row.family for row in CHECKPOINTS))
