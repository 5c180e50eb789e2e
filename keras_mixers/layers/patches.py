"""Cut images into patches: the grid of patches, and the pixels of each."""

from keras import ops

from keras_mixers import arguments


def patches(images, patch_size):
    """The pixels of each patch as a vector: `(N, H, W, C) -> (N, H/P, W/Q, P Q C)`."""
    height, width = patch_size
    rows, columns = patch_grid(images.shape[1:3], patch_size)
    x = ops.reshape(images, (-1, rows, height, columns, width * images.shape[-1]))
    x = ops.transpose(x, (0, 1, 3, 2, 4))
    return ops.reshape(x, (-1, rows, columns, height * width * images.shape[-1]))


def patch_grid(image_size, patch_size):
    """(rows, columns) of the patches of an image: `(H, W), (P, Q) -> (H/P, W/Q)`.

    Raises:
        ValueError: if the patch size does not divide the image size, or if the latter is unknown.
    """
    for side, patch in zip(image_size, patch_size, strict=True):
        if side is None or side % patch:
            valid = ""
            if side is not None:
                divisors = arguments.nearest_divisors(patch, side)
                valid = f"; the divisors of {side} that are nearest to {patch}: {divisors}"
            raise ValueError(
                "`patch_size` must divide a known image size. Received:"
                f" patch_size={tuple(patch_size)} for images of {tuple(image_size)} pixels{valid}"
            )
    return tuple(side // patch for side, patch in zip(image_size, patch_size, strict=True))
