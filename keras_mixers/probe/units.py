"""The hidden units of the MLPs, as weights and as activations; the outputs of any layer."""

import keras
import numpy as np

from keras_mixers.graph import layer_calls
from keras_mixers.layers import ChannelMixing, ConvMixerBlock, Residual, TokenMixing
from keras_mixers.probe.attention import Layers
from keras_mixers.probe.collect import (
    collect,
    find_layers,
    mixer_input,
    mixer_of,
    select,
    to_numpy,
)
from keras_mixers.probe.grid import grid_of

# A block has two Residual layers or is one ConvMixerBlock; `features` numbers these layers.
BLOCK_LAYERS = (Residual, ConvMixerBlock)


def token_mixing_units(model: keras.Model, layers: Layers = None) -> dict[str, np.ndarray]:
    """The input weights of each hidden unit in the token-mixing MLPs, as a map of the patches.

    Shapes: `{layer name: (tokens_mlp_dim, rows, columns)}`. Unit u is column u of `fc1.kernel`,
    laid out on the grid of patches.

    Args:
        model: functional or sequential model with a `TokenMixing` in its graph, inside a
            `Residual` or not.
        layers: names or numbers of such layers (0 is the first, -1 the last), or `None` for all.

    Raises:
        ValueError: if the model has no `TokenMixing`, if `layers` names a layer that does not
            exist, or if the layer's tokens are not patches.

    Example:
        >>> from keras_mixers import MLPMixer
        >>> units = token_mixing_units(MLPMixer("S/16", input_shape=(32, 48, 3), depth=1))
        >>> units["block_0_token_mixing"].shape
        (256, 2, 3)

    Source: "MLP-Mixer: An all-MLP Architecture for Vision", arXiv 2105.01601, figure 5.
    """
    return {
        name: grid_of(model, node).patches(to_numpy(mixer_of(node.operation).fc1.kernel).T)
        for name, node in find_layers(model, TokenMixing, layers).items()
    }


def token_mixing_activations(
    model: keras.Model, images: np.ndarray, layers: Layers = None, *, batch_size: int = 32
) -> dict[str, np.ndarray]:
    """The hidden activations of each token-mixing MLP: `activation(fc1(transpose(x)))`.

    Shapes: `(N, H, W, C) -> {layer name: (N, tokens_mlp_dim, D)}`: the activation of each unit of
    `token_mixing_units` in each channel.

    Args:
        model: functional or sequential model with one input.
        images: array in the value range that the model expects.
        layers: as in `token_mixing_units`.
        batch_size: number of images in one forward pass.

    Raises:
        ValueError: if the model has no `TokenMixing`, if `layers` names a layer that does not
            exist, or if the images do not fit the model.

    Example:
        >>> from keras_mixers import MLPMixer
        >>> model = MLPMixer("S/16", input_shape=(32, 48, 3), hidden_dim=64, depth=1)
        >>> hidden = token_mixing_activations(model, np.zeros((1, 32, 48, 3)))
        >>> hidden["block_0_token_mixing"].shape
        (1, 256, 64)

    Source: "MLP-Mixer: An all-MLP Architecture for Vision", arXiv 2105.01601.
    """
    wanted = find_layers(model, TokenMixing, layers)
    return collect(model, images, wanted, hidden_activations, batch_size)


def channel_mixing_activations(
    model: keras.Model, images: np.ndarray, layers: Layers = None, *, batch_size: int = 32
) -> dict[str, np.ndarray]:
    """The hidden activations of each channel-mixing MLP: `activation(fc1(x))`.

    Shapes: `(N, H, W, C) -> {layer name: (N, T, mlp_dim)}`. `token_grid(model, T)` maps the tokens
    to patches of the image.

    Args:
        model: functional or sequential model with one input and a `ChannelMixing` in its graph,
            inside a `Residual` or not.
        images: array in the value range that the model expects.
        layers: names or numbers of such layers (0 is the first, -1 the last), or `None` for all.
        batch_size: number of images in one forward pass.

    Raises:
        ValueError: if the model has no `ChannelMixing`, if `layers` names a layer that does not
            exist, or if the images do not fit the model.

    Example:
        >>> from keras_mixers import MLPMixer
        >>> model = MLPMixer("S/16", input_shape=(32, 48, 3), depth=1, channels_mlp_dim=96)
        >>> hidden = channel_mixing_activations(model, np.zeros((1, 32, 48, 3)))
        >>> hidden["block_0_channel_mixing"].shape
        (1, 6, 96)

    Source: "MLP-Mixer: An all-MLP Architecture for Vision", arXiv 2105.01601.
    """
    wanted = find_layers(model, ChannelMixing, layers)
    return collect(model, images, wanted, hidden_activations, batch_size)


def hidden_activations(layer, x):
    """The hidden activations of an MLP layer with input x."""
    return mixer_of(layer).hidden(mixer_input(layer, x))


def features(
    model: keras.Model, images: np.ndarray, layers: Layers = None, *, batch_size: int = 32
) -> dict[str, np.ndarray]:
    """The outputs of any layers in the model's graph.

    Shapes: `(N, H, W, C) -> {layer name: (N, ...)}`. Most layers return tokens `(N, T, D)` or a
    grid of tokens.

    Args:
        model: functional or sequential model with one input.
        images: array in the value range that the model expects.
        layers: names of any layers (`inner/name` for a layer of a nested model), numbers of
            `Residual` and `ConvMixerBlock` layers, or `None` for all of the latter.
        batch_size: number of images in one forward pass.

    Raises:
        ValueError: if a layer does not exist, or if the images do not fit the model.

    Example:
        >>> from keras_mixers import ViT
        >>> model = ViT("Ti/16", input_shape=(32, 48, 3), depth=2, num_classes=10)
        >>> list(features(model, np.zeros((1, 32, 48, 3)), layers=["norm", "pool"]))
        ['norm', 'pool']
    """
    calls = layer_calls(model)
    numbered = {
        name: node for name, node in calls.items() if isinstance(node.operation, BLOCK_LAYERS)
    }
    return collect(model, images, select(calls, numbered, layers), None, batch_size)
