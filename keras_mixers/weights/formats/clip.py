"""The names of CLIP and SigLIP towers: OpenAI, OpenCLIP and Perception Encoder, and Hugging Face.

Files of both towers are read for their image tower. Its projection has no bias and is the head.
"""

from keras_mixers.arguments import shown
from keras_mixers.weights.formats.parts import DENSE, NORM, separate_biases, separate_kernels
from keras_mixers.weights.rules import Format, by_name, pairs, rule
from keras_mixers.weights.transforms import conv, linear

BLOCK = "blocks.{i}."
VISUAL = "visual."
RESBLOCK = "visual.transformer.resblocks.{i}."

# Names of the two parts of an array that joins queries, keys and values; see `normal`.
QUERY, KEY_VALUE = " of queries", " of keys, values"


def pooling(key, attention, fc1, fc2):
    """Rules for attention pooling, where one array has queries, keys and values."""
    joined = f"{key}{attention}.in_proj_"
    return (
        rule("pool.probe", f"{key}probe"),
        rule("pool.query.kernel", f"{joined}weight{QUERY}", linear),
        rule("pool.query.bias", f"{joined}bias{QUERY}"),
        rule("pool.key_value.kernel", f"{joined}weight{KEY_VALUE}", linear),
        rule("pool.key_value.bias", f"{joined}bias{KEY_VALUE}"),
        *pairs("pool.out", f"{key}{attention}.out_proj", DENSE, linear),
        *pairs("pool.norm", f"{key}layernorm", NORM),
        *pairs("pool.mlp.fc1", f"{key}mlp.{fc1}", DENSE, linear),
        *pairs("pool.mlp.fc2", f"{key}mlp.{fc2}", DENSE, linear),
    )


# OpenAI's code and OpenCLIP have no LayerScale and no attention pooling; Perception Encoder has.
OPEN_CLIP = (
    rule("patch_embed.kernel", "visual.conv1.weight", conv),
    rule("tokens.class", "visual.class_embedding"),
    rule("positions", "visual.positional_embedding"),
    *pairs("embedding_norm", "visual.ln_pre", NORM),
    *pairs(f"{BLOCK}norm1", f"{RESBLOCK}ln_1", NORM),
    rule(f"{BLOCK}attention.qkv.kernel", f"{RESBLOCK}attn.in_proj_weight", linear),
    rule(f"{BLOCK}attention.qkv.bias", f"{RESBLOCK}attn.in_proj_bias"),
    *pairs(f"{BLOCK}attention.out", f"{RESBLOCK}attn.out_proj", DENSE, linear),
    rule(f"{BLOCK}scale1.gamma", f"{RESBLOCK}ls_1.gamma"),
    *pairs(f"{BLOCK}norm2", f"{RESBLOCK}ln_2", NORM),
    *pairs(f"{BLOCK}channel_mixing.fc1", f"{RESBLOCK}mlp.c_fc", DENSE, linear),
    *pairs(f"{BLOCK}channel_mixing.fc2", f"{RESBLOCK}mlp.c_proj", DENSE, linear),
    rule(f"{BLOCK}scale2.gamma", f"{RESBLOCK}ls_2.gamma"),
    *pairs("norm", "visual.ln_post", NORM),
    *pooling("visual.attn_pool.", "attn", "c_fc", "c_proj"),
    rule("head.kernel", "visual.proj"),
)

LAYER = "encoder.layers.{i}."
PARTS = ("q_proj", "k_proj", "v_proj")

TOWER = (
    rule("patch_embed.kernel", "embeddings.patch_embedding.weight", conv),
    rule("positions", "embeddings.position_embedding.weight"),
    *pairs(f"{BLOCK}norm1", f"{LAYER}layer_norm1", NORM),
    separate_kernels(f"{LAYER}self_attn", PARTS),
    separate_biases(f"{LAYER}self_attn", PARTS),
    *pairs(f"{BLOCK}attention.out", f"{LAYER}self_attn.out_proj", DENSE, linear),
    *pairs(f"{BLOCK}norm2", f"{LAYER}layer_norm2", NORM),
    *pairs(f"{BLOCK}channel_mixing.fc1", f"{LAYER}mlp.fc1", DENSE, linear),
    *pairs(f"{BLOCK}channel_mixing.fc2", f"{LAYER}mlp.fc2", DENSE, linear),
    *pairs("norm", "post_layernorm", NORM),
)

CLIP = (
    *TOWER,
    rule("tokens.class", "embeddings.class_embedding"),
    *pairs("embedding_norm", "pre_layrnorm", NORM),
    rule("head.kernel", "visual_projection.weight", linear),
)

SIGLIP = (
    *TOWER,
    rule("patch_embed.bias", "embeddings.patch_embedding.bias"),
    *pooling("head.", "attention", "fc1", "fc2"),
)

# Tables and tokens without the axis of images.
WITHOUT_IMAGES = (
    "class_embedding",
    "positional_embedding",
    "position_embedding.weight",
    "attn_pool.probe",
)
# Arrays that hold queries, keys and values, of layers where the model has two matrices.
JOINED = tuple(
    f"{layer}.in_proj_{kind}"
    for layer in ("attn_pool.attn", "head.attention")
    for kind in ("weight", "bias")
)


def normal(entries):
    """Add the axis of images to tables and tokens, and split what the pooling joins."""
    pairs = []
    for key, entry in entries.items():
        if key.endswith(WITHOUT_IMAGES):
            pairs.append((key, entry.with_axes(3)))
        elif key.endswith(JOINED) and entry.shape:
            width = entry.shape[0] // 3
            pairs.append((f"{key}{QUERY}", entry.part(slice(width))))
            pairs.append((f"{key}{KEY_VALUE}", entry.part(slice(width, None))))
        else:
            pairs.append((key, entry))
    return by_name(pairs)


def normal_open_clip(entries):
    """Give the keys of a file that has only an image tower the prefix of files with both."""
    prefix = "" if any(key.startswith(VISUAL) for key in entries) else VISUAL
    return normal({f"{prefix}{key}": entry for key, entry in entries.items()})


def normal_hugging_face(entries):
    """Remove the prefix of the image tower that some files have.

    Raises:
        ValueError: if the file is of a SigLIP 2 that reads images of any size (NaFlex).
    """
    pairs = ((key.removeprefix("vision_model."), entry) for key, entry in entries.items())
    named = by_name(pairs)
    kernel = named.get("embeddings.patch_embedding.weight")
    if kernel is not None and len(kernel.shape) == 2:
        raise ValueError(
            f"{shown(kernel.key)} must have a kernel with 4 axes, of a model for one image size."
            f" Received: shape {kernel.shape}, as in SigLIP 2 for images of any size (NaFlex)"
        )
    return normal(named)


def ignorable_in_open_clip(key):
    """The reason to skip a key outside the image tower, or None."""
    return None if key.startswith(VISUAL) else "text tower or scale of similarities"


def ignorable_in_hugging_face(key):
    """The reason to skip a key outside the image tower, or None."""
    if key.startswith("text_") or key in ("logit_scale", "logit_bias"):
        return "text tower or scale of similarities"
    if key == "embeddings.position_ids":
        return "numbers of positions, not a weight"
    return None


NO_BIAS = frozenset({"patch_embed.bias", "head.bias"})

FORMATS = (
    Format(
        "OpenCLIP",
        frozenset({"attention"}),
        OPEN_CLIP,
        r"(visual\.)?transformer\.resblocks\.\d+\.ln_1\.",
        normal_open_clip,
        ignorable_in_open_clip,
        optional=NO_BIAS,
    ),
    Format(
        "Hugging Face CLIP",
        frozenset({"attention"}),
        CLIP,
        r"(vision_model\.)?pre_layrnorm\.",
        normal_hugging_face,
        ignorable_in_hugging_face,
        positions="bicubic",
        optional=NO_BIAS,
    ),
    Format(
        "Hugging Face SigLIP",
        frozenset({"attention"}),
        SIGLIP,
        r"(vision_model\.)?encoder\.layers\.\d+\.layer_norm1\.",
        normal_hugging_face,
        ignorable_in_hugging_face,
        foreign=r"(vision_model\.)?pre_layrnorm\.",
        positions="bicubic",
    ),
)
