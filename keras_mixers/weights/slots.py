"""Where a model keeps what: each weight of our layers under a role, in any functional model.

A role is the place of a weight in the architecture, such as `blocks.3.attention.qkv.kernel`,
whatever the layers are called and however deep the model lies in another.
"""

import dataclasses

import keras

from keras_mixers import layers

TOKEN_MIXERS = {
    layers.MultiHeadSelfAttention: "attention",
    layers.TokenMixing: "token_mixing",
    layers.SpatialGating: "spatial_gating",
    layers.PoolMixing: "pool_mixing",
}


@dataclasses.dataclass(frozen=True)
class Slot:
    """One weight of the model, its role, and the layer of ours that it belongs to."""

    role: str
    variable: keras.Variable
    layer: keras.layers.Layer

    @property
    def shape(self):
        return tuple(self.variable.shape)


@dataclasses.dataclass
class Backbone:
    """The slots of a model, and what a checkpoint needs to know of its shape."""

    slots: dict
    others: list  # weights that belong to no layer of ours: a user's own
    mixers: list  # a kind for each block: "attention", "conv_mixer", ...
    patch_embed: keras.layers.Layer
    positions: keras.layers.Layer | None = None

    @property
    def grid(self):
        """(rows, columns) of the patches."""
        shape = self.patch_embed.compute_output_shape(self.patch_embed.input.shape)
        if len(shape) == 4:
            return tuple(shape[1:3])
        height, width = self.patch_embed.input.shape[1:3]
        patch = self.patch_embed.patch_size
        return height // patch[0], width // patch[1]


def find_slots(model):
    """The `Backbone` of a model.

    Raises:
        ValueError: there is no `PatchEmbed` in the model, or more than one, or blocks that do not
            follow each other as token mixer, then channel mixer.
    """
    check_model(model)
    embeds = [layer for layer in graph_layers(model) if isinstance(layer, layers.PatchEmbed)]
    if len(embeds) != 1:
        raise ValueError(
            "`model` must contain one PatchEmbed layer, where its tokens begin. Received:"
            f" model={model.name!r} with {len(embeds)}; give the inner model where there are more"
        )
    backbone = Backbone({}, [], [], embeds[0])
    half_done = False  # a token mixer is waiting for its channel mixer
    after = []  # dense layers behind the blocks: the head is among them
    for layer in graph_layers(model):
        block = f"blocks.{len(backbone.mixers) - 1}"
        if isinstance(layer, layers.PatchEmbed):
            add(backbone, "patch_embed", layer.projection, owner=layer)
        elif isinstance(layer, layers.PrefixTokens):
            add(backbone, "tokens", layer)
        elif isinstance(layer, layers.PositionEmbedding):
            backbone.positions = layer
            if layer.kind == "learned":
                backbone.slots["positions"] = Slot("positions", layer.table, layer)
        elif isinstance(layer, layers.ConvMixerBlock):
            backbone.mixers.append("conv_mixer")
            add(backbone, f"blocks.{len(backbone.mixers) - 1}.conv_mixer", layer)
        elif isinstance(layer, layers.Residual):
            mixes_channels = isinstance(layer.mixer, layers.ChannelMixing)
            if mixes_channels != half_done:
                raise ValueError(
                    "`model` must alternate token mixers and ChannelMixing, each in a Residual, to"
                    f" be read as blocks. Received: layer {layer.name!r} out of turn"
                )
            if mixes_channels:
                half, kind = "2", "channel_mixing"
            else:
                kind = mixer_kind(layer)
                backbone.mixers.append(kind)
                half, block = "1", f"blocks.{len(backbone.mixers) - 1}"
            half_done = not mixes_channels and kind != "spatial_gating"
            add(backbone, f"{block}.norm{half}", layer.norm)
            add(backbone, f"{block}.{kind}", layer.mixer)
            if layer.scale:
                add(backbone, f"{block}.scale{half}", layer.scale)
        elif isinstance(layer, keras.layers.BatchNormalization) and not backbone.mixers:
            add(backbone, "stem_norm", layer)
        elif isinstance(layer, keras.layers.LayerNormalization) and backbone.mixers:
            # Behind the pooling the field calls the same norm by another name.
            add(backbone, "norm" if len(layer.input.shape) == 3 else "fc_norm", layer)
        elif isinstance(layer, layers.AttentionPooling):
            add(backbone, "pool", layer)
        elif isinstance(layer, keras.layers.Dense) and backbone.mixers:
            after.append(layer)
        else:
            backbone.others += layer.weights
    add_heads(backbone, after)
    return backbone


def check_model(model):
    """Refuse what is no built Keras model."""
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model` must be a keras.Model. Received: model={model!r}")
    if not model.built:
        raise ValueError(
            f"`model` must be built, so that it has weights. Received: model={model.name!r}; give"
            " it a keras.Input"
        )


def graph_layers(model):
    """The layers of a model in the order of its graph, those of models inside it included."""
    for layer in model.layers:
        yield from graph_layers(layer) if isinstance(layer, keras.Model) else [layer]


def mixer_kind(layer):
    """The role of a Residual's token mixer."""
    for kind, role in TOKEN_MIXERS.items():
        if isinstance(layer.mixer, kind):
            return role
    raise ValueError(
        "`model` must mix tokens by layers of keras_mixers, to know the place of each weight."
        f" Received: {type(layer.mixer).__name__} in layer {layer.name!r}"
    )


def add_heads(backbone, dense):
    """Behind the blocks: `[pre_logits,] head`, or the two heads of a distilled model."""
    heads = [layer for layer in dense if read_from(layer, layers.SelectToken, index=1)]
    if heads:
        add(backbone, "head_distillation", heads[-1])
    rest = [layer for layer in dense if layer not in heads]
    if rest and rest[0].activation is keras.activations.tanh:
        add(backbone, "pre_logits", rest.pop(0))
    if rest:
        add(backbone, "head", rest[-1])
    for layer in [*rest[:-1], *heads[:-1]]:
        backbone.others += layer.weights


def read_from(layer, kind, index):
    """Whether a layer reads the token that a `SelectToken(index)` picked."""
    before = layer.input._keras_history.operation
    return isinstance(before, kind) and before.index == index


def add(backbone, role, layer, owner=None):
    """The weights of a layer, each under `role` and its own name."""
    for name, variable in named_weights(layer).items():
        backbone.slots[f"{role}.{name}"] = Slot(f"{role}.{name}", variable, owner or layer)


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
