"""The golden files of backbones: small models with the switches of published ones."""

import goldens
import keras
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


def answers(name):
    """The images, and the original's output, tokens and first attention, as far as it has them."""
    with np.load(FOLDER / f"{name}.io.npz") as file:
        return dict(file)


def assert_output(model, name, atol=1e-5):
    """Assert that the model's output equals the original's, except for `atol`."""
    expected = answers(name)
    found = ops.convert_to_numpy(compute(model, expected["image"], training=False))
    np.testing.assert_allclose(found, output_of(expected), rtol=0, atol=atol)


def output_of(expected):
    """The output of the original; of MAE, which has none, the class token."""
    for output in ("output", "image_embeds", "pooler_output"):
        if output in expected:
            return expected[output]
    return expected["tokens"][:, 0]


def assert_equal_to_original(model, name):
    """Assert that output and tokens equal the original's within 1e-5, and attention in 1e-6."""
    expected = answers(name)
    images = expected["image"]
    last = [layer for layer in model.layers if layer.name.startswith("block_")][-1].output
    norm = [layer for layer in model.layers if layer.name == "norm"]
    # timm and Hugging Face normalize the tokens, except before a pooling and in CLIP.
    normalized = norm and len(norm[0].output.shape) == 3 and name != "hf_clip_vision"
    first = model.get_layer("block_0_attention")
    outputs = [model.output, norm[0].output if normalized else last, first.input]
    found = compute(keras.Model(model.input, outputs), images, training=False)
    output, tokens, x = map(ops.convert_to_numpy, found)
    np.testing.assert_allclose(output, output_of(expected), rtol=0, atol=1e-5)
    if "tokens" in expected:
        scale = max(1, np.abs(expected["tokens"]).max())
        np.testing.assert_allclose(tokens, expected["tokens"], rtol=0, atol=1e-5 * scale)
    if "attention_0" in expected:
        weights, _ = first.mixer.weights_and_values(first.norm(x))
        weights = ops.convert_to_numpy(weights)
        np.testing.assert_allclose(weights, expected["attention_0"], rtol=0, atol=1e-6)
