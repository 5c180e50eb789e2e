"""Figures, GIFs and HTML pages made from the arrays of `keras_mixers.probe`.

Each function whose name begins with `plot_` returns a matplotlib `Figure`, to save or to show.
No function uses pyplot, so a figure is freed like any other object. Most figures draw the array of
the function in `keras_mixers.probe` with the same name. The others are:

- `plot_attention`, `plot_attention_matrix` and `animate_attention`: `attention_maps`.
- `attention_explorer`: attention, hidden units, kernels, rollout and relevance on one page.
- `plot_confusion`, `plot_average_precision`, `plot_calibration`, and the page of
  `evaluation_report`: a result of `km.evaluate`.
- `plot_batch`: the images of a batch of `km.data.load`, with augmentation.
- `plot_history`: the learning curves of a training run.
- `plot_search`: the trials of a hyperparameter search, from `km.tuning.results`.

An argument `image` is one image `(H, W, C)`, and `images` is a batch `(N, H, W, C)`. A figure shows
one image. `plot_attention_distance` averages over a batch. `plot_feature_pca` and the explorer show
each image of it.
"""

from keras_mixers.visualize.activation_figures import (
    plot_channel_mixing_activations,
    plot_token_mixing_activations,
)
from keras_mixers.visualize.animation import animate_attention
from keras_mixers.visualize.attention_figures import (
    plot_attention,
    plot_attention_distance,
    plot_attention_matrix,
    plot_attention_rollout,
    plot_relevance,
)
from keras_mixers.visualize.batch_figure import plot_batch
from keras_mixers.visualize.evaluation_figures import (
    plot_average_precision,
    plot_calibration,
    plot_confusion,
)
from keras_mixers.visualize.evaluation_report import evaluation_report
from keras_mixers.visualize.explorer import attention_explorer
from keras_mixers.visualize.feature_figures import plot_feature_pca, plot_features
from keras_mixers.visualize.history import plot_history
from keras_mixers.visualize.search_figures import plot_search
from keras_mixers.visualize.weight_figures import (
    plot_depthwise_kernels,
    plot_patch_filters,
    plot_position_similarity,
    plot_token_mixing_units,
)

__all__ = [
    "animate_attention",
    "attention_explorer",
    "evaluation_report",
    "plot_attention",
    "plot_attention_distance",
    "plot_attention_matrix",
    "plot_attention_rollout",
    "plot_average_precision",
    "plot_batch",
    "plot_calibration",
    "plot_channel_mixing_activations",
    "plot_confusion",
    "plot_depthwise_kernels",
    "plot_feature_pca",
    "plot_features",
    "plot_history",
    "plot_patch_filters",
    "plot_position_similarity",
    "plot_relevance",
    "plot_search",
    "plot_token_mixing_activations",
    "plot_token_mixing_units",
]
