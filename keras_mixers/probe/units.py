"""The hidden units of the MLPs, as weights and as activations, and the features of any layer."""

import keras
import numpy as np

from keras_mixers.graph import layer_calls
from keras_mixers.layers import ChannelMixing, ConvMixerBlock, Residual, TokenMixing
from keras_mixers.probe.attention import Layers
from keras_mixers.probe.collect import collect, find_layers, mixer_input, mixer_of, select, to_numpy
from keras_mixers.probe.grid import grid_of

# Of blocks; `features` counts them.
HALVES = (Residual, ConvMixerBlock)


def token_mixing_units(model: keras.Model, layers: Layers = None) -> dict[str, np.ndarray]:
    """The first weights of each token-mixing MLP: what each hidden unit looks for on the image.

    Shapes: `{layer name: (tokens_mlp_dim, rows, columns)}`; unit u is column u of `fc1.kernel`,
    laid over the grid of patches.

    Args:
        model: functional or sequential, with a `TokenMixing` in its graph, alone or in a
            `Residual`.
        layers: names or numbers (0 is the first such layer, -1 the last), or `None` for all.

    Raises:
        ValueError: the model has no `TokenMixing` or not that one, or its tokens are not patches.

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
    """The hidden units of each token-mixing MLP for images: `activation(fc1(transpose(x)))`.

    Shapes: `(N, H, W, C) -> {layer name: (N, tokens_mlp_dim, D)}`: how strongly a unit of
    `token_mixing_units` answers to each channel.

    Args:
        model: functional or sequential, with one input.
        images: as the model takes them.
        layers: as in `token_mixing_units`.
        batch_size: how many images are computed at once.

    Raises:
        ValueError: the model has no `TokenMixing` or not that one, or the images do not fit.

    Example:
        >>> from keras_mixers import MLPMixer
        >>> model = MLPMixer("S/16", input_shape=(32, 48, 3), hidden_dim=64, depth=1)
        >>> hidden = token_mixing_activations(model, np.zeros((1, 32, 48, 3)))
        >>> hidden["block_0_token_mixing"].shape
        (1, 256, 64)

    Source: "MLP-Mixer: An all-MLP Architecture for Vision", arXiv 2105.01601.
    """
    return collect(model, images, find_layers(model, TokenMixing, layers), hidden_units, batch_size)


def channel_mixing_activations(
    model: keras.Model, images: np.ndarray, layers: Layers = None, *, batch_size: int = 32
) -> dict[str, np.ndarray]:
    """The hidden units of each channel-mixing MLP for images: `activation(fc1(x))`.

    Shapes: `(N, H, W, C) -> {layer name: (N, T, mlp_dim)}`; `token_grid(model, T)` lays the tokens
    over the image.

    Args:
        model: functional or sequential, with one input and a `ChannelMixing` in its graph, alone
            or in a `Residual`.
        images: as the model takes them.
        layers: names or numbers (0 is the first such layer, -1 the last), or `None` for all.
        batch_size: how many images are computed at once.

    Raises:
        ValueError: the model has no `ChannelMixing` or not that one, or the images do not fit.

    Example:
        >>> from keras_mixers import MLPMixer
        >>> model = MLPMixer("S/16", input_shape=(32, 48, 3), depth=1, channels_mlp_dim=96)
        >>> hidden = channel_mixing_activations(model, np.zeros((1, 32, 48, 3)))
        >>> hidden["block_0_channel_mixing"].shape
        (1, 6, 96)

    Source: "MLP-Mixer: An all-MLP Architecture for Vision", arXiv 2105.01601.
    """
    return collect(
        model, images, find_layers(model, ChannelMixing, layers), hidden_units, batch_size
    )


def hidden_units(layer, x):
    """What an MLP's hidden units are where the layer gets x."""
    return mixer_of(layer).hidden(mixer_input(layer, x))


def features(
    model: keras.Model, images: np.ndarray, layers: Layers = None, *, batch_size: int = 32
) -> dict[str, np.ndarray]:
    """The output of any layer in the graph.

    Shapes: `(N, H, W, C) -> {layer name: (N, ...)}`: a stream of tokens `(N, T, D)`, or its grid.

    Args:
        model: functional or sequential, with one input.
        images: as the model takes them.
        layers: names of any layers (`inner/name` in a model inside the model), or numbers of the
            halves of blocks (`Residual` and `ConvMixerBlock`); `None` for all of these.
        batch_size: how many images are computed at once.

    Raises:
        ValueError: there is no such layer, or the images do not fit.

    Example:
        >>> from keras_mixers import ViT
        >>> model = ViT("Ti/16", input_shape=(32, 48, 3), depth=2, num_classes=10)
        >>> list(features(model, np.zeros((1, 32, 48, 3)), layers=["norm", "pool"]))
        ['norm', 'pool']
    """
    everything = layer_calls(model)
    halves = {n: node for n, node in everything.items() if isinstance(node.operation, HALVES)}
    wanted = select(everything, halves, layers)
    return collect(model, images, wanted, None, batch_size)
