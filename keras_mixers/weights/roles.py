"""Where a model keeps what: each weight of our layers under a role, in any functional model.

A role is the place of a weight in the architecture, such as `blocks.3.attention.qkv.kernel`,
whatever the layers are called and however deep the model lies in another.
"""

import dataclasses

import keras

from keras_mixers import layers
from keras_mixers.graph import graph_layers, producer
from keras_mixers.layers.patch_embed import patch_grid


@dataclasses.dataclass(frozen=True)
class WeightRole:
    """One weight of the model, its role, and the layer of ours that it belongs to."""

    role: str
    variable: keras.Variable
    layer: keras.layers.Layer

    @property
    def shape(self):
        return tuple(self.variable.shape)


@dataclasses.dataclass
class Backbone:
    """The weights of a model by role, and what a checkpoint needs to know of its shape.

    Attributes:
        roles: `{role: WeightRole}`.
        others: the weights that have no role: a user's own layers.
        mixers: a kind for each block, such as `"attention"`.
        patch_embed: where the tokens begin.
        positions: the layer that adds them, if there is one.
        expects_channel_mixing: whether the last block has mixed its tokens only.
    """

    roles: dict = dataclasses.field(default_factory=dict)
    unmatched: list = dataclasses.field(default_factory=list)
    mixers: list = dataclasses.field(default_factory=list)
    patch_embed: keras.layers.Layer | None = None
    positions: keras.layers.Layer | None = None
    expects_channel_mixing: bool = False

    @property
    def grid(self):
        """(rows, columns) of the patches."""
        return patch_grid(self.patch_embed.input.shape[1:3], self.patch_embed.patch_size)

    @property
    def block(self):
        """The role of the block that is being read."""
        return f"blocks.{len(self.mixers) - 1}"

    def add(self, role, layer, owner=None):
        """Give the weights of a layer roles: `role` and their own names."""
        for name, variable in named_weights(layer).items():
            self.roles[f"{role}.{name}"] = WeightRole(f"{role}.{name}", variable, owner or layer)


def index_weights(model):
    """The `Backbone` of a model.

    Raises:
        TypeError: it is no Keras model.
        ValueError: it is not functional, has no `PatchEmbed` or several, has blocks that do not
            follow each other as token mixer, then channel mixer, or uses a layer twice.
    """
    check_model(model)
    backbone, dense = Backbone(), []
    for layer in graph_layers(model):
        if isinstance(layer, keras.layers.Dense) and backbone.mixers:
            dense.append(layer)
        else:
            read_layer(backbone, layer)
    read_heads(backbone, dense)

    if backbone.mixers[:1] != ["conv_mixer"]:  # then a BatchNorm behind the patches is a user's
        backbone.roles = {r: s for r, s in backbone.roles.items() if not r.startswith("stem_norm")}
    taken = [id(weight.variable) for weight in backbone.roles.values()]
    if len(set(taken)) < len(taken):
        raise ValueError(
            "`model` must use each layer once, to have one place for each of its weights."
            f" Received: model={model.name!r}, in which blocks share a layer"
        )
    backbone.unmatched = [weight for weight in model.weights if id(weight) not in taken]
    return backbone


def check_model(model):
    """Refuse what is no functional Keras model with one place where tokens begin."""
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model` must be a keras.Model. Received: model={model!r}")
    if not getattr(model, "inputs", None):
        raise ValueError(
            "`model` must be a functional or Sequential model that has its input, so that its"
            f" layers can be followed. Received: model={model.name!r}, a {type(model).__name__}"
        )
    embeds = [layer for layer in graph_layers(model) if isinstance(layer, layers.PatchEmbed)]
    if len(embeds) != 1:
        raise ValueError(
            "`model` must contain one PatchEmbed layer, where its tokens begin. Received:"
            f" model={model.name!r} with {len(embeds)}; give the inner model where there are more"
        )


def read_layer(backbone, layer):
    """Give a layer's weights their roles, if it is one of those that make a backbone."""
    if isinstance(layer, layers.PatchEmbed):
        backbone.patch_embed = layer
        backbone.add("patch_embed", layer.projection, owner=layer)
    elif isinstance(layer, layers.PrefixTokens):
        backbone.add("tokens", layer)
    elif isinstance(layer, layers.PositionEmbedding):
        backbone.positions = layer
        if layer.kind == "learned":
            backbone.roles["positions"] = WeightRole("positions", layer.table, layer)
    elif isinstance(layer, layers.ConvMixerBlock):
        backbone.mixers.append("conv_mixer")
        backbone.add(f"{backbone.block}.conv_mixer", layer)
    elif isinstance(layer, layers.Residual):
        read_half_block(backbone, layer)
    elif isinstance(layer, layers.AttentionPooling):
        backbone.add("pool", layer)
    elif isinstance(layer, keras.layers.BatchNormalization):
        if backbone.patch_embed and not backbone.mixers and "stem_norm.gamma" not in backbone.roles:
            backbone.add("stem_norm", layer)
    elif isinstance(layer, keras.layers.LayerNormalization) and backbone.mixers:
        if not {"norm.gamma", "fc_norm.gamma"} & set(backbone.roles):
            # Behind the pooling the field calls the same norm by another name.
            backbone.add("norm" if len(layer.input.shape) == 3 else "fc_norm", layer)


def read_half_block(backbone, residual):
    """Give roles to the weights of a Residual, which is half a block.

    A mixer of tokens begins a block. A mixer of channels only is the block's second half.
    """
    mixes, role = declared(residual)
    begins_block = "tokens" in mixes
    if begins_block == backbone.expects_channel_mixing:
        expected = "channels" if backbone.expects_channel_mixing else "tokens"
        raise ValueError(
            "`model` must alternate layers that mix tokens and layers that mix channels, each in a"
            f" Residual. Received: layer {residual.name!r} with {type(residual.mixer).__name__}"
            f" where a layer that mixes {expected} must follow"
        )
    if begins_block:
        backbone.mixers.append(role)
    backbone.expects_channel_mixing = "channels" not in mixes
    half = 1 if begins_block else 2
    backbone.add(f"{backbone.block}.norm{half}", residual.norm)
    backbone.add(f"{backbone.block}.{role}", residual.mixer)
    if residual.scale:
        backbone.add(f"{backbone.block}.scale{half}", residual.scale)


def declared(residual):
    """(mixes, role) that the mixer of a Residual declares as class attributes."""
    mixes = getattr(residual.mixer, "mixes", None) or ()
    role = getattr(residual.mixer, "role", None)
    if role and ("tokens" in mixes or "channels" in mixes):
        return mixes, role
    raise ValueError(
        "`model` must have mixers that declare what they mix and a role for their weights, as the"
        f" layers of keras_mixers do. Received: {type(residual.mixer).__name__} in layer"
        f" {residual.name!r}; give its class attributes such as"
        ' mixes = frozenset(["tokens"]) and role = "my_mixing"'
    )


def read_heads(backbone, dense):
    """Which of the dense layers behind the blocks are a checkpoint's `[pre_logits,] head`.

    A head reads the features, or a tanh layer that does. One behind any other layer with weights,
    or behind an average of tokens, computes something else, and is the user's own.
    """
    before = {id(layer): source_of(layer) for layer in dense}
    read = {id(source) for source in before.values()}
    heads = {}
    for layer in dense:
        source = before[id(layer)]
        if isinstance(source, keras.layers.Dense):
            role = "head" if heads.get("pre_logits") is source else None
        elif isinstance(source, keras.layers.Average):
            role = None
        elif isinstance(source, layers.SelectToken) and source.index == 1:
            role = "head_distillation"
        elif layer.activation is keras.activations.tanh:
            role = "pre_logits"
        else:
            role = None if id(layer) in read else "head"
        if role and role not in heads:
            heads[role] = layer
            backbone.add(role, layer)


def source_of(layer):
    """The layer whose output a layer reads, those without weights and choices passed over."""
    while True:
        before = producer(layer.input)
        passes = isinstance(before, (keras.layers.Dropout, keras.layers.Activation))
        if not (passes or isinstance(before, keras.layers.Identity)):
            return before
        layer = before


def named_weights(layer):
    """`{"qkv.kernel": variable, ...}`: a weight's name behind its layers' attribute names."""
    inner = {
        name: value for name, value in vars(layer).items() if isinstance(value, keras.layers.Layer)
    }
    below = {id(weight) for part in inner.values() for weight in part.weights}
    named = {weight.name: weight for weight in layer.weights if id(weight) not in below}
    for name, part in inner.items():
        named |= {f"{name}.{rest}": weight for rest, weight in named_weights(part).items()}
    return named
