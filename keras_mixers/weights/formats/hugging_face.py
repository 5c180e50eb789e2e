"""Hugging Face's names for ViT and DeiT; queries, keys and values have separate matrices."""

from keras_mixers.weights.formats.timm import DENSE, NORM
from keras_mixers.weights.rules import Format, by_name, conv, linear, pairs, rule, same, stacked

LAYER = "encoder.layer.{i}."
PARTS = ("query", "key", "value")

VIT = (
    *pairs("patch_embed", "embeddings.patch_embeddings.projection", DENSE, conv),
    rule("tokens.class", "embeddings.cls_token"),
    rule("tokens.distillation", "embeddings.distillation_token"),
    rule("positions", "embeddings.position_embeddings"),
    *pairs("blocks.{i}.norm1", f"{LAYER}layernorm_before", NORM),
    rule(
        "blocks.{i}.attention.qkv.kernel",
        [f"{LAYER}attention.attention.{part}.weight" for part in PARTS],
        stacked(3, linear),
    ),
    rule(
        "blocks.{i}.attention.qkv.bias",
        [f"{LAYER}attention.attention.{part}.bias" for part in PARTS],
        stacked(3, same),
    ),
    *pairs("blocks.{i}.attention.out", f"{LAYER}attention.output.dense", DENSE, linear),
    *pairs("blocks.{i}.norm2", f"{LAYER}layernorm_after", NORM),
    *pairs("blocks.{i}.channel_mixing.fc1", f"{LAYER}intermediate.dense", DENSE, linear),
    *pairs("blocks.{i}.channel_mixing.fc2", f"{LAYER}output.dense", DENSE, linear),
    *pairs("norm", "layernorm", NORM),
    *pairs("pre_logits", "pooler.dense", DENSE, linear),
    *pairs("head", "classifier", DENSE, linear),
    *pairs("head_distillation", "distillation_classifier", DENSE, linear),
)


def one_head(entries):
    """Give DeiT's head the name of ViT's head."""
    pairs = ((key.replace("cls_classifier.", "classifier."), e) for key, e in entries.items())
    return by_name(pairs)


def ignorable(key):
    """The reason to skip a key that the classifier does not use, or None."""
    if key == "embeddings.mask_token":
        return "only for masked pre-training"
    return None


FORMATS = (
    Format(
        "Hugging Face ViT",
        frozenset({"attention"}),
        VIT,
        r"encoder\.layer\.\d+\.attention\.attention\.",
        one_head,
        ignorable,
        positions="bicubic",
    ),
)
