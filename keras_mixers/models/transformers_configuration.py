"""The builder's arguments for a config.json in the form of transformers.

Source: transformers, `src/transformers/models/*/configuration_*.py`, which have the defaults of
fields that a config.json leaves out.
"""

from keras_mixers import arguments
from keras_mixers.layers import Rotary

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
}
# Any variant with the builder's defaults, because each of its sizes is replaced.
VARIANT = "B/16"


def from_transformers(config):
    """(family, variant, arguments) of a config.json with the field `model_type`.

    A model without its published classifier gets `num_classes=0`.

    Raises:
        ValueError: if the model type is unknown, or no builder can compute what a field says; the
            message names the field.
    """
    kind = arguments.text("model_type", config["model_type"])
    if kind not in MODELS:
        known = ", ".join(map(repr, MODELS))
        raise ValueError(
            f"`model_type` in config.json must be one of {known}."
            f" {arguments.received(model_type=kind)}"
        )
    return "ViT", VARIANT, MODELS[kind](config)


def require(config, name, valid, default):
    """The value of a field, which must be one of `valid`."""
    value = config.get(name, default)
    if value not in valid:
        expected = " or ".join(map(repr, valid))
        raise ValueError(
            f"`{name}` in config.json must be {expected} for a model of keras_mixers."
            f" {arguments.received(**{name: value})}"
        )
    return value


def sizes(config, patch_size, epsilon, activation="gelu"):
    """The arguments of all models; the other parameters are the model type's defaults."""
    image = arguments.pair("image_size", config.get("image_size", 224))
    name = require(config, "hidden_act", tuple(ACTIVATIONS), activation)
    return {
        "input_shape": (*image, config.get("num_channels", 3)),
        "patch_size": config.get("patch_size", patch_size),
        "hidden_dim": arguments.integer("hidden_size", config.get("hidden_size", 768)),
        "depth": config.get("num_hidden_layers", 12),
        "num_heads": config.get("num_attention_heads", 12),
        "mlp_dim": config.get("intermediate_size", 3072),
        "activation": ACTIVATIONS[name],
        "epsilon": config.get("layer_norm_eps", epsilon),
        "num_classes": 0,
    }


def model_class(config):
    """The name of transformers' class, or None."""
    names = config.get("architectures") or [None]
    return arguments.sequence("architectures", names, 1, "`architectures` must be a list")[0]


def labels(config, classifiers):
    """`num_classes` of a model whose class is one of `classifiers`, else 0."""
    if model_class(config) not in classifiers:
        return 0
    names = arguments.mapping("id2label", config.get("id2label", {0: "", 1: ""}))
    return config.get("num_labels", len(names))


def vit(config):
    """ViT and, without its decoder, MAE."""
    return {
        **sizes(config, 16, 1e-12),
        "qkv_bias": config.get("qkv_bias", True),
        "num_classes": labels(config, ("ViTForImageClassification",)),
    }


def deit(config):
    """DeiT with a distillation token, whose logits are the mean of two classifiers."""
    name = model_class(config)
    classifier = "DeiTForImageClassificationWithTeacher"
    if name not in (classifier, "DeiTModel", None):
        raise ValueError(
            f"`architectures` in config.json must be {classifier!r} or 'DeiTModel', because a model"
            " of keras_mixers with a distillation token averages two classifiers."
            f" {arguments.received(architectures=name)}"
        )
    return {
        **vit(config),
        "distillation_token": True,
        "num_classes": labels(config, (classifier,)),
    }


def ijepa(config):
    """I-JEPA, which has no class token."""
    return {**vit(config), "pool": "gap"}


def dinov2(config):
    """DINOv2, with or without registers."""
    require(config, "apply_layernorm", (True,), True)
    found = sizes(config, 14, 1e-6)
    ratio = arguments.real("mlp_ratio", config.get("mlp_ratio", 4), 0.0)
    width = int(found["hidden_dim"] * ratio)
    gated = config.get("use_swiglu_ffn", False)
    has_registers = config["model_type"] == "dinov2_with_registers"
    registers = config.get("num_register_tokens", 4 if has_registers else 0)
    return {
        **found,
        # The authors round two thirds of the width up to a multiple of 8.
        "mlp_dim": -(-int(width * 2 / 3) // 8) * 8 if gated else width,
        "gated_mlp": gated,
        "activation": "silu" if gated else found["activation"],
        "qkv_bias": config.get("qkv_bias", True),
        "layer_scale_init": config.get("layerscale_value", 1.0),
        "num_registers": registers,
        "position_prefix": not registers,
    }


def dinov3(config):
    """DINOv3."""
    require(config, "apply_layernorm", (True,), True)
    defaults = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}
    biases = tuple(config.get(f"{part}_bias", part != "key") for part in ("query", "key", "value"))
    if biases not in ((True,) * 3, (True, False, True), (False,) * 3):
        raise ValueError(
            "`query_bias` and `value_bias` in config.json must be equal, and `key_bias` needs both."
            f" Received: query_bias, key_bias, value_bias={biases}"
        )
    without = {
        "key": biases[0] and not biases[1],
        "out": not config.get("proj_bias", True),
        "mlp": not config.get("mlp_bias", True),
    }
    return {
        **sizes({**defaults, **config}, 16, 1e-5),
        "gated_mlp": config.get("use_gated_mlp", False),
        "qkv_bias": biases[0],
        "without_bias": tuple(part for part, is_without in without.items() if is_without),
        "layer_scale_init": config.get("layerscale_value", 1.0),
        "num_registers": config.get("num_register_tokens", 0),
        "position_embedding": None,
        "rotary": Rotary(base=config.get("rope_theta", 100.0)),
    }


def clip(config):
    """The vision tower of CLIP. Its projection to the space of texts is the head, if it has one."""
    has_head = model_class(config) == "CLIPVisionModelWithProjection"
    return {
        **sizes(config, 32, 1e-5, "quick_gelu"),
        "extra_norms": ("embeddings",),
        "without_bias": ("patches",),
        "num_classes": config.get("projection_dim", 512) if has_head else 0,
    }


def vision(config):
    """The fields of the image tower of a model of two towers."""
    return arguments.mapping("vision_config", config.get("vision_config", {}))


def clip_of_two_towers(config):
    """The vision tower of a whole CLIP, with its projection."""
    tower = clip(vision(config))
    return {**tower, "num_classes": config.get("projection_dim", 512)}


def siglip(config):
    """The vision tower of SigLIP; without its head, the average of the patches."""
    pool = "map" if config.get("vision_use_head", True) else "gap"
    return {**sizes(config, 16, 1e-6, "gelu_pytorch_tanh"), "pool": pool}


def siglip_of_two_towers(config):
    """The vision tower of a whole SigLIP."""
    return siglip(vision(config))


MODELS = {
    "vit": vit,
    "deit": deit,
    "vit_mae": vit,
    "ijepa": ijepa,
    "dinov2": dinov2,
    "dinov2_with_registers": dinov2,
    "dinov3_vit": dinov3,
    "clip_vision_model": clip,
    "clip": clip_of_two_towers,
    "siglip_vision_model": siglip,
    "siglip": siglip_of_two_towers,
}
