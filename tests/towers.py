"""The golden files of backbones: small models with the switches of published ones."""

import goldens
import numpy as np
from backends import compute
from keras import ops

import keras_mixers as km

FOLDER = goldens.FOLDER / "towers"

_SIZE = {"hidden_dim": 48, "depth": 2, "num_heads": 3, "mlp_dim": 192, "num_classes": 0}
_14 = {**_SIZE, "input_shape": (56, 56, 3)}
_16 = {**_SIZE, "input_shape": (64, 64, 3)}
_CLASSES = {"num_classes": 7}
_QUICK = {"activation": "quick_gelu"}

# Name of the file -> variant and arguments of `ViT`.
TIMM = {
    "aimv2": ("AIMv2-L/14", {**_14, "mlp_dim": 132}),
    "clip": ("CLIP-B/16", {**_16, "num_classes": 1000}),
    "clip_quickgelu": ("CLIP-B/16", {**_16, **_QUICK, "num_classes": 512}),
    "dinov2": ("DINOv2-S/14", _14),
    "dinov2_giant": ("DINOv2-g/14", {**_14, "mlp_dim": 128}),
    "dinov2_reg4": ("DINOv2-S/14-reg4", _14),
    "dinov3": ("DINOv3-S/16", _16),
    "dinov3_plus": ("DINOv3-S+/16", _16),
    "eva02_base": ("EVA02-B/14", {**_14, **_CLASSES, "mlp_dim": 128}),
    "eva02_tiny": ("EVA02-Ti/14", {**_14, **_CLASSES, "mlp_dim": 128}),
    "eva_giant": ("EVA-g/14", {**_14, **_CLASSES, "mlp_dim": 209}),
    "eva_large": ("EVA-L/14", {**_14, **_CLASSES}),
    "flexivit": ("FlexiViT-S/16", {**_16, **_CLASSES}),
    "i_jepa": ("I-JEPA-H/14", _14),
    "internvit": ("InternViT-300M/14", _14),
    "pe_core": ("PE-core-Ti/16", {**_16, "num_classes": 512, "pool_mlp_dim": 192}),
    "pe_spatial": ("PE-spatial-Ti/16", _16),
    "sbb_reg1_gap": ("SBB-little/16", {**_16, **_CLASSES, "mlp_dim": 268, "num_registers": 1}),
    "sbb_reg4_gap": ("SBB-medium/16", {**_16, **_CLASSES, "num_registers": 4}),
    "siglip2_map": ("SigLIP-B/16", _16),
    "siglip_gap": ("SigLIP-B/16", {**_16, "pool": "gap"}),
    "so150m2": (
        "so150m2/16",
        {**_16, **_CLASSES, "mlp_dim": 125, "qkv_bias": False, "num_registers": 1}
        | {"layer_scale_init": 1e-5},
    ),
}
_OPEN_CLIP = {"hidden_dim": 64, "num_heads": 4, "mlp_dim": 256, "num_classes": 32}
_QUERY_VALUE_BIAS = {"qkv_bias": True, "without_bias": ("key",)}
OTHERS = {
    "facebook_dinov2_reg4": ("DINOv2-S/14-reg4", _14),
    "hf_clip_vision": ("CLIP-B/16", {**_16, **_QUICK, "num_classes": 32}),
    "hf_dinov2": ("DINOv2-S/14", _14),
    "hf_dinov2_registers": ("DINOv2-S/14-reg4", _14),
    "hf_dinov3": ("DINOv3-S/16", {**_16, **_QUERY_VALUE_BIAS, "pool": "token"}),
    "hf_siglip_vision": ("SigLIP-B/16", {**_16, "activation": "gelu_tanh"}),
    "hf_vit_mae": ("MAE-B/16", {**_16, "epsilon": 1e-12}),
    "open_clip": ("CLIP-B/16", {**_16, **_QUICK, **_OPEN_CLIP}),
}
TOWERS = {**TIMM, **OTHERS}


def make(name, **more):
    """A model of the golden file's architecture; `more` replaces arguments."""
    variant, arguments = TOWERS[name]
    return km.ViT(variant, **{**arguments, **more})


def path(name):
    return FOLDER / f"{name}.safetensors"


def arrays(name):
    """`{key: array}` of the file."""
    return goldens.read(path(name))


def assert_output(model, name, atol=1e-5):
    """Assert that the model's output equals the original's, except for `atol`."""
    with np.load(FOLDER / f"{name}.io.npz") as file:
        arrays = dict(file)
    arrays["class token"] = arrays["tokens"][:, 0] if "tokens" in arrays else None
    names = ("output", "image_embeds", "pooler_output", "class token")
    expected = next(arrays[name] for name in names if name in arrays)
    found = ops.convert_to_numpy(compute(model, arrays["image"], training=False))
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)
