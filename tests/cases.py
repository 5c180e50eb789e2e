"""The table of cases for the tests of layers, models and exports."""

import dataclasses

import numpy as np

import keras_mixers as km
from keras_mixers import layers


@dataclasses.dataclass(frozen=True)
class LayerCase:
    """A layer class, its arguments, and the shape of an input, batch included.

    The argument `mixer` is a function that makes the layer.
    """

    layer: type
    arguments: dict
    shape: tuple
    label: str = ""

    def make(self, **more):
        arguments = {
            name: value() if name == "mixer" else value  # because layers cannot share a mixer
            for name, value in self.arguments.items()
        }
        return self.layer(**{**arguments, **more})

    def inputs(self, batch=None, dtype="float32"):
        batch = self.shape[0] if batch is None else batch
        shape = (batch, *self.shape[1:])
        return np.random.default_rng(7).normal(size=shape).astype(dtype)

    @property
    def id(self):
        return self.layer.__name__ + (f"-{self.label}" if self.label else "")


def attention(label, shape=(2, 6, 16), **arguments):
    return LayerCase(layers.MultiHeadSelfAttention, {"num_heads": 2, **arguments}, shape, label)


# The first case of each layer gives every argument a value that differs from the default.
LAYERS = [
    LayerCase(
        layers.PatchEmbed,
        {"hidden_dim": 8, "patch_size": (2, 3), "flatten": False, "use_bias": False},
        (2, 4, 6, 3),
    ),
    LayerCase(layers.PatchEmbed, {"hidden_dim": 8, "patch_size": 2}, (2, 4, 6, 1), "flat"),
    LayerCase(
        layers.PositionEmbedding,
        {"grid": (2, 3), "num_prefix": 1, "kind": "sincos2d"},
        (2, 7, 8),
    ),
    LayerCase(layers.PositionEmbedding, {"grid": (2, 3), "num_prefix": 2}, (2, 8, 8), "learned"),
    LayerCase(
        layers.PrefixTokens,
        {"class_token": False, "distillation_token": True, "num_registers": 2},
        (2, 6, 8),
    ),
    LayerCase(layers.PrefixTokens, {}, (2, 6, 8), "class"),
    attention(
        "full",
        shape=(2, 7, 16),
        head_dim=4,
        qkv_bias=False,
        qk_norm=True,
        score="dot",
        attention_dropout_rate=0.2,
        dropout_rate=0.1,
        epsilon=1e-5,
        key_bias=False,
        out_bias=False,
        inner_norm=True,
        normalization="rms",
        rotary=layers.Rotary(interleaved=True, columns_first=True),
        grid=(3, 2),
        num_prefix=1,
    ),
    attention("scaled_dot"),
    attention("rotary", key_bias=False, rotary=layers.Rotary(), grid=(3, 2)),
    attention(
        "learned",
        inner_norm=True,
        rotary=layers.Rotary("learned", base=10, interleaved=True),
        grid=(2, 3),
    ),
    attention("bilinear", score="bilinear"),
    attention("additive", score="additive"),
    LayerCase(
        layers.AttentionPooling,
        {"num_heads": 2, "mlp_dim": 12, "activation": "relu", "epsilon": 1e-5},
        (2, 6, 8),
    ),
    LayerCase(
        layers.TokenMixing,
        {"tokens_mlp_dim": 5, "activation": layers.gelu_tanh, "dropout_rate": 0.1},
        (2, 6, 8),
    ),
    LayerCase(
        layers.ChannelMixing,
        {
            "mlp_dim": 12,
            "activation": "silu",
            "gated": True,
            "dropout_rate": 0.1,
            "use_bias": False,
            "inner_norm": True,
            "normalization": "rms",
            "epsilon": 1e-5,
        },
        (2, 6, 8),
    ),
    LayerCase(layers.ChannelMixing, {"mlp_dim": 12}, (2, 6, 8), "mlp"),
    LayerCase(layers.RMSNormalization, {"epsilon": 1e-5}, (2, 6, 8)),
    LayerCase(
        layers.SpatialGating,
        {"mlp_dim": 12, "activation": "relu", "dropout_rate": 0.1, "epsilon": 1e-6},
        (2, 6, 8),
    ),
    LayerCase(layers.PoolMixing, {"grid": (2, 3), "pool_size": (1, 3)}, (2, 6, 8)),
    LayerCase(layers.FourierMixing, {}, (2, 6, 8)),
    LayerCase(
        layers.ConvMixerBlock,
        {
            "kernel_size": (3, 2),
            "activation": "relu",
            "epsilon": 1e-3,
            "momentum": 0.5,
            "gradient_checkpointing": True,
        },
        (2, 4, 5, 8),
    ),
    LayerCase(
        layers.Residual,
        {
            "mixer": lambda: layers.ChannelMixing(12, name="mixer"),
            "stochastic_depth_rate": 0.3,
            "layer_scale_init": 0.5,
            "epsilon": 1e-5,
            "gradient_checkpointing": True,
            "normalization": "rms",
        },
        (2, 6, 8),
    ),
    LayerCase(layers.LayerScale, {"init": 0.5}, (2, 6, 8)),
    LayerCase(layers.StochasticDepth, {"rate": 0.4, "seed": 3}, (2, 6, 8)),
    LayerCase(layers.SelectToken, {"index": 1}, (2, 6, 8)),
]
FULL = list({case.layer: case for case in reversed(LAYERS)}.values())[::-1]


@dataclasses.dataclass(frozen=True)
class ModelCase:
    """A small model for images that are not square and have two channels."""

    id: str
    builder: object
    variant: str
    arguments: dict

    def make(self, **more):
        arguments = {"input_shape": (8, 12, 2), "num_classes": 5, **self.arguments, **more}
        return self.builder(self.variant, **arguments)

    def images(self, batch=4):
        shape = (batch, *self.arguments.get("input_shape", (8, 12, 2)))
        return np.random.default_rng(3).uniform(-1, 1, shape).astype("float32")


def random_weights(model, seed=5):
    """The model with random values in all weights, because ones and zeros hide mistakes."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        if "float" not in weight.dtype:  # the state of a seed generator
            continue
        positive = weight.path.endswith(("gamma", "moving_variance"))
        values = generator.normal(0, 0.3, weight.shape)
        weight.assign(1 + np.abs(values) if positive else values)
    return model


_VIT = {"patch_size": 4, "hidden_dim": 16, "depth": 2, "num_heads": 2, "mlp_dim": 24}
_MIXER = {
    "patch_size": 4,
    "hidden_dim": 16,
    "depth": 2,
    "tokens_mlp_dim": 10,
    "channels_mlp_dim": 24,
}
_CONV = {"patch_size": 2, "hidden_dim": 16, "depth": 2, "kernel_size": 3}
_HYBRID = {
    "patch_size": 4,
    "hidden_dim": 16,
    "num_heads": 2,
    "mlp_dim": 24,
    "tokens_mlp_dim": 10,
    "kernel_size": 3,
}

MODELS = [
    ModelCase("vit", km.ViT, "Ti/16", _VIT),
    ModelCase(
        "vit_gap", km.ViT, "Ti/16", {**_VIT, "pool": "gap", "position_embedding": "sincos2d"}
    ),
    ModelCase("vit_map", km.ViT, "Ti/16", {**_VIT, "pool": "map", "activation": "gelu_tanh"}),
    ModelCase("vit_sequence", km.ViT, "Ti/16", {**_VIT, "pool": None, "num_classes": 0}),
    ModelCase(
        "vit_registers",
        km.ViT,
        "Ti/16",
        {
            **_VIT,
            "pool": "gap",
            "norm_after_pool": True,
            "num_registers": 2,
            "qk_norm": True,
            "layer_scale_init": 0.1,
            "position_prefix": False,
        },
    ),
    ModelCase("vit_pre_logits", km.ViT, "Ti/16", {**_VIT, "representation_size": 12}),
    ModelCase(
        "vit_clip",
        km.ViT,
        "CLIP-B/16",
        {**_VIT, "activation": "quick_gelu"},
    ),
    ModelCase(
        "vit_rotary",
        km.ViT,
        "DINOv3-S+/16",
        {**_VIT, "qkv_bias": True, "without_bias": ("key",), "num_registers": 2},
    ),
    ModelCase("vit_sub_norm", km.ViT, "EVA02-CLIP-B/16", _VIT),
    ModelCase("vit_rms", km.ViT, "AIMv2-L/14", _VIT),
    ModelCase(
        "vit_map_prefix",
        km.ViT,
        "PE-core-Ti/16",
        {**_VIT, "pool_num_heads": 4, "pool_mlp_dim": 20},
    ),
    ModelCase("deit_distilled", km.ViT, "DeiT-Ti/16-distilled", _VIT),
    ModelCase("deit3", km.ViT, "DeiT3-S/16", _VIT),
    ModelCase("mlp_mixer", km.MLPMixer, "S/16", _MIXER),
    ModelCase("conv_mixer", km.ConvMixer, "768/32", _CONV),
    *(
        ModelCase(f"hybrid_{pattern}", km.Hybrid, pattern, _HYBRID)
        for pattern in ("MA", "MMA", "CM", "PG", "ACMPG", "CA")
    ),
]


def case(name):
    """The model case with this id."""
    return next(each for each in MODELS if each.id == name)


FAMILIES = [
    case
    for case in MODELS
    if case.id in ("vit", "mlp_mixer", "conv_mixer", "hybrid_MA", "hybrid_MMA", "hybrid_CM")
]


def describe(model):
    """Path and shape of each weight, one per line, without the states of seed generators."""
    return "".join(f"{weight.path} {tuple(weight.shape)}\n" for weight in model.weights)
