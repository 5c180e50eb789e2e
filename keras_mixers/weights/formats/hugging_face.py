"""Hugging Face's names for ViT and DeiT (also MAE and I-JEPA), DINOv2 and DINOv3.

Queries, keys and values have separate matrices. Version 5 of transformers renamed the layers of
ViT and DINOv2; files with both names exist.
"""

from keras_mixers.weights.formats.parts import (
    DENSE,
    NORM,
    QKV_BIASES,
    gated_fc1,
    query_value_biases,
    separate_biases,
    separate_kernels,
)
from keras_mixers.weights.rules import Format, by_name, pairs, rule
from keras_mixers.weights.transforms import conv, linear

BLOCK = "blocks.{i}."
LAYER = "encoder.layer.{i}."
NEW_PARTS = ("q_proj", "k_proj", "v_proj")

EMBEDDINGS = (
    *pairs("patch_embed", "embeddings.patch_embeddings.projection", DENSE, conv),
    rule("tokens.class", "embeddings.cls_token"),
    rule("positions", "embeddings.position_embeddings"),
)


def attention(key, parts, out):
    """Rules for attention with separate matrices.

    Args:
        key: the key of the layer that has them.
        parts: their names, of queries, keys and values.
        out: the key of the output projection.
    """
    return (
        separate_kernels(key, parts),
        separate_biases(key, parts),
        *pairs(f"{BLOCK}attention.out", out, DENSE, linear),
    )


def new_attention(layer):
    """Rules for the names of version 5."""
    return attention(f"{layer}attention", NEW_PARTS, f"{layer}attention.o_proj")


OLD_ATTENTION = attention(
    f"{LAYER}attention.attention", ("query", "key", "value"), f"{LAYER}attention.output.dense"
)


def mlp(fc1, fc2):
    """Rules for an MLP with these keys of its layers."""
    return (
        *pairs(f"{BLOCK}channel_mixing.fc1", fc1, DENSE, linear),
        *pairs(f"{BLOCK}channel_mixing.fc2", fc2, DENSE, linear),
    )


VIT = (
    *EMBEDDINGS,
    rule("tokens.distillation", "embeddings.distillation_token"),
    *OLD_ATTENTION,
    *new_attention("layers.{i}."),
    *mlp(f"{LAYER}intermediate.dense", f"{LAYER}output.dense"),
    *mlp("layers.{i}.mlp.fc1", "layers.{i}.mlp.fc2"),
    *(
        each
        for layer in (LAYER, "layers.{i}.")
        for each in (
            *pairs(f"{BLOCK}norm1", f"{layer}layernorm_before", NORM),
            *pairs(f"{BLOCK}norm2", f"{layer}layernorm_after", NORM),
        )
    ),
    *pairs("norm", "layernorm", NORM),
    *pairs("pre_logits", "pooler.dense", DENSE, linear),
    *pairs("head", "classifier", DENSE, linear),
    *pairs("head_distillation", "distillation_classifier", DENSE, linear),
)


def block_of_dino(layer):
    """Rules for the norms and the LayerScale of a block of DINOv2 and DINOv3."""
    return (
        *pairs(f"{BLOCK}norm1", f"{layer}norm1", NORM),
        rule(f"{BLOCK}scale1.gamma", f"{layer}layer_scale1.lambda1"),
        *pairs(f"{BLOCK}norm2", f"{layer}norm2", NORM),
        rule(f"{BLOCK}scale2.gamma", f"{layer}layer_scale2.lambda1"),
    )


DINOV2 = (
    *EMBEDDINGS,
    rule("tokens.registers", "embeddings.register_tokens"),
    *block_of_dino(LAYER),
    *OLD_ATTENTION,
    *new_attention(LAYER),
    *mlp(f"{LAYER}mlp.fc1", f"{LAYER}mlp.fc2"),
    *mlp(f"{LAYER}mlp.weights_in", f"{LAYER}mlp.weights_out"),
    *pairs("norm", "layernorm", NORM),
)

DINOV3_LAYER = "layer.{i}."
DINOV3 = (
    *pairs("patch_embed", "embeddings.patch_embeddings", DENSE, conv),
    rule("tokens.class", "embeddings.cls_token"),
    rule("tokens.registers", "embeddings.register_tokens"),
    *block_of_dino(DINOV3_LAYER),
    *new_attention(DINOV3_LAYER),
    *query_value_biases(
        f"{DINOV3_LAYER}attention.q_proj.bias", f"{DINOV3_LAYER}attention.v_proj.bias"
    ),
    *gated_fc1(f"{DINOV3_LAYER}mlp.gate_proj", f"{DINOV3_LAYER}mlp.up_proj"),
    *mlp(f"{DINOV3_LAYER}mlp.up_proj", f"{DINOV3_LAYER}mlp.down_proj"),
    *pairs("norm", "norm", NORM),
)


def one_head(entries):
    """Give DeiT's head the name of ViT's head."""
    pairs = ((key.replace("cls_classifier.", "classifier."), e) for key, e in entries.items())
    return by_name(pairs)


def bare_dinov3(entries):
    """Remove the prefix that version 5 puts before the number of a layer."""
    return by_name((key.removeprefix("model."), entry) for key, entry in entries.items())


def ignorable(key):
    """The reason to skip a key that the classifier does not use, or None."""
    if key == "embeddings.mask_token":
        return "only for masked pre-training"
    if key.startswith("decoder."):
        return "the decoder of masked pre-training"
    if key.startswith("rope_embeddings."):
        return "rotary positions, which the model computes"
    return None


def hugging_face(name, rules, mark, normalise=one_head):
    """One of Hugging Face's formats."""
    return Format(
        f"Hugging Face {name}",
        frozenset({"attention"}),
        rules,
        mark,
        normalise,
        ignorable,
        positions="bicubic",
        optional=QKV_BIASES,
    )


FORMATS = (
    hugging_face("ViT", VIT, r"(encoder\.layer|layers)\.\d+\.layernorm_before\."),
    hugging_face("DINOv2", DINOV2, r"encoder\.layer\.\d+\.layer_scale1\.lambda1$"),
    hugging_face("DINOv3", DINOV3, r"(model\.)?layer\.\d+\.mlp\.up_proj\.", bare_dinov3),
)
