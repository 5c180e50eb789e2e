"""`Preprocessing` as a Keras layer."""

import keras
from keras import ops

from keras_mixers.layers.base import Layer
from keras_mixers.preprocessing.resample import Resampler
from keras_mixers.preprocessing.scale import warn_of_scale
from keras_mixers.preprocessing.specification import Specification
from keras_mixers.serialization import registered


@registered
class PreprocessImages(Layer):
    """`(central crop of resize(image) / 255 - mean) / std`: `Preprocessing` as a layer.

    The layer takes images of any size. It computes in float32, whatever the dtype policy is. It
    consists of matrix products, so that every backend and every export format supports it. The
    matrices are constants if the height and width of the images are known.

    Shapes: `(N, H, W, C) -> (N, *size, C)`, from bytes or floats in 0..255. H and W may be unknown.
    NaN becomes an arbitrary byte.

    Args:
        size: (height, width) of the result in pixels, or an int for a square.
        crop_fraction: side of the crop divided by side of the resized image, above 0, at most 1.
        interpolation: `"bicubic"` or `"bilinear"`.
        mean: subtracted from the image in 0..1; one number for each channel, or one for all.
        std: the difference is divided by it; one number for each channel, or one for all.
        crop_mode: `"center"` keeps the image's aspect ratio. `"squash"` does not; see
            `Preprocessing`.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it.
        ValueError: if `mean` or `std` does not have one number for each channel of the image.

    Example:
        >>> PreprocessImages(32)(keras.Input((None, 48, 3), dtype="uint8")).shape
        (None, 32, 32, 3)

    Source: Pillow, `src/libImaging/Resample.c`; bicubic: Keys, "Cubic convolution interpolation for
    digital image processing", with a = -0.5.
    """

    rank = 4

    def __init__(
        self,
        size: int | tuple[int, int] = (224, 224),
        crop_fraction: float = 0.875,
        interpolation: str = "bicubic",
        mean: float | tuple[float, ...] = (0.5, 0.5, 0.5),
        std: float | tuple[float, ...] = (0.5, 0.5, 0.5),
        crop_mode: str = "center",
        **kwargs,
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.specification = Specification(size, crop_fraction, interpolation, mean, std, crop_mode)
        self.size = self.specification.size
        self.crop_fraction = self.specification.crop_fraction
        self.interpolation = self.specification.interpolation
        self.mean = self.specification.mean
        self.std = self.specification.std
        self.crop_mode = self.specification.crop_mode

    def build(self, x_shape):
        self.specification.check_channels(x_shape[-1])
        self.input_spec = keras.layers.InputSpec(ndim=self.rank, axes={-1: x_shape[-1]})

    def compute_output_shape(self, x_shape):
        return (x_shape[0], *self.size, x_shape[-1])

    def call(self, x):
        warn_of_scale(x)
        _, *sizes = ops.shape(x)
        resized = Resampler(self.specification, *sizes, ops)(x)
        return self.specification.standardize(ops.array(resized, "float32"), ops.array)
