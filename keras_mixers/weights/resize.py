"""Resize weights: positions, patch kernels, channels and an MLP-Mixer's token-mixing weights.

Each resize is a matrix on one axis, so its effect can be read and tested.
"""

import numpy as np

POSITION_METHODS = ("bilinear_corners", "bilinear", "bicubic", "bicubic_antialias")


def positions(table, grid, method):
    """Resize position embeddings to another grid: `(rows, columns, D) -> (*grid, D)`.

    Args:
        table: float32, `(rows, columns, D)`.
        grid: (rows, columns) of the result.
        method: `"bilinear_corners"`: linear, the corners keep their values (Google's code);
            `"bilinear"`: linear, with pixels as areas;
            `"bicubic"`: a = -0.75 as in torch (Hugging Face's code);
            `"bicubic_antialias"`: a = -0.5, with a wider kernel when shrinking (timm's code).
    """
    for axis, size in enumerate(grid):
        matrix = resize_matrix(table.shape[axis], size, method)
        table = np.moveaxis(np.tensordot(matrix, table, axes=(1, axis)), 0, axis)
    return table.astype("float32")


def resize_matrix(old, new, method):
    """The matrix `(new, old)` that resizes a line of `old` points to `new` points."""
    if old == new:
        return np.eye(old)
    if method == "bilinear_corners":
        centres = np.linspace(0, old - 1, new) if new > 1 else np.zeros(1)
    else:
        centres = (np.arange(new) + 0.5) * old / new - 0.5
    stretch = max(old / new, 1.0) if method == "bicubic_antialias" else 1.0
    kernel = {
        "bilinear_corners": triangle,
        "bilinear": triangle,
        "bicubic": lambda x: cubic(x, -0.75),
        "bicubic_antialias": lambda x: cubic(x, -0.5),
    }[method]
    matrix = np.zeros((new, old))
    reach = int(np.ceil(2 * stretch)) + 1
    for row, centre in enumerate(centres):
        around = np.arange(int(np.floor(centre)) - reach, int(np.floor(centre)) + reach + 1)
        weight = kernel((around - centre) / stretch)
        if method == "bicubic_antialias":  # points outside the line have weight 0
            weight = weight * ((around >= 0) & (around < old))
        # In the other methods a point outside has the value of the border.
        np.add.at(matrix[row], np.clip(around, 0, old - 1), weight)
    return matrix / matrix.sum(axis=1, keepdims=True)


def triangle(x):
    """The kernel of linear interpolation."""
    return np.maximum(0.0, 1.0 - np.abs(x))


def cubic(x, a):
    """The cubic convolution kernel of Keys.

    Source: "Cubic Convolution Interpolation for Digital Image Processing", IEEE Transactions on
    Acoustics, Speech and Signal Processing 29, 1981.
    """
    x = np.abs(x)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def patch_kernel(kernel, patch_size):
    """Resize a patch kernel to another patch size: `(P, Q, C, D) -> (*patch_size, C, D)`.

    Let B be the matrix that resizes a patch from the old size to the new one. The new kernel w
    gives for the resized patch the same token as the old kernel for the old patch: `B^T w = old`,
    solved by least squares (a pseudo-inverse).

    Source: "FlexiViT: One Model for All Patch Sizes", arXiv 2212.08013.
    """
    old = kernel.shape[:2]
    rows, columns = (resize_matrix(o, n, "bilinear") for o, n in zip(old, patch_size, strict=True))
    flat = kernel.reshape(old[0] * old[1], -1).astype("float64")
    resized = np.linalg.pinv(np.kron(rows, columns).T) @ flat
    return resized.reshape(*patch_size, *kernel.shape[2:]).astype("float32")


def channels(kernel, count):
    """Change a patch kernel's number of channels: `(P, Q, C, D) -> (P, Q, count, D)`.

    For one channel the result is the sum, which is exact for a grey image. For any other number
    the channels repeat, scaled by `C / count` as in timm.
    """
    old = kernel.shape[2]
    if count == 1:
        return kernel.sum(axis=2, keepdims=True)
    repeated = np.tile(kernel, (1, 1, -(-count // old), 1))[:, :, :count]
    return repeated * (old / count)


def across_tokens(array, axis, old_grid, grid):
    """Resize an array along its axis of tokens, from `old_grid` to `grid`, (rows, columns) both."""
    on_grid = np.moveaxis(array, axis, 0).reshape(*old_grid, -1)
    resized = positions(on_grid, grid, "bilinear")
    return np.moveaxis(resized.reshape(-1, *np.delete(array.shape, axis)), 0, axis)
