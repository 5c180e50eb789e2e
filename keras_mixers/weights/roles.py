"""Give each weight of our layers its role in the model.

A role is the place of a weight in the architecture, such as `blocks.3.attention.qkv.kernel`. It
does not depend on the names of the layers or on how deep the backbone is nested in other models.
"""

import dataclasses

import keras

from keras_mixers import arguments, layers
from keras_mixers.graph import graph_layers, lora_layers, lora_matrices, producer, sublayers
from keras_mixers.layers.base import mixes_everything
from keras_mixers.layers.norms import RMSNormalization
from keras_mixers.layers.patches import patch_grid

NORMS = (keras.layers.LayerNormalization, RMSNormalization)


@dataclasses.dataclass(frozen=True)
class WeightRole:
    """One weight of the model, its role, and the layer that knows its number of heads or grid."""

    role: str
    variable: keras.Variable
    layer: keras.layers.Layer

    @property
    def shape(self):
        return tuple(self.variable.shape)


@dataclasses.dataclass
class Backbone:
    """The weights of a model by role, and the facts about its architecture that a load needs.

    Attributes:
        roles: `{role: WeightRole}`.
        lora: `{id of a kernel: its layer}` for the kernels that have a LoRA update.
        unmatched: the weights without a role, which belong to a user's layers.
        mixers: the role of each block's token mixer, such as `"attention"`.
        patch_embed: the layer where the tokens begin.
        positions: the layer that adds positions, or None.
        expects_channel_mixing: whether the last block so far has only its token mixer.
    """

    roles: dict[str, WeightRole] = dataclasses.field(default_factory=dict)
    lora: dict[int, keras.layers.Layer] = dataclasses.field(default_factory=dict)
    unmatched: list[keras.Variable] = dataclasses.field(default_factory=list)
    mixers: list[str] = dataclasses.field(default_factory=list)
    patch_embed: keras.layers.Layer | None = None
    positions: keras.layers.Layer | None = None
    expects_channel_mixing: bool = False

    @property
    def grid(self):
        """(rows, columns) of the patches."""
        return patch_grid(self.patch_embed.input.shape[1:3], self.patch_embed.patch_size)

    @property
    def block(self):
        """The role of the last block so far, such as `blocks.3`."""
        return f"blocks.{len(self.mixers) - 1}"

    def add(self, role, layer, owner=None):
        """Give each weight of a layer the role `role.<its name>`; `owner` is `WeightRole.layer`."""
        for name, variable in named_weights(layer).items():
            self.roles[f"{role}.{name}"] = WeightRole(f"{role}.{name}", variable, owner or layer)


def index_weights(model):
    """The `Backbone` of a model.

    Raises:
        TypeError: if `model` is not a Keras model.
        ValueError: if the model is not functional or does not have exactly one `PatchEmbed`; if a
            mixer does not declare what it mixes; if mixers of tokens and of channels do not
            alternate; if the model uses a layer twice.
    """
    check_model(model)
    backbone, dense = Backbone(), []
    for layer in graph_layers(model):
        if isinstance(layer, keras.layers.Dense) and backbone.mixers:
            dense.append(layer)
        else:
            read_layer(backbone, layer)
    read_heads(backbone, dense)

    if backbone.mixers[:1] != ["conv_mixer"]:  # because only ConvMixer has a BatchNorm in its stem
        backbone.roles = {
            role: weight
            for role, weight in backbone.roles.items()
            if not role.startswith("stem_norm")
        }
    taken = [id(weight.variable) for weight in backbone.roles.values()]
    if len(set(taken)) < len(taken):
        raise ValueError(
            "`model` must use each layer once, so that each weight has one role. Received:"
            f" model={model.name!r}, in which blocks share a layer"
        )
    updating = lora_layers(model)
    backbone.lora = {id(named_weights(layer)["kernel"]): layer for layer in updating}
    taken += [id(matrix) for layer in updating for matrix in lora_matrices(layer)]
    backbone.unmatched = [variable for variable in model.weights if id(variable) not in taken]
    return backbone


def check_model(model):
    """Raise an error unless `model` is a functional Keras model with one PatchEmbed."""
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model` must be a keras.Model. {arguments.received(model=model)}")
    if not getattr(model, "inputs", None):
        raise ValueError(
            "`model` must be a functional or Sequential model with a known input, because its"
            f" layers then have an order. Received: model={model.name!r}, a"
            f" {type(model).__name__}"
        )
    embeds = [layer for layer in graph_layers(model) if isinstance(layer, layers.PatchEmbed)]
    if len(embeds) != 1:
        raise ValueError(
            "`model` must contain one PatchEmbed layer, where its tokens begin. Received:"
            f" model={model.name!r} with {len(embeds)}; if there are more, pass an inner model"
        )


def read_layer(backbone, layer):
    """Give roles to the weights of a layer that belongs to a backbone."""
    if isinstance(layer, layers.PatchEmbed):
        backbone.patch_embed = layer
        backbone.add("patch_embed", layer.projection, owner=layer)
    elif isinstance(layer, layers.PrefixTokens):
        backbone.add("tokens", layer)
    elif isinstance(layer, layers.PositionEmbedding):
        backbone.positions = layer
        if layer.kind == "learned":
            backbone.roles["positions"] = WeightRole("positions", layer.table, layer)
    elif mixes_everything(layer) and getattr(layer, "role", None):
        backbone.mixers.append(layer.role)
        backbone.add(f"{backbone.block}.{layer.role}", layer)
    elif isinstance(layer, layers.Residual):
        read_half_block(backbone, layer)
    elif isinstance(layer, layers.AttentionPooling):
        backbone.add("pool", layer)
    elif isinstance(layer, keras.layers.BatchNormalization):
        if backbone.patch_embed and not backbone.mixers and "stem_norm.gamma" not in backbone.roles:
            backbone.add("stem_norm", layer)
    elif isinstance(layer, NORMS) and backbone.patch_embed:
        read_norm(backbone, layer)


def read_norm(backbone, layer):
    """Give a role to a norm outside the blocks, unless a norm in the same place has it.

    Before the blocks it normalizes the patches, or the embeddings if tokens or positions came
    before it. After the blocks, timm calls it fc_norm if it follows the pooling.
    """
    if backbone.mixers:
        role, others = ("norm" if len(layer.input.shape) == 3 else "fc_norm"), ("norm", "fc_norm")
    else:
        embedded = backbone.positions or any(role.startswith("tokens") for role in backbone.roles)
        role = "embedding_norm" if embedded else "patch_norm"
        others = (role,)
    if not any(f"{other}.gamma" in backbone.roles for other in others):
        backbone.add(role, layer)


def read_half_block(backbone, residual):
    """Give roles to the weights of a Residual, which is half a block.

    A mixer of tokens begins a block. A mixer that mixes only channels is its second half.
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
    """Give roles to those Dense layers after the blocks that form a checkpoint's head.

    A head reads the features, or a tanh layer that reads the features (`pre_logits`). Three kinds
    of Dense layer belong to the user: one that reads any other Dense layer, one that another Dense
    layer reads, and one that reads an average.
    """
    sources = {id(layer): source_of(layer) for layer in dense}
    read_by_others = {id(source) for source in sources.values()}
    heads = {}
    for layer in dense:
        source = sources[id(layer)]
        if isinstance(source, keras.layers.Dense):
            role = "head" if heads.get("pre_logits") is source else None
        elif isinstance(source, keras.layers.Average):
            role = None
        elif isinstance(source, layers.SelectToken) and source.index == 1:
            role = "head_distillation"
        elif layer.activation is keras.activations.tanh:
            role = "pre_logits"
        else:
            role = None if id(layer) in read_by_others else "head"
        if role and role not in heads:
            heads[role] = layer
            backbone.add(role, layer)


def source_of(layer):
    """The layer whose output a layer reads, through any Dropout, Activation and Identity."""
    passed = (keras.layers.Dropout, keras.layers.Activation, keras.layers.Identity)
    source = producer(layer.input)
    while isinstance(source, passed):
        source = producer(source.input)
    return source


def named_weights(layer):
    """`{"qkv.kernel": variable, ...}`: a layer's weights by the attribute names of its sublayers.

    The rules of the formats use these names, so a layer's attributes must keep their names. LoRA
    matrices are left out.
    """
    parts = sublayers(layer)
    other = {id(variable) for part in parts.values() for variable in part.weights}
    other |= {id(matrix) for matrix in lora_matrices(layer)}
    named = {variable.name: variable for variable in layer.weights if id(variable) not in other}
    for name, part in parts.items():
        named |= {f"{name}.{rest}": variable for rest, variable in named_weights(part).items()}
    return named
