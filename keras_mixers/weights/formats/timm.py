"""timm's names in .safetensors files for ViT and DeiT, MLP-Mixer, gMLP and ConvMixer."""

from keras_mixers.weights.rules import Format, conv, depthwise, linear, pairs, rule

DENSE = {"kernel": "weight", "bias": "bias"}
NORM = {"gamma": "weight", "beta": "bias"}
BATCH_NORM = {**NORM, "moving_mean": "running_mean", "moving_variance": "running_var"}
BLOCK = "blocks.{i}."

HEAD = (
    *pairs("norm", "norm", NORM),
    *pairs("fc_norm", "fc_norm", NORM),
    *pairs("head", "head", DENSE, linear),
)

VIT = (
    *pairs("patch_embed", "patch_embed.proj", DENSE, conv),
    rule("tokens.class", "cls_token"),
    rule("tokens.distillation", "dist_token"),
    rule("tokens.registers", "reg_token"),
    rule("positions", "pos_embed"),
    *pairs(f"{BLOCK}norm1", f"{BLOCK}norm1", NORM),
    *pairs(f"{BLOCK}attention.qkv", f"{BLOCK}attn.qkv", DENSE, linear),
    *pairs(f"{BLOCK}attention.query_norm", f"{BLOCK}attn.q_norm", NORM),
    *pairs(f"{BLOCK}attention.key_norm", f"{BLOCK}attn.k_norm", NORM),
    *pairs(f"{BLOCK}attention.out", f"{BLOCK}attn.proj", DENSE, linear),
    rule(f"{BLOCK}scale1.gamma", f"{BLOCK}ls1.gamma"),
    *pairs(f"{BLOCK}norm2", f"{BLOCK}norm2", NORM),
    *pairs(f"{BLOCK}channel_mixing.fc1", f"{BLOCK}mlp.fc1", DENSE, linear),
    *pairs(f"{BLOCK}channel_mixing.fc2", f"{BLOCK}mlp.fc2", DENSE, linear),
    rule(f"{BLOCK}scale2.gamma", f"{BLOCK}ls2.gamma"),
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


def ignorable(key):
    """The reason to skip a BatchNorm's counter of steps, or None for other keys."""
    if key.endswith("num_batches_tracked"):
        return "counts training steps, not a weight"
    return None


def timm(name, mixer, rules, mark):
    """One of timm's formats; `mark` matches the text after `blocks.0.` in its keys."""
    mark = rf"blocks\.\d+\.{mark}\."
    return Format(name, frozenset({mixer}), rules, mark, ignorable=ignorable)


FORMATS = (
    timm("timm ViT", "attention", VIT, "attn"),
    timm("timm MLP-Mixer", "token_mixing", MIXER, "mlp_tokens"),
    timm("timm gMLP", "spatial_gating", GMLP, r"mlp_channels\.gate"),
    timm("timm ConvMixer", "conv_mixer", CONV_MIXER, r"0\.fn"),
)
