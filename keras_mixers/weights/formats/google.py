"""Google's names in .npz files: ViT and MLP-Mixer, from vision_transformer and big_vision."""

import re

from keras_mixers.arguments import MOST_BLOCKS
from keras_mixers.weights.rules import Format, by_name, pairs as rules_of, rule
from keras_mixers.weights.transforms import joined_heads, split_heads

DENSE = {"kernel": "kernel", "bias": "bias"}
NORM = {"gamma": "scale", "beta": "bias"}
PARTS = ("query", "key", "value")
BLOCK = "Transformer/encoderblock_{i}/"
ATTENTION = "MultiHeadDotProductAttention"


def slashed(role, key, names):
    """Rules for the weights of one layer; Flax separates names by slashes."""
    return [rule(each.role, each.keys[0].replace(".", "/")) for each in rules_of(role, key, names)]


def attention(role, key, fused):
    """Rules for an attention layer.

    Args:
        role: the role of the layer.
        key: the key of the layer in the file.
        fused: `{name of our fused matrix: names of the file's matrices that it joins}`.
    """
    rules = []
    for ours, parts in fused.items():
        for name in DENSE:
            keys = [f"{key}/{part}/{name}" for part in parts]
            rules.append(rule(f"{role}.{ours}.{name}", keys, split_heads(len(parts))))
    rules.append(rule(f"{role}.out.kernel", f"{key}/out/kernel", joined_heads))
    rules.append(rule(f"{role}.out.bias", f"{key}/out/bias"))
    return rules


# Flax appends a number to a module's name, which differs between versions of the code. `normalise`
# drops these numbers and names the two norms of a block LayerNorm_first and LayerNorm_second.
VIT = (
    *slashed("patch_embed", "embedding", DENSE),
    rule("tokens.class", "cls"),
    rule("positions", "pos_embedding"),
    *slashed("blocks.{i}.norm1", f"{BLOCK}LayerNorm_first", NORM),
    *attention("blocks.{i}.attention", f"{BLOCK}{ATTENTION}", {"qkv": PARTS}),
    *slashed("blocks.{i}.norm2", f"{BLOCK}LayerNorm_second", NORM),
    *slashed("blocks.{i}.channel_mixing.fc1", f"{BLOCK}MlpBlock/Dense_0", DENSE),
    *slashed("blocks.{i}.channel_mixing.fc2", f"{BLOCK}MlpBlock/Dense_1", DENSE),
    *slashed("norm", "Transformer/encoder_norm", NORM),
    rule("pool.probe", "MAPHead/probe"),
    *attention(
        "pool", f"MAPHead/{ATTENTION}", {"query": ("query",), "key_value": ("key", "value")}
    ),
    *slashed("pool.norm", "MAPHead/LayerNorm", NORM),
    *slashed("pool.mlp.fc1", "MAPHead/MlpBlock/Dense_0", DENSE),
    *slashed("pool.mlp.fc2", "MAPHead/MlpBlock/Dense_1", DENSE),
    *slashed("pre_logits", "pre_logits", DENSE),
    *slashed("head", "head", DENSE),
)

MIXER_BLOCK = "MixerBlock_{i}/"
MIXER = (
    *slashed("patch_embed", "stem", DENSE),
    *slashed("blocks.{i}.norm1", f"{MIXER_BLOCK}LayerNorm_0", NORM),
    *slashed("blocks.{i}.token_mixing.fc1", f"{MIXER_BLOCK}token_mixing/Dense_0", DENSE),
    *slashed("blocks.{i}.token_mixing.fc2", f"{MIXER_BLOCK}token_mixing/Dense_1", DENSE),
    *slashed("blocks.{i}.norm2", f"{MIXER_BLOCK}LayerNorm_1", NORM),
    *slashed("blocks.{i}.channel_mixing.fc1", f"{MIXER_BLOCK}channel_mixing/Dense_0", DENSE),
    *slashed("blocks.{i}.channel_mixing.fc2", f"{MIXER_BLOCK}channel_mixing/Dense_1", DENSE),
    *slashed("norm", "pre_head_layer_norm", NORM),
    *slashed("head", "head", DENSE),
)

# The longer prefix of two comes first.
PREFIXES = ("opt/target/", "params/img/", "params/")


def without_prefix(entries):
    """Remove the prefix of the image tower's keys; all other keys stay."""
    for prefix in PREFIXES:
        if any(key.startswith(prefix) for key in entries):
            return by_name((key.removeprefix(prefix), entry) for key, entry in entries.items())
    return dict(entries)


def normal_vit(entries):
    """Give the keys of all published layouts of a ViT file the names that the rules use."""
    bare = without_prefix(entries)
    if any(key.startswith("Transformer/encoderblock/") for key in bare):
        bare = unscanned(bare)
    if "probe" in bare:  # because older files have the parts of the pooling at the root
        roots = ("probe", "MultiHeadDotProductAttention_0/", "LayerNorm_0/", "MlpBlock_0/")
        bare = {("MAPHead_0/" + k if k.startswith(roots) else k): e for k, e in bare.items()}
    return by_name((plain_vit(key), entry) for key, entry in bare.items())


def unscanned(entries):
    """Split each entry that stacks all blocks, as Flax's `scan` does, into one entry per block."""
    pairs = []
    for key, entry in entries.items():
        rest = key.removeprefix("Transformer/encoderblock/")
        if rest == key or not entry.shape:
            pairs.append((key, entry))
            continue
        if entry.shape[0] > MOST_BLOCKS:
            raise ValueError(
                f"{key!r} must hold at most {MOST_BLOCKS} blocks along its first axis. Received:"
                f" shape {entry.shape}"
            )
        for i in range(entry.shape[0]):
            pairs.append((f"Transformer/encoderblock_{i}/{rest}", entry.part(i)))
    return by_name(pairs)


def plain_vit(key):
    """A ViT's key without the numbers that Flax appends."""
    key = key.removeprefix("Transformer/posembed_input/")
    key = re.sub(r"(MultiHeadDotProductAttention|MlpBlock|MAPHead)_\d+", r"\1", key)
    key = re.sub(r"(encoderblock_\d+/LayerNorm)_0", r"\1_first", key)
    key = re.sub(r"(encoderblock_\d+/LayerNorm)_[12]", r"\1_second", key)
    return key.replace("MAPHead/LayerNorm_0", "MAPHead/LayerNorm")


def normal_mixer(entries):
    """Give keys of the older layout the newer names, and drop their axes of length 1."""
    pairs = []
    for key, entry in without_prefix(entries).items():
        name = re.sub(r"^Mixer/encoderblock_(\d+)/", r"MixerBlock_\1/", key)
        name = name.replace("Mixer/encoder_norm", "pre_head_layer_norm")
        name = re.sub(r"^embedding/", "stem/", name)
        phase = re.fullmatch(r"(.+_mixing)_phase_0/(kernel|bias)([12])", name)
        if phase:
            name = f"{phase[1]}/Dense_{int(phase[3]) - 1}/{phase[2]}"
            entry = entry.squeezed()
        pairs.append((name, entry))
    return by_name(pairs)


def ignorable(key):
    """The reason to skip a key that does not belong to the image model, or None."""
    if key.startswith("opt/state/"):
        return "optimizer state"
    if key.startswith("params/"):
        return "text tower"
    return None


def released_name(key, old):
    """A key of the rules as vision_transformer spells it if `old`, else as big_vision does."""
    numbers = (1, 3, 2) if old else (0, 0, 1)  # of attention, the MLP and the second norm
    if key.startswith("MAPHead/"):
        key = key.replace("LayerNorm/", "LayerNorm_0/").replace("MAPHead", "MAPHead_0")
        numbers = (0, 0, 1)
    key = key.replace(f"{ATTENTION}/", f"{ATTENTION}_{numbers[0]}/")
    key = key.replace("MlpBlock/", f"MlpBlock_{numbers[1]}/")
    key = key.replace("LayerNorm_first", "LayerNorm_0")
    key = key.replace("LayerNorm_second", f"LayerNorm_{numbers[2]}")
    return f"Transformer/posembed_input/{key}" if old and key == "pos_embedding" else key


FORMATS = (
    Format(
        "Google ViT",
        frozenset({"attention"}),
        VIT,
        f"({'|'.join(PREFIXES)})?Transformer/encoder",
        normal_vit,
        ignorable,
        positions="bilinear_corners",
    ),
    Format(
        "Google MLP-Mixer",
        frozenset({"token_mixing"}),
        MIXER,
        f"({'|'.join(PREFIXES)})?(MixerBlock_|Mixer/encoder)",
        normal_mixer,
        ignorable,
        positions="bilinear_corners",
    ),
)
