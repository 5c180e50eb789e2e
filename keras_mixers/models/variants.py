"""The published tables of all families."""

import copy

from keras_mixers import arguments, layers
from keras_mixers.graph import all_layers
from keras_mixers.layers.base import mixes_tokens
from keras_mixers.models import conv_mixer, mlp_mixer, vit

TABLES = {
    "ViT": vit.VARIANTS,
    "MLPMixer": mlp_mixer.VARIANTS,
    "ConvMixer": conv_mixer.VARIANTS,
}


def variants(family: str) -> dict[str, dict]:
    """The published variants of a family: `{name: {argument: value}}`.

    Args:
        family: `"ViT"`, `"MLPMixer"` or `"ConvMixer"`.

    Raises:
        ValueError: there is no such family.

    Example:
        >>> variants("MLPMixer")["S/32"]["hidden_dim"]
        512
    """
    return copy.deepcopy(TABLES[arguments.choice("family", family, TABLES)])


def variant_of(model):
    """The published size of a model, as `"ViT S/16"`, or None; told by its layers alone."""
    parts = all_layers(model)
    for family, (mixer, read) in FAMILIES.items():
        blocks = [layer for layer in parts if isinstance(layer, mixer)]
        embeds = [layer for layer in parts if isinstance(layer, layers.PatchEmbed)]
        if len(embeds) != 1 or not blocks or has_other_mixers(parts, mixer):
            continue
        size = {
            "patch_size": embeds[0].patch_size,
            "hidden_dim": embeds[0].hidden_dim,
            "depth": len(blocks),
            **read(parts, blocks[0]),
        }
        for name, row in TABLES[family].items():
            told = {**row, "patch_size": (row["patch_size"],) * 2}
            if all(told[key] == value for key, value in size.items()):
                return f"{family} {name}"
    return None


def has_other_mixers(parts, mixer):
    """Whether tokens are mixed in other ways too: a hybrid."""
    return any(mixes_tokens(layer) and not isinstance(layer, mixer) for layer in parts)


def read_vit(parts, attention):
    """What tells a ViT's rows apart, beyond what all families have."""
    prefixes = [layer for layer in parts if isinstance(layer, layers.PrefixTokens)]
    residuals = [layer for layer in parts if isinstance(layer, layers.Residual)]
    return {
        "num_heads": attention.num_heads,
        "mlp_dim": channel_width(parts),
        "distillation_token": any(layer.distillation_token for layer in prefixes),
        "layer_scale_init": residuals[0].layer_scale_init if residuals else None,
    }


def read_mlp_mixer(parts, token_mixing):
    """What tells an MLP-Mixer's rows apart."""
    return {
        "tokens_mlp_dim": token_mixing.tokens_mlp_dim,
        "channels_mlp_dim": channel_width(parts),
    }


def read_conv_mixer(_, block):
    """What tells a ConvMixer's rows apart, whatever their activation."""
    rows, columns = block.kernel_size
    return {"kernel_size": rows if rows == columns else None}


def channel_width(parts):
    """The hidden width of the MLPs on channels, if they have one."""
    widths = {layer.mlp_dim for layer in parts if isinstance(layer, layers.ChannelMixing)}
    return widths.pop() if len(widths) == 1 else None


FAMILIES = {
    "ViT": (layers.MultiHeadSelfAttention, read_vit),
    "MLPMixer": (layers.TokenMixing, read_mlp_mixer),
    "ConvMixer": (layers.ConvMixerBlock, read_conv_mixer),
}
