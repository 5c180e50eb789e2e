"""Every published variant has its published number of parameters and is found by variant_of."""

import csv
import json
import math
import pathlib

import keras
import pytest

import keras_mixers as km
from keras_mixers.models.variants import variant_of

pytestmark = pytest.mark.one_backend("names, shapes and counts are the same on every backend")

GAP = {"pool": "gap"}
AT_384 = {"input_shape": (384, 384, 3)}
IN21K = {"num_classes": 21843}
CIFAR = {"input_shape": (32, 32, 3), "num_classes": 10}

# From Google's and timm's published models. The sizes of their layers add up to the same numbers.
COUNTS = [
    ("ViT", "Ti/16", {}, 5_717_416),
    ("ViT", "Ti/16", GAP, 5_717_032),
    ("ViT", "Ti/16", AT_384, 5_790_376),
    ("ViT", "S/32", {}, 22_878_952),
    ("ViT", "S/32", GAP, 22_878_184),
    ("ViT", "S/32", AT_384, 22_915_432),
    ("ViT", "S/16", {}, 22_050_664),
    ("ViT", "S/16", GAP, 22_049_896),
    ("ViT", "S/16", AT_384, 22_196_584),
    ("ViT", "S/8", {}, 22_055_272),
    ("ViT", "M/16", {}, 38_837_736),
    ("ViT", "M/16", GAP, 38_836_712),
    ("ViT", "B/32", {}, 88_224_232),
    ("ViT", "B/32", GAP, 88_222_696),
    ("ViT", "B/32", AT_384, 88_297_192),
    ("ViT", "B/16", {}, 86_567_656),
    ("ViT", "B/16", GAP, 86_566_120),
    ("ViT", "B/16", AT_384, 86_859_496),
    ("ViT", "B/8", {}, 86_576_872),
    ("ViT", "L/32", {}, 306_535_400),
    ("ViT", "L/32", GAP, 306_533_352),
    ("ViT", "L/32", AT_384, 306_632_680),
    ("ViT", "L/16", {}, 304_326_632),
    ("ViT", "L/16", GAP, 304_324_584),
    ("ViT", "L/16", AT_384, 304_715_752),
    ("ViT", "L/14", {}, 304_203_752),
    ("ViT", "So400m/14", {}, 413_597_656),
    ("ViT", "H/14", {}, 632_045_800),
    ("ViT", "H/14", GAP, 632_043_240),
    ("ViT", "H/14", {"num_classes": 0}, 630_764_800),
    ("ViT", "g/14", {}, 1_012_611_432),
    ("ViT", "G/14", {}, 1_844_440_680),
    ("ViT", "DeiT-Ti/16", {}, 5_717_416),
    ("ViT", "DeiT-S/16", {}, 22_050_664),
    ("ViT", "DeiT-B/16", {}, 86_567_656),
    ("ViT", "DeiT-Ti/16-distilled", {}, 5_910_800),
    ("ViT", "DeiT-S/16-distilled", {}, 22_436_432),
    ("ViT", "DeiT-B/16-distilled", {}, 87_338_192),
    ("ViT", "DeiT-B/16-distilled", AT_384, 87_630_032),
    ("ViT", "DeiT3-S/16", {}, 22_059_496),
    ("ViT", "DeiT3-M/16", {}, 38_849_512),
    ("ViT", "DeiT3-B/16", {}, 86_585_320),
    ("ViT", "DeiT3-L/16", {}, 304_374_760),
    ("ViT", "DeiT3-H/14", {}, 632_126_440),
    ("MLPMixer", "S/32", {}, 19_104_624),
    ("MLPMixer", "S/32", IN21K, 29_797_083),
    ("MLPMixer", "S/16", {}, 18_528_264),
    ("MLPMixer", "S/16", IN21K, 29_220_723),
    ("MLPMixer", "B/32", {}, 60_293_428),
    ("MLPMixer", "B/32", IN21K, 76_321_695),
    ("MLPMixer", "B/16", {}, 59_880_472),
    ("MLPMixer", "B/16", IN21K, 75_908_739),
    ("MLPMixer", "L/32", {}, 206_939_264),
    ("MLPMixer", "L/32", IN21K, 228_303_339),
    ("MLPMixer", "L/16", {}, 208_196_168),
    ("MLPMixer", "L/16", IN21K, 229_560_243),
    ("MLPMixer", "H/14", {}, 432_350_952),
    ("MLPMixer", "H/14", IN21K, 459_050_835),
    ("ConvMixer", "1536/20", {}, 51_625_960),
    ("ConvMixer", "768/32", {}, 21_110_248),
    ("ConvMixer", "1024/20", {}, 24_383_464),
    ("ConvMixer", "1024/12", {}, 14_621_672),
    ("ConvMixer", "512/16", {}, 5_357_544),
    ("ConvMixer", "256/8-k5-p2", CIFAR, 594_186),
    ("ConvMixer", "256/8-k9-p1", CIFAR, 706_570),
]


# timm's sizes of the other Vision Transformers, and the number of parameters that it counts.
with pathlib.Path(__file__).with_name("variants.csv").open() as file:
    ROWS = {row["variant"]: row for row in csv.DictReader(file)}
COUNTS += [
    (
        "ViT",
        variant,
        {
            "input_shape": (int(row["size"]), int(row["size"]), 3),
            "num_classes": int(row["classes"]),
            **json.loads(row["arguments"] or "{}"),
        },
        int(row["parameters"]),
    )
    for variant, row in ROWS.items()
]


@pytest.mark.parametrize(("family", "variant", "arguments", "count"), COUNTS)
def test_variant_has_published_parameter_count(family, variant, arguments, count, abstract_weights):
    """Two small models are built, because each block has the same number of parameters."""

    def parameters(depth):
        model = getattr(km, family)(variant, depth=depth, **arguments)
        return sum(math.prod(weight.shape) for weight in model.trainable_weights)

    depth = km.variants(family)[variant]["depth"]
    one, two = parameters(1), parameters(2)
    assert one + (two - one) * (depth - 1) == count


def test_variants_have_the_heads_of_timm():
    found = {name: row["num_heads"] for name, row in km.variants("ViT").items() if name in ROWS}
    assert found == {name: int(row["heads"]) for name, row in ROWS.items()}


@pytest.mark.parametrize(
    ("family", "variant"),
    [
        ("ViT", "Ti/16"),
        ("ViT", "DeiT-Ti/16-distilled"),
        ("ViT", "DeiT3-S/16"),
        ("ViT", "CLIP-B/32"),
        ("ViT", "DINOv2-S/14"),
        ("ViT", "DINOv2-S/14-reg4"),
        ("ViT", "DINOv3-S/16"),
        ("ViT", "DINOv3-S+/16"),
        ("ViT", "AIMv2-L/14"),
        ("ViT", "SigLIP-B/16"),
        ("ViT", "I-JEPA-H/14"),
        ("ViT", "EVA02-CLIP-B/16"),
        ("ViT", "BEiT3-B/16"),
        ("ViT", "PE-core-G/14"),
        ("MLPMixer", "S/16"),
        ("ConvMixer", "512/16"),
    ],
)
def test_variant_of_finds_the_variant(family, variant, abstract_weights):
    assert variant_of(getattr(km, family)(variant)) == f"{family} {variant}"


def test_conv_mixer_has_two_statistics_a_norm(abstract_weights):
    model = km.ConvMixer("512/16")
    moving = [math.prod(weight.shape) for weight in model.non_trainable_weights]
    assert sum(moving) == 2 * (1 + 2 * 16) * 512


def test_every_variant_has_a_count():
    families = ("ViT", "MLPMixer", "ConvMixer")
    published = {(family, variant) for family in families for variant in km.variants(family)}
    assert published == {(family, variant) for family, variant, *_ in COUNTS}


def test_variants_returns_a_copy():
    km.variants("ViT")["Ti/16"]["depth"] = 3
    assert km.variants("ViT")["Ti/16"]["depth"] == 12


def test_variants_refuses_unknown_family():
    with pytest.raises(ValueError, match=r"`family` must.*'vit'.*Did you mean 'ViT'"):
        km.variants("vit")


SMALL = {"input_shape": (224, 224, 3), "num_classes": 2}


@pytest.mark.parametrize(
    ("family", "variant", "changed"),
    [
        ("ViT", "Ti/16", {"patch_size": 14}),
        ("ViT", "Ti/16", {"hidden_dim": 384}),
        ("ViT", "Ti/16", {"depth": 3}),
        ("ViT", "Ti/16", {"num_heads": 6}),
        ("ViT", "Ti/16", {"mlp_dim": 384}),
        ("ViT", "Ti/16", {"distillation_token": True, "hidden_dim": 96}),
        ("ViT", "Ti/16", {"layer_scale_init": 0.1}),
        ("ViT", "B/32", {"distillation_token": True}),
        ("ViT", "Ti/16", {"num_registers": 3}),
        ("ViT", "Ti/16", {"gated_mlp": True}),
        ("ViT", "DINOv3-S/16", {"rotary": None}),
        ("MLPMixer", "S/16", {"tokens_mlp_dim": 128}),
        ("MLPMixer", "S/16", {"channels_mlp_dim": 128}),
        ("ConvMixer", "512/16", {"kernel_size": 7}),
        ("ConvMixer", "512/16", {"kernel_size": (8, 7)}),
    ],
)
def test_variant_of_other_sizes_is_none(family, variant, changed, abstract_weights):
    assert variant_of(getattr(km, family)(variant, **SMALL, **changed)) is None


def test_variant_of_a_hybrid_is_none(abstract_weights):
    hybrid = km.Hybrid("A" * 11 + "P", hidden_dim=192, num_heads=3, pool="gap")
    assert variant_of(hybrid) is None
    assert variant_of(km.Hybrid("A" * 12, hidden_dim=192, num_heads=3)) == "ViT Ti/16"


def test_variant_of_foreign_models_is_none():
    images = keras.Input((32, 32, 3))
    assert variant_of(keras.Model(images, keras.layers.Flatten()(images))) is None


@pytest.mark.parametrize("pool", ["token", "gap", "map", None])
@pytest.mark.parametrize("variant", ["EVA02-Ti/14", "I-JEPA-H/14", "SigLIP-B/16", "DINOv3-S/16"])
def test_every_pooling_fits_every_variant(variant, pool, abstract_weights):
    """What the row states of another pooling does not apply."""
    small = {"depth": 1, "hidden_dim": 48, "num_heads": 3, "num_classes": 4}
    model = km.ViT(variant, pool=pool, **small)
    assert model.output_shape[-1] == 4
    assert len(model.output_shape) == (3 if pool is None else 2)
