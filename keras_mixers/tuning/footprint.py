"""Estimate the memory of a training step from the shapes of a model, before it is built.

It counts what the backward pass needs of each layer: its inputs, and the tensors inside it. It does
not count what the libraries, the program and the input pipeline take.
"""

import collections
import dataclasses
import math

import keras

from keras_mixers import layers
from keras_mixers.graph import all_layers, nodes
from keras_mixers.training.freezing import layer_places
from keras_mixers.weights.roles import index_weights

FLOAT_BYTES = 4
OPTIMIZER_NUMBERS = {"adamw": 2, "sgd": 1}  # for each weight: its moments or its velocity
HEAD = math.inf


@dataclasses.dataclass(frozen=True)
class Footprint:
    """What a training step of a model keeps in memory, by the place of its layers.

    Places are those of `training.freezing`: -1 the stem, i block i, `depth` after it, inf the head.

    Attributes:
        weights: `{place: number of weights}`.
        activations: `{place: bytes for one image}`, which the backward pass needs.
        lora_sides: the sum of the numbers of rows and columns of the kernels that can have LoRA
            matrices, those of the Dense layers in the blocks; 0 if there are none.
        depth: number of blocks.
    """

    weights: dict[float, int]
    activations: dict[float, int]
    lora_sides: int
    depth: int

    def bytes_of(self, recipe):
        """Bytes that a training step of a recipe takes."""
        first, more = self.first_trained(recipe.frozen_blocks), 0
        if recipe.lora_rank is not None:
            first, more = 0, recipe.lora_rank * self.lora_sides
            trained = self.weights[HEAD] + more
        else:
            trained = sum(count for place, count in self.weights.items() if place >= first)
        copies = 1 + OPTIMIZER_NUMBERS[recipe.optimizer]  # with the gradient
        copies += (recipe.gradient_accumulation_steps > 1) + (recipe.ema_decay is not None)
        stored = sum(self.weights.values()) + more + copies * trained
        kept = sum(size for place, size in self.activations.items() if place >= first)
        # The gradients in one layer, or without trained blocks the results of one layer.
        largest = max(self.activations.values())
        return FLOAT_BYTES * stored + recipe.batch_size * (kept + largest)

    def first_trained(self, frozen_blocks):
        """The first place whose weights train."""
        return {None: -1, 0: -1, "all": HEAD}.get(frozen_blocks, frozen_blocks)


def footprint(model):
    """The `Footprint` of a functional model, whose weights need no values."""
    index = index_weights(model)
    depth = len(index.mixers)
    found = layer_places(model, index, depth)
    places = {id(layer): place for layer, place in found}
    in_blocks = [layer for layer, place in found if 0 <= place < depth]
    weights, activations = collections.Counter({HEAD: 0}), collections.Counter()
    place = -1
    for node in nodes(model):
        layer = node.operation
        place = places.get(id(layer), place)  # a layer without weights belongs to the one before
        x, y = node.arguments.keras_tensors[0].shape, node.outputs[0].shape
        activations[place] += numbers_of(layer, x, y) * bytes_of_number(layer)
        weights[place] += sum(math.prod(weight.shape) for weight in getattr(layer, "weights", ()))
    parts = [part for layer in in_blocks for part in all_layers(layer)]
    sides = sum(sum(part.kernel.shape) for part in parts if isinstance(part, keras.layers.Dense))
    return Footprint(dict(weights), dict(activations), sides, depth)


def bytes_of_number(layer):
    """Bytes of a number in the computations of a layer or operation."""
    return 2 if "16" in getattr(layer, "compute_dtype", "float32") else FLOAT_BYTES


def numbers_of(layer, x_shape, y_shape):
    """How many numbers of one image the backward pass of a layer needs, its result included."""
    x, y = math.prod(x_shape[1:]), math.prod(y_shape[1:])
    if getattr(layer, "gradient_checkpointing", False):
        return y
    if isinstance(layer, layers.Residual):
        return x + numbers_of(layer.mixer, x_shape, x_shape) + y  # the norm, the branch, the sum
    tokens = math.prod(x_shape[1:-1])
    if isinstance(layer, layers.MultiHeadSelfAttention):
        heads, head_dim = layer.head_shape
        return 4 * tokens * heads * head_dim + heads * tokens**2 + y
    if isinstance(layer, layers.ChannelMixing):
        return (3 if layer.gated else 2) * tokens * layer.mlp_dim + y
    if isinstance(layer, layers.TokenMixing):
        return x + 2 * layer.tokens_mlp_dim * x_shape[-1] + y
    if isinstance(layer, layers.ConvMixerBlock):
        return 7 * y  # of each of two convolutions: the result, the activation, the norm; the sum
    return y
