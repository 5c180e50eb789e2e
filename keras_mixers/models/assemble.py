"""Stem, blocks, head: the one place that builds a graph, for every family."""

import contextlib

import keras

from keras_mixers.layers import (
    AttentionPooling,
    PatchEmbed,
    PositionEmbedding,
    PrefixTokens,
    SelectToken,
)
from keras_mixers.layers.dropout import Dropout
from keras_mixers.models.blocks import as_tokens


def assemble(architecture, name, dtype=None):
    """The functional model of an `Architecture`: `(N, H, W, C) -> (N, num_classes)`."""
    a = architecture
    check_name(name)
    with default_dtype(dtype):
        images = keras.Input(a.input_shape, dtype="float32", name="images")
        x = stem(a, images)
        for i, block in enumerate(a.blocks):
            x = block.apply(a, i, x)
        return keras.Model(images, head(a, x), name=name)


def stem(a, images):
    """Images to a stream of tokens; to their grid if the first block has a stem on the grid."""
    first = a.blocks[0]
    if first.stem:
        x = PatchEmbed(a.hidden_dim, a.patch_size, flatten=False, name="patch_embed")(images)
        x = first.stem(a, x)
        if a.position_embedding:
            x = as_tokens(a, x, "stem_tokens")
    else:
        x = PatchEmbed(a.hidden_dim, a.patch_size, name="patch_embed")(images)

    if a.position_embedding and not a.position_prefix:
        x = positions(a, num_prefix=0)(x)
    if a.num_prefix:
        x = PrefixTokens(
            a.class_token, a.distillation_token, a.num_registers, name="prefix_tokens"
        )(x)
    if a.position_embedding and a.position_prefix:
        x = positions(a, num_prefix=a.num_prefix)(x)
    if a.position_embedding and a.dropout_rate:
        x = Dropout(a.dropout_rate, name="position_dropout")(x)
    return x


def head(a, x):
    """Normalise, pool, classify; `pool=None` keeps the sequence and classifies each token."""
    if not (a.blocks[-1].ends_normalized or a.norm_after_pool):
        x = keras.layers.LayerNormalization(epsilon=a.epsilon, name="norm")(x)

    if a.distillation_token:
        return distilled_head(a, x)
    if a.pool == "token":
        x = SelectToken(0, name="pool")(x)
    else:
        x = as_tokens(a, x, "tokens")
    if a.pool in ("gap", "map"):
        if a.num_prefix:
            x = keras.layers.Cropping1D((a.num_prefix, 0), name="patch_tokens")(x)
        x = pooling(a)(x)
        if a.norm_after_pool:
            x = keras.layers.LayerNormalization(epsilon=a.epsilon, name="norm")(x)
    if a.representation_size:
        x = keras.layers.Dense(a.representation_size, activation="tanh", name="pre_logits")(x)
    return classifier(a, "head")(x) if a.num_classes else x


def pooling(a):
    """The layer that makes one vector of the patches."""
    if a.pool == "map":
        return AttentionPooling(a.num_heads, a.mlp_dim, a.activation, a.epsilon, name="pool")
    return keras.layers.GlobalAveragePooling1D(data_format="channels_last", name="pool")


def distilled_head(a, x):
    """The mean of what the class token and the distillation token say (DeiT at inference)."""
    class_token = SelectToken(0, name="pool")(x)
    distillation_token = SelectToken(1, name="pool_distillation")(x)
    if a.num_classes:
        class_token = classifier(a, "head")(class_token)
        distillation_token = classifier(a, "head_distillation")(distillation_token)
    precise = keras.config.dtype_policy().variable_dtype
    return keras.layers.Average(dtype=precise, name="average")([class_token, distillation_token])


def positions(a, num_prefix):
    """The layer that tells the tokens where they stand."""
    return PositionEmbedding(
        a.grid, num_prefix=num_prefix, kind=a.position_embedding, name="position_embedding"
    )


def classifier(a, name):
    """A linear layer whose logits keep full precision under a mixed policy."""
    return keras.layers.Dense(
        a.num_classes,
        kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        dtype=keras.config.dtype_policy().variable_dtype,
        name=name,
    )


def check_name(name):
    """Refuse a model's name that Keras would refuse once all weights are made."""
    if not isinstance(name, str) or not name or "/" in name:
        raise ValueError(f"`name` must be a string without '/'. Received: name={name!r}")


@contextlib.contextmanager
def default_dtype(dtype):
    """Keras's default dtype policy, for the layers made inside; the old one comes back after."""
    before = keras.config.dtype_policy()
    if dtype is not None:
        policy = keras.dtype_policies.get(dtype)
        if "float" not in f"{policy.compute_dtype}":
            raise ValueError(
                "`dtype` must be a float dtype or a policy of them, such as 'mixed_bfloat16'."
                f" Received: dtype={dtype!r}"
            )
        keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
