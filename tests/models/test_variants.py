"""Every published variant has its published number of trainable parameters, from shapes alone."""

import pytest

import keras_mixers as km

GAP = {"pool": "gap"}
AT_384 = {"input_shape": (384, 384, 3)}
IN21K = {"num_classes": 21843}
CIFAR = {"input_shape": (32, 32, 3), "num_classes": 10}

# Google's and timm's published models; the algebra of their layers gives the same numbers.
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


@pytest.mark.parametrize(("family", "variant", "arguments", "count"), COUNTS)
def test_parameter_count(family, variant, arguments, count, abstract_weights):
    model = getattr(km, family)(variant, **arguments)
    sizes = [_product(weight.shape) for weight in model.trainable_weights]
    assert sum(sizes) == count


def _product(shape):
    size = 1
    for side in shape:
        size *= side
    return size


def test_conv_mixer_moving_statistics(abstract_weights):
    model = km.ConvMixer("512/16")
    moving = [_product(weight.shape) for weight in model.non_trainable_weights]
    assert sum(moving) == 2 * (1 + 2 * 16) * 512


def test_every_variant_has_its_count():
    families = ("ViT", "MLPMixer", "ConvMixer")
    published = {(family, variant) for family in families for variant in km.variants(family)}
    assert published == {(family, variant) for family, variant, *_ in COUNTS}


def test_the_table_handed_out_is_a_copy():
    km.variants("ViT")["Ti/16"]["depth"] = 3
    assert km.variants("ViT")["Ti/16"]["depth"] == 12


def test_unknown_family():
    with pytest.raises(ValueError, match=r"`family` must.*'vit'.*Did you mean 'ViT'"):
        km.variants("vit")
