"""Principal components of the patches' features, as colours."""

import numbers

import keras
import numpy as np

from keras_mixers import arguments
from keras_mixers.probe.collect import collect, to_numpy
from keras_mixers.probe.feature_maps import block_ends, chosen_blocks, final_norm, grid_after
from keras_mixers.probe.grid import check_one_stream

COMPONENTS = 3  # red, green, blue
PERCENTILES = (1, 99)  # so that a few patches with very large features do not fade all others
ROUNDING = 1e-4  # of the first component: smaller components are rounding errors


def feature_pca(
    model: keras.Model,
    images: np.ndarray,
    block: int = -1,
    *,
    foreground: bool = False,
    batch_size: int = 32,
) -> np.ndarray:
    """The first three principal components of the patches' features, as red, green and blue.

    Shapes: `(N, H, W, C) -> (N, rows, columns, 3)`, values in [0, 1], float32. The components are
    those of all patches of all images together, so equal colours mean similar features in all
    images. In each component, 0 and 1 are the 1st and the 99th percentile. A component that
    explains nothing is 0.5 everywhere.

    The sign of a component is arbitrary. Here the largest of its weights is positive, so equal
    features give equal colours.

    Args:
        model: functional or sequential model with one input, as for `km.feature_maps`.
        images: array in the value range that the model expects.
        block: number of the block whose features to use, -1 for the last. They are normalized by
            the model's final norm.
        foreground: whether to leave out the background. The patches whose first component is above
            its mean are the foreground, and a second analysis of only these patches gives the
            colours. The sign of the first component is the one that makes patches at the edge of
            the images background. Background patches are NaN.
        batch_size: number of images in one forward pass.

    Raises:
        ValueError: if the model has no such block, or if the images do not fit the model.
        TypeError: if `foreground` is not a bool.

    Example:
        >>> from keras_mixers import ViT
        >>> model = ViT("Ti/16", input_shape=(32, 48, 3), depth=2, num_classes=10)
        >>> feature_pca(model, np.zeros((2, 32, 48, 3))).shape
        (2, 2, 3, 3)

    Source: "DINOv2: Learning Robust Visual Features without Supervision", arXiv 2304.07193,
    figure 1 and section 7.5.
    """
    arguments.flag("foreground", foreground)
    if isinstance(block, bool) or not isinstance(block, numbers.Integral):
        raise ValueError(f"`block` must be a number. {arguments.received(block=block)}")
    features = features_of(model, images, block, batch_size)
    is_drawn = foreground_of(features) if foreground else np.ones(features.shape[:3], bool)
    scores, _ = principal_components(features[is_drawn])
    colours = np.full((*is_drawn.shape, 3), np.nan, "float32")
    colours[is_drawn] = colours_of(scores)
    return colours


def features_of(model, images, block, batch_size):
    """The values of `km.feature_maps(model, block)`: `(N, H, W, C) -> (N, rows, columns, D)`.

    Building that model would add calls to the layers.
    """
    check_one_stream(model)
    ends = block_ends(model)
    end = ends[chosen_blocks(block, len(ends))[0]]
    norm = final_norm(model, ends[-1])
    stream = collect(model, images, [end], None, batch_size)[end]
    stream = to_numpy(norm(stream)) if norm else stream
    grid, width = grid_after(model, end), stream.shape[-1]
    patches = stream.reshape(len(stream), -1, width)[:, grid.num_prefix :]
    return patches.reshape(-1, grid.rows, grid.columns, width)


def foreground_of(features):
    """Whether the first component of a patch is above its mean, and not as at the images' edges.

    Shapes: `(N, rows, columns, D) -> (N, rows, columns)`, bool.
    """
    scores, _ = principal_components(features.reshape(-1, features.shape[-1]))
    first = scores[:, 0].reshape(features.shape[:3])
    is_edge = np.ones(first.shape[1:], bool)
    is_edge[1:-1, 1:-1] = False
    return (first if first[:, is_edge].sum() < 0 else -first) > 0


def colours_of(scores):
    """Components, each scaled to [0, 1]: `(M, 3) -> (M, 3)`, float32."""
    if not len(scores):
        return scores.astype("float32")
    low, high = np.percentile(scores, PERCENTILES, axis=0)
    size = np.abs(scores).max(axis=0)
    scaled = (scores - low) / np.maximum(high - low, ROUNDING * np.where(size, size, 1))
    return np.where(size, np.clip(scaled, 0, 1), 0.5).astype("float32")


def principal_components(vectors):
    """The first three principal components of vectors: `(M, D) -> (M, 3)`.

    Components that are rounding errors, or that do not exist, are 0.

    Returns:
        The components, and the fraction of the variance that they explain.
    """
    scores = np.zeros((len(vectors), COMPONENTS))
    if not len(vectors):
        return scores, 0.0
    centred = vectors.astype("float64") - vectors.mean(axis=0, dtype="float64")
    # R has the singular values and right vectors of the patches, and at most D rows.
    _, size, axes = np.linalg.svd(np.linalg.qr(centred, mode="r"), full_matrices=False)
    axes, is_signal = axes[:COMPONENTS], size[:COMPONENTS] > ROUNDING * size[0]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    scores[:, : len(axes)] = centred @ (np.sign(largest) * axes).T * is_signal
    explained = (size[:COMPONENTS] ** 2).sum() / max((size**2).sum(), 1e-12)
    return scores, float(explained)
