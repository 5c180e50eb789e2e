"""timm's names in .safetensors files for ViT, DeiT and EVA, MLP-Mixer, gMLP and ConvMixer."""

import re

import numpy as np

from keras_mixers.arguments import MOST_BLOCKS
from keras_mixers.weights.formats.parts import (
    DENSE,
    NORM,
    QKV,
    QKV_BIASES,
    gated_fc1,
    query_value_biases,
    separate_kernels,
)
from keras_mixers.weights.rules import Format, by_name, pairs, rule
from keras_mixers.weights.transforms import conv, depthwise, linear, query_key_value

BATCH_NORM = {**NORM, "moving_mean": "running_mean", "moving_variance": "running_var"}
BLOCK = "blocks.{i}."
FREQUENCIES = "rope.freqs"

HEAD = (
    *pairs("norm", "norm", NORM),
    *pairs("fc_norm", "fc_norm", NORM),
    *pairs("head", "head", DENSE, linear),
)

# The names that timm's class Eva has in place of the names that its class VisionTransformer has.
EVA_SCALES = (
    rule(f"{BLOCK}scale1.gamma", f"{BLOCK}gamma_1"),
    rule(f"{BLOCK}scale2.gamma", f"{BLOCK}gamma_2"),
)
SPLIT_QKV = (
    separate_kernels(f"{BLOCK}attn", ("q_proj", "k_proj", "v_proj")),
    *query_value_biases(f"{BLOCK}attn.q_proj.bias", f"{BLOCK}attn.v_proj.bias"),
)
SPLIT_FC1 = gated_fc1(f"{BLOCK}mlp.fc1_g", f"{BLOCK}mlp.fc1_x")

VIT = (
    *pairs("patch_embed", "patch_embed.proj", DENSE, conv),
    *pairs("patch_norm", "patch_embed.norm", NORM),
    *pairs("embedding_norm", "norm_pre", NORM),
    rule("tokens.class", "cls_token"),
    rule("tokens.distillation", "dist_token"),
    rule("tokens.registers", "reg_token"),
    rule("positions", "pos_embed"),
    *pairs(f"{BLOCK}norm1", f"{BLOCK}norm1", NORM),
    *pairs(f"{BLOCK}attention.qkv", f"{BLOCK}attn.qkv", DENSE, linear),
    *query_value_biases(f"{BLOCK}attn.q_bias", f"{BLOCK}attn.v_bias"),
    *SPLIT_QKV,
    rule(f"{QKV}.query_value_bias", f"{BLOCK}attn.qkv.bias", query_key_value),
    rule(f"{BLOCK}attention.rotary_frequencies", f"{FREQUENCIES}.{{i}}"),
    *pairs(f"{BLOCK}attention.query_norm", f"{BLOCK}attn.q_norm", NORM),
    *pairs(f"{BLOCK}attention.key_norm", f"{BLOCK}attn.k_norm", NORM),
    *pairs(f"{BLOCK}attention.norm", f"{BLOCK}attn.norm", NORM),
    *pairs(f"{BLOCK}attention.out", f"{BLOCK}attn.proj", DENSE, linear),
    rule(f"{BLOCK}scale1.gamma", f"{BLOCK}ls1.gamma"),
    *pairs(f"{BLOCK}norm2", f"{BLOCK}norm2", NORM),
    *pairs(f"{BLOCK}channel_mixing.fc1", f"{BLOCK}mlp.fc1", DENSE, linear),
    *SPLIT_FC1,
    *pairs(f"{BLOCK}channel_mixing.norm", f"{BLOCK}mlp.norm", NORM),
    *pairs(f"{BLOCK}channel_mixing.fc2", f"{BLOCK}mlp.fc2", DENSE, linear),
    rule(f"{BLOCK}scale2.gamma", f"{BLOCK}ls2.gamma"),
    *EVA_SCALES,
    rule("pool.probe", "attn_pool.latent"),
    *pairs("pool.query", "attn_pool.q", DENSE, linear),
    *pairs("pool.key_value", "attn_pool.kv", DENSE, linear),
    *pairs("pool.out", "attn_pool.proj", DENSE, linear),
    *pairs("pool.norm", "attn_pool.norm", NORM),
    *pairs("pool.mlp.fc1", "attn_pool.mlp.fc1", DENSE, linear),
    *pairs("pool.mlp.fc2", "attn_pool.mlp.fc2", DENSE, linear),
    *pairs("head_distillation", "head_dist", DENSE, linear),
    *pairs("pre_logits", "pre_logits.fc", DENSE, linear),
    *HEAD,
)

STEM = pairs("patch_embed", "stem.proj", DENSE, conv)

MIXER = (
    *STEM,
    *pairs(f"{BLOCK}norm1", f"{BLOCK}norm1", NORM),
    *pairs(f"{BLOCK}token_mixing.fc1", f"{BLOCK}mlp_tokens.fc1", DENSE, linear),
    *pairs(f"{BLOCK}token_mixing.fc2", f"{BLOCK}mlp_tokens.fc2", DENSE, linear),
    *pairs(f"{BLOCK}norm2", f"{BLOCK}norm2", NORM),
    *pairs(f"{BLOCK}channel_mixing.fc1", f"{BLOCK}mlp_channels.fc1", DENSE, linear),
    *pairs(f"{BLOCK}channel_mixing.fc2", f"{BLOCK}mlp_channels.fc2", DENSE, linear),
    *HEAD,
)

GMLP = (
    *STEM,
    *pairs(f"{BLOCK}norm1", f"{BLOCK}norm", NORM),
    *pairs(f"{BLOCK}spatial_gating.fc1", f"{BLOCK}mlp_channels.fc1", DENSE, linear),
    *pairs(f"{BLOCK}spatial_gating.norm", f"{BLOCK}mlp_channels.gate.norm", NORM),
    *pairs(f"{BLOCK}spatial_gating.spatial", f"{BLOCK}mlp_channels.gate.proj", DENSE, linear),
    *pairs(f"{BLOCK}spatial_gating.fc2", f"{BLOCK}mlp_channels.fc2", DENSE, linear),
    *HEAD,
)

CONV_MIXER = (
    *pairs("patch_embed", "stem.0", DENSE, conv),
    *pairs("stem_norm", "stem.2", BATCH_NORM),
    *pairs(f"{BLOCK}conv_mixer.depthwise", f"{BLOCK}0.fn.0", DENSE, depthwise),
    *pairs(f"{BLOCK}conv_mixer.norm1", f"{BLOCK}0.fn.2", BATCH_NORM),
    *pairs(f"{BLOCK}conv_mixer.pointwise", f"{BLOCK}1", DENSE, conv),
    *pairs(f"{BLOCK}conv_mixer.norm2", f"{BLOCK}3", BATCH_NORM),
    *pairs("head", "head", DENSE, linear),
)


def normal_vit(entries):
    """Split the learned frequencies of rotary positions into one entry per block."""
    frequencies = entries.get(FREQUENCIES)
    if frequencies is None or len(frequencies.shape) != 4 or frequencies.shape[1] > MOST_BLOCKS:
        return dict(entries)
    rest = [(key, entry) for key, entry in entries.items() if key != FREQUENCIES]
    blocks = [
        (f"{FREQUENCIES}.{i}", frequencies.part((slice(None), i)))
        for i in range(frequencies.shape[1])
    ]
    return by_name([*rest, *blocks])


def as_saved(arrays):
    """The arrays that timm expects in a file, from `{key of the rules: array}`.

    The learned frequencies of all blocks are one array. Each BatchNorm has the counter of steps
    that torch requires in a strict load.
    """
    blocks = [key for key in arrays if re.fullmatch(rf"{re.escape(FREQUENCIES)}\.\d+", key)]
    saved = {key: array for key, array in arrays.items() if key not in blocks}
    if blocks:
        saved[FREQUENCIES] = np.stack(
            [arrays[f"{FREQUENCIES}.{i}"] for i in range(len(blocks))], axis=1
        )
    for key in [key for key in arrays if key.endswith("running_mean")]:
        saved[key.replace("running_mean", "num_batches_tracked")] = np.zeros((), "int64")
    return saved


def own_names(backbone):
    """The rules that come before those of VisionTransformer for models that timm builds otherwise.

    timm builds models with rotary positions, and models whose keys have no bias, with its class
    Eva. If the gated MLP of such a model has an inner norm, queries, keys and values are separate
    layers. The two halves of a gated MLP are separate layers if it has an inner norm, if it has no
    biases (AIMv2), or if the rotary positions are DINOv3's.
    """
    attention = backbone.roles.get("blocks.0.attention.qkv.kernel")
    mlp = backbone.roles.get("blocks.0.channel_mixing.fc1.kernel")
    if not (attention and mlp):
        return ()
    # A user's own layers may have the roles of ours.
    rotary, gated = getattr(attention.layer, "rotary", None), getattr(mlp.layer, "gated", False)
    has_key_bias = "blocks.0.attention.qkv.bias" in backbone.roles
    has_fc1_bias = "blocks.0.channel_mixing.fc1.bias" in backbone.roles
    is_eva = rotary or "blocks.0.attention.qkv.query_value_bias" in backbone.roles
    inner_norm = gated and "blocks.0.channel_mixing.norm.gamma" in backbone.roles
    is_dinov3 = rotary and rotary.coordinates == "centred"
    rules = []
    if is_eva:
        rules += EVA_SCALES
    if is_eva and inner_norm and not has_key_bias:
        rules += SPLIT_QKV
    if gated and (inner_norm or is_dinov3 or not has_fc1_bias):
        rules += SPLIT_FC1
    return rules


def ignorable(key):
    """The reason to skip a BatchNorm's counter of steps, or None for other keys."""
    if key.endswith("num_batches_tracked"):
        return "counts training steps, not a weight"
    return None


# Keys that files of timm do not have, in files of the authors of DINOv2, DINOv3, EVA and MAE.
OF_AUTHORS = (
    r"(mask_token|register_tokens|storage_tokens)$|blocks\.\d+\.(\d+\.)?"
    r"(mlp\.(w\d+|ffn_ln)\.|attn\.(inner_attn_ln\.|qkv\.bias_mask$))"
)


def timm(name, mixer, rules, mark, **more):
    """One of timm's formats; `mark` matches the text after `blocks.0.` in its keys."""
    mark = rf"blocks\.\d+\.{mark}\."
    return Format(name, frozenset({mixer}), rules, mark, ignorable=ignorable, **more)


FORMATS = (
    timm(
        "timm ViT",
        "attention",
        VIT,
        "attn",
        normalise=normal_vit,
        foreign=OF_AUTHORS,
        optional=QKV_BIASES,
        own_rules=own_names,
    ),
    timm("timm MLP-Mixer", "token_mixing", MIXER, "mlp_tokens"),
    timm("timm gMLP", "spatial_gating", GMLP, r"mlp_channels\.gate"),
    timm("timm ConvMixer", "conv_mixer", CONV_MIXER, r"0\.fn"),
)
