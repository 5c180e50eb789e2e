"""Weights for another size: positions, patch kernels, channels, and a Mixer's token kernels.

Each resize is a matrix on one axis, so that what it does can be read and tested.
"""

import numpy as np

POSITION_METHODS = ("bilinear_corners", "bilinear", "bicubic", "bicubic_antialias")


def positions(table, grid, method):
    """Position embeddings for another grid: `(rows, columns, D) -> (*grid, D)`.

    Args:
        table: float32, `(rows, columns, D)`.
        grid: (rows, columns) wanted.
        method: `"bilinear_corners"`: the corners stay where they are (Google's);
            `"bilinear"`; `"bicubic"`: torch's, with a = -0.75 (Hugging Face's);
            `"bicubic_antialias"`: a = -0.5, widened when shrinking (timm's).
    """
    for axis, size in enumerate(grid):
        matrix = resize_matrix(table.shape[axis], size, method)
        table = np.moveaxis(np.tensordot(matrix, table, axes=(1, axis)), 0, axis)
    return table.astype("float32")


def resize_matrix(old, new, method):
    """The matrix `(new, old)` that resizes a line of `old` points to `new`."""
    if old == new:
        return np.eye(old)
    if method == "bilinear_corners":
        centres = np.linspace(0, old - 1, new) if new > 1 else np.zeros(1)
    else:
        centres = (np.arange(new) + 0.5) * old / new - 0.5
    widen = max(old / new, 1.0) if method == "bicubic_antialias" else 1.0
    kernel = {
        "bilinear_corners": triangle,
        "bilinear": triangle,
        "bicubic": lambda x: cubic(x, -0.75),
        "bicubic_antialias": lambda x: cubic(x, -0.5),
    }[method]
    matrix = np.zeros((new, old))
    reach = int(np.ceil(2 * widen)) + 1
    for row, centre in enumerate(centres):
        around = np.arange(int(np.floor(centre)) - reach, int(np.floor(centre)) + reach + 1)
        weight = kernel((around - centre) / widen)
        if method == "bicubic_antialias":  # what lies outside counts for nothing
            weight = weight * ((around >= 0) & (around < old))
        # elsewhere the border's value goes on for ever
        np.add.at(matrix[row], np.clip(around, 0, old - 1), weight)
    return matrix / matrix.sum(axis=1, keepdims=True)


def triangle(x):
    """Linear interpolation's kernel."""
    return np.maximum(0.0, 1.0 - np.abs(x))


def cubic(x, a):
    """Keys's cubic convolution kernel ("Cubic Convolution Interpolation for Digital Image
    Processing", IEEE Transactions on Acoustics, Speech and Signal Processing 29, 1981).
    """
    x = np.abs(x)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def patch_kernel(kernel, patch_size):
    """A patch kernel for another patch size: `(P, Q, C, D) -> (*patch_size, C, D)`.

    The pseudo-inverse resize: on patches resized by B from the old size to the new one, the new
    kernel w gives what the old one gave on the old patches: `B^T w = old`, by least squares.
    Source: "FlexiViT: One Model for All Patch Sizes", arXiv 2212.08013.
    """
    old = kernel.shape[:2]
    rows, columns = (resize_matrix(o, n, "bilinear") for o, n in zip(old, patch_size, strict=True))
    flat = kernel.reshape(old[0] * old[1], -1).astype("float64")
    resized = np.linalg.pinv(np.kron(rows, columns).T) @ flat
    return resized.reshape(*patch_size, *kernel.shape[2:]).astype("float32")


def channels(kernel, count):
    """A patch kernel for another number of channels: `(P, Q, C, D) -> (P, Q, count, D)`.

    To one channel by the sum, which is exact for a grey picture; else by repeating the channels,
    scaled by `C / count`, as timm does.
    """
    old = kernel.shape[2]
    if count == 1:
        return kernel.sum(axis=2, keepdims=True)
    repeated = np.tile(kernel, (1, 1, -(-count // old), 1))[:, :, :count]
    return repeated * (old / count)


def across_tokens(array, axis, old_grid, grid):
    """A Mixer's array along its axis of tokens, for another grid: an approximation."""
    lead = np.moveaxis(array, axis, 0).reshape(*old_grid, -1)
    resized = positions(lead, grid, "bilinear")
    return np.moveaxis(resized.reshape(-1, *np.delete(array.shape, axis)), 0, axis)
