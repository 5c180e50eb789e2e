"""Assemble a stem, blocks and a head into a functional model, for every family."""

import contextlib

import keras

from keras_mixers import arguments
from keras_mixers.layers import (
    AttentionPooling,
    PatchEmbed,
    PositionEmbedding,
    PrefixTokens,
    SelectToken,
)
from keras_mixers.layers.dropout import Dropout
from keras_mixers.layers.norms import NORMALIZATIONS
from keras_mixers.models.blocks import as_tokens
from keras_mixers.models.image_model import ImageModel


def assemble(architecture, name, dtype=None):
    """The functional model of an `Architecture`: `(N, H, W, C) -> (N, num_classes)`."""
    a = architecture
    check_name(name)
    with default_dtype(dtype):
        images = keras.Input(a.input_shape, dtype="float32", name="images")
        x = stem(a, images)
        for i, block in enumerate(a.blocks):
            x = block.apply(a, i, x)
        return ImageModel(images, head(a, x), name=name)


def stem(a, images):
    """Embed the patches, then add positions and prefix tokens.

    Shapes: `(N, H, W, C) -> (N, T, D)`, or `(N, rows, columns, D)` if the first block has a stem
    and there are no positions.
    """
    first = a.blocks[0]
    if first.stem:
        x = patch_embed(a, images, flatten=False)
        x = first.stem(a, x)
        if a.position_embedding:
            x = as_tokens(a, x, "stem_tokens")
    else:
        x = patch_embed(a, images)

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
    return norm(a, "embedding_norm")(x) if "embeddings" in a.extra_norms else x


def patch_embed(a, images, flatten=True):
    """Project the patches, and normalize them if the model does so."""
    x = PatchEmbed(
        a.hidden_dim,
        a.patch_size,
        flatten=flatten,
        use_bias="patches" not in a.without_bias,
        name="patch_embed",
    )(images)
    return norm(a, "patch_norm")(x) if "patches" in a.extra_norms else x


def norm(a, name):
    """A norm of the model's kind outside the blocks."""
    return NORMALIZATIONS[a.normalization](epsilon=a.epsilon, name=name)


def head(a, x):
    """Normalize, pool and classify; `pool=None` keeps the sequence and classifies each token.

    Shapes: `(N, T, D)` or `(N, rows, columns, D) -> (N, num_classes)`, and `(N, T, num_classes)`
    with `pool=None`. With `num_classes=0` the last axis is the width of the features.
    """
    if a.final_norm and not (a.blocks[-1].ends_normalized or a.norm_after_pool):
        x = norm(a, "norm")(x)

    if a.distillation_token:
        return distilled_head(a, x)
    if a.pool == "token":
        x = SelectToken(0, name="pool")(x)
    else:
        x = as_tokens(a, x, "tokens")
    if a.pool in ("gap", "map"):
        pools_prefix = a.pool == "map" and a.pool_prefix
        if a.num_prefix and not pools_prefix:
            x = keras.layers.Cropping1D((a.num_prefix, 0), name="patch_tokens")(x)
        x = pooling(a)(x)
        if a.norm_after_pool:
            x = norm(a, "norm")(x)
    if a.representation_size:
        x = keras.layers.Dense(a.representation_size, activation="tanh", name="pre_logits")(x)
    return classifier(a, "head")(x) if a.num_classes else x


def pooling(a):
    """The layer that makes one vector of a sequence: `(N, T, D) -> (N, D)`."""
    if a.pool == "map":
        return AttentionPooling(
            a.pool_num_heads, a.pool_mlp_dim, a.activation, a.epsilon, name="pool"
        )
    return keras.layers.GlobalAveragePooling1D(data_format="channels_last", name="pool")


def distilled_head(a, x):
    """The mean of the logits of the class token and of the distillation token, as in DeiT.

    Shapes: `(N, T, D) -> (N, num_classes)`, or `(N, D)` with `num_classes=0`.
    """
    class_token = SelectToken(0, name="pool")(x)
    distillation_token = SelectToken(1, name="pool_distillation")(x)
    if a.num_classes:
        class_token = classifier(a, "head")(class_token)
        distillation_token = classifier(a, "head_distillation")(distillation_token)
    full_precision = keras.config.dtype_policy().variable_dtype
    average = keras.layers.Average(dtype=full_precision, name="average")
    return average([class_token, distillation_token])


def positions(a, num_prefix):
    """The layer that adds a vector for the position of each token."""
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
    """Raise an error for an invalid name, because Keras would first allocate all weights."""
    if not isinstance(name, str) or not name or "/" in name:
        raise ValueError(
            f"`name` must be a non-empty string without '/'. Received: name={arguments.shown(name)}"
        )


@contextlib.contextmanager
def default_dtype(dtype):
    """Make a context with another default dtype policy; `None` keeps the default."""
    before = keras.config.dtype_policy()
    if dtype is not None:
        try:
            policy = keras.dtype_policies.get(dtype)
        except Exception:  # Keras raises various errors for a value that names none
            policy = None
        if policy is None or "float" not in f"{policy.compute_dtype}":
            raise ValueError(
                "`dtype` must be a float dtype or a policy of float dtypes, such as"
                f" 'mixed_bfloat16'. Received: dtype={arguments.shown(dtype)}"
            )
        keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
