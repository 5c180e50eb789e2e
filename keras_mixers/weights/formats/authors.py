"""The names of the authors of DINOv2, DINOv3, EVA and MAE: timm's with some differences."""

import re

from keras_mixers.weights.formats import timm
from keras_mixers.weights.formats.parts import DENSE, NORM, QKV, QKV_BIASES, gated_fc1
from keras_mixers.weights.rules import Format, by_name, pairs, rule
from keras_mixers.weights.transforms import linear, masked, masked_query_key_value

ATTENTION = "blocks.{i}.attn."
MLP = "blocks.{i}.mlp."
MIXING = "blocks.{i}.channel_mixing."
BIAS, MASK = f"{ATTENTION}qkv.bias", f"{ATTENTION}qkv.bias_mask"

# DINOv3's mask is zero for the biases of the keys. A file without a mask is a copy.
RULES = (
    rule("tokens.registers", "register_tokens"),
    rule("tokens.registers", "storage_tokens"),
    rule(f"{QKV}.bias", [BIAS, MASK], masked),
    rule(f"{QKV}.query_value_bias", [BIAS, MASK], masked_query_key_value),
    *pairs("blocks.{i}.attention.norm", f"{ATTENTION}inner_attn_ln", NORM),
    *pairs(f"{MIXING}norm", f"{MLP}ffn_ln", NORM),
    *pairs(f"{MIXING}fc1", f"{MLP}w12", DENSE, linear),
    *gated_fc1(f"{MLP}w1", f"{MLP}w2"),
    *pairs(f"{MIXING}fc2", f"{MLP}w3", DENSE, linear),
    *timm.VIT,
)


PRE_TRAINING = ("decoder_", "lm_head.", "local_cls_norm.", "projectors.")


def normal(entries):
    """Remove the number of the chunk that DINOv2's sharded training puts before the block's.

    EVA's files with separate matrices name the biases of queries and values like those without. In
    its files of pre-training, which have the head `lm_head`, the last norm is that of each token;
    timm uses it for the average.
    """
    pre_trained = any(key.startswith("lm_head.") for key in entries)

    def renamed(key):
        key = re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", key)
        block = re.fullmatch(r"(blocks\.\d+\.attn\.)([qv])_bias", key)
        if block and f"{block[1]}{block[2]}_proj.weight" in entries:
            return f"{block[1]}{block[2]}_proj.bias"
        return re.sub(r"^norm\.", "fc_norm.", key) if pre_trained else key

    entries = timm.normal_vit(entries)
    return by_name((renamed(key), entry) for key, entry in entries.items())


def ignorable(key):
    """The reason to skip a key that the classifier does not use, or None."""
    if key == "mask_token" or key.startswith(PRE_TRAINING):
        return "only for pre-training"
    if re.search(r"(^|\.)rope(_embed)?\.(periods|freqs_cos|freqs_sin)$", key):
        return "rotary positions, which the model computes"
    if key.endswith(".bias_mask"):
        return "a mask of biases that the model does not have"
    return timm.ignorable(key)


FORMATS = (
    Format(
        "DINO, EVA or MAE",
        frozenset({"attention"}),
        RULES,
        timm.OF_AUTHORS,
        normal,
        ignorable,
        positions="bicubic",
        optional=QKV_BIASES,
    ),
)
