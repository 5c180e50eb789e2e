"""The builder's arguments for a config.json in timm's form."""

from keras_mixers import arguments
from keras_mixers.models.variants import TABLES, scaled_widths
from keras_mixers.weights.catalog import architectures

# timm's name -> the builder's name, for values that mean the same.
SAME = {
    "class_token": "class_token",
    "depth": "depth",
    "embed_dim": "hidden_dim",
    "final_norm": "final_norm",
    "init_values": "layer_scale_init",
    "num_classes": "num_classes",
    "num_heads": "num_heads",
    "patch_size": "patch_size",
    "qk_norm": "qk_norm",
    "qkv_bias": "qkv_bias",
    "reg_tokens": "num_registers",
}
POOLS = {"avg": "gap", "map": "map", "token": "token", "": None}
# The variants whose `mlp_ratio` counts both halves of the gated MLP (timm's SwiGLUPacked).
BOTH_HALVES = ("DINOv2-g/14", "DINOv2-g/14-reg4", "TIPSv2-g/14")
ACTIVATIONS = ("gelu", "gelu_tanh", "quick_gelu", "relu", "silu")
# They change only the training, or which sizes of images timm accepts.
WITHOUT_EFFECT = {
    "attn_drop_rate",
    "drop_path_rate",
    "drop_rate",
    "dynamic_img_pad",
    "dynamic_img_size",
    "fix_init",
    "patch_drop_rate",
    "pos_drop_rate",
    "proj_drop_rate",
    "strict_img_size",
    "weight_init",
}


def from_timm(config):
    """(family, variant, arguments) of a config.json with the field `architecture`.

    Raises:
        ValueError: if the architecture is unknown, or no builder has an argument for a field; the
            message names the field.
    """
    name = arguments.text("architecture", config["architecture"])
    if name not in architectures():
        raise ValueError(
            "`architecture` in config.json must be one that keras_mixers can compute."
            f" {arguments.received(architecture=name)}{arguments.nearest(name, architectures())}"
        )
    architecture = architectures()[name]
    given = {**arguments.mapping("model_args", config.get("model_args", {}))}
    given.setdefault("num_classes", config.get("num_classes", 1000))
    pretrained = arguments.mapping("pretrained_cfg", config.get("pretrained_cfg", {}))
    default_size = (3, architecture.size, architecture.size)
    channels, *size = arguments.sequence(
        "input_size", pretrained.get("input_size", default_size), 3, "`input_size` must be 3 sizes"
    )
    size = given.pop("img_size", size)
    channels = given.pop("in_chans", channels)
    return (
        architecture.family,
        architecture.variant,
        {
            **architecture.arguments,
            **converted(given, architecture),
            "input_shape": (*arguments.pair("img_size", size), channels),
        },
    )


def converted(given, architecture):
    """The builder's arguments for timm's arguments, which are in `model_args` of config.json."""
    published = {**TABLES[architecture.family][architecture.variant], **architecture.arguments}
    hidden_dim = arguments.integer("embed_dim", given.get("embed_dim", published["hidden_dim"]))
    is_resized = hidden_dim != published["hidden_dim"]
    found = scaled_widths(published, hidden_dim) if is_resized else {}
    is_vit = architecture.family == "ViT"
    for name, value in given.items():
        if name in SAME:
            found[SAME[name]] = value
        elif name == "no_embed_class":
            found["position_prefix"] = not value
        elif name == "mlp_ratio" and is_vit:
            halves = 2 if architecture.variant in BOTH_HALVES else 1
            found["mlp_dim"] = int(hidden_dim * arguments.real(name, value, 0.0)) // halves
        elif name == "global_pool" and value in POOLS:
            found["pool"] = POOLS[value]
        elif name == "act_layer" and value in ACTIVATIONS:
            found["activation"] = value
        elif name not in WITHOUT_EFFECT:
            raise ValueError(
                f"`model_args` in config.json has {name}={arguments.shown(value)}, which no builder"
                " of keras_mixers has"
            )
    return {**found, **(pooled(found, published) if is_vit else {})}


def pooled(found, published):
    """What timm's `global_pool` also decides, if it is not the architecture's."""
    pool = published.get("pool", "token")
    if found.get("pool", pool) == pool:
        return {}
    class_token = found.get("class_token", published.get("class_token", pool == "token"))
    return {"class_token": class_token, "norm_after_pool": found["pool"] == "gap"}
