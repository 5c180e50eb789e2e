"""Arrays that show what a model computes: attention, hidden units, filters, features, relevance.

The functions accept any functional model with this package's layers, and do not change it. They
compute only up to the last layer that they read. On 2 CPU cores, attention maps of a layer took at
most 1.1 times as long as a forward pass up to that layer (`examples/benchmark_probe.py`).
`feature_maps` returns a model instead of arrays.
`keras_mixers.visualize` draws figures of the arrays.
"""

from keras_mixers.probe.attention import attention_distance, attention_maps, attention_rollout
from keras_mixers.probe.class_relevance import relevance
from keras_mixers.probe.feature_maps import feature_maps
from keras_mixers.probe.feature_pca import feature_pca
from keras_mixers.probe.filters import depthwise_kernels, patch_filters, position_similarity
from keras_mixers.probe.grid import TokenGrid, token_grid
from keras_mixers.probe.units import (
    channel_mixing_activations,
    features,
    token_mixing_activations,
    token_mixing_units,
)

__all__ = [
    "TokenGrid",
    "attention_distance",
    "attention_maps",
    "attention_rollout",
    "channel_mixing_activations",
    "depthwise_kernels",
    "feature_maps",
    "feature_pca",
    "features",
    "patch_filters",
    "position_similarity",
    "relevance",
    "token_grid",
    "token_mixing_activations",
    "token_mixing_units",
]
