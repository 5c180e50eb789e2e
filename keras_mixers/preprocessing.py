"""What a checkpoint expects of an image: as data, as a Keras layer, as a function for tf.data."""

import dataclasses
import math
import types

import keras
import numpy as np
from keras import ops

from keras_mixers import arguments
from keras_mixers.layers.base import PACKAGE, Layer

# Pillow's fixed point: a weight is a whole number of 2^-22. Here in two parts, of 2^-10 and of what
# is left: either fits the 11 bits that a GPU keeps of a factor, and either's sums are exact.
FRACTION, COARSE = 2**22, 2**10
FINE = FRACTION // COARSE
# Of float32, in which the numbers are used: what it makes 0 or infinite is refused.
SMALLEST, LARGEST = float(np.finfo("float32").tiny), float(np.finfo("float32").max)


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What a checkpoint expects of an image: `(central crop of resize(image) / 255 - mean) / std`.

    The image is resized until `size / crop_fraction` just fits into it, its aspect kept, and the
    centre is cut out: timm's evaluation transform. The resize is Pillow's, antialiased and rounded
    to bytes after each axis. Two forms give the same numbers: `layer()` goes into a model, the
    object itself is a function for `dataset.map`.

    Shapes: `(H, W, C) -> (*size, C)` and `(N, H, W, C) -> (N, *size, C)`, from bytes or floats in
    0..255 to float32.

    Args:
        size: (height, width) of the result, or an int for a square.
        crop_fraction: side of the crop over side of the resized image, above 0 and at most 1.
        interpolation: `"bicubic"` or `"bilinear"`. timm's own transform for a size that is not
            square forgets the checkpoint's choice and takes `"bilinear"`; here it is as said.
        mean: subtracted from the image in 0..1; a number for each channel, or one for all.
        std: what the difference is divided by, likewise.

    Raises:
        ValueError: `mean` or `std` does not have one number for each channel of the image.

    Example:
        >>> preprocessing = Preprocessing(224, crop_fraction=0.9)
        >>> preprocessing
        Preprocessing(size=(224, 224), crop_fraction=0.9, interpolation='bicubic', \
mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        >>> preprocessing.layer()(keras.Input((None, None, 3), dtype="uint8")).shape
        (None, 224, 224, 3)
        >>> image, label = preprocessing(np.zeros((480, 640, 3), "uint8"), 1)
        >>> image.shape
        TensorShape([224, 224, 3])

    Source: timm, `timm/data/transforms_factory.py`, `transforms_imagenet_eval`.
    """

    size: int | tuple[int, int] = (224, 224)
    crop_fraction: float = 0.875
    interpolation: str = "bicubic"
    mean: float | tuple[float, ...] = (0.5, 0.5, 0.5)
    std: float | tuple[float, ...] = (0.5, 0.5, 0.5)

    def __post_init__(self):
        size = arguments.pair("size", self.size)
        checked = {
            "size": size,
            "crop_fraction": _fraction("crop_fraction", self.crop_fraction, size),
            "interpolation": arguments.choice("interpolation", self.interpolation, KERNELS),
            "mean": _per_channel("mean", self.mean, "finite", -LARGEST),
            "std": _per_channel("std", self.std, "finite and above 0", SMALLEST),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)  # the only way into a frozen dataclass
        lengths = {len(value) for value in (self.mean, self.std) if isinstance(value, tuple)}
        if len(lengths) > 1:
            raise ValueError(
                "`std` must have as many numbers as `mean`. Received:"
                f" mean={self.mean!r}, std={self.std!r}"
            )

    def __call__(self, image, *rest):
        """The image, preprocessed, and whatever came with it, untouched: for `dataset.map`."""
        image = self.normalize(self.resize(image))
        return (image, *rest) if rest else image

    def resize(self, image):
        """The first half, in bytes: the central crop of the resized image."""
        import tensorflow as tf  # which tf.data is on every backend

        image = tf.convert_to_tensor(image)
        if image.shape.rank not in (3, 4):
            raise ValueError(
                "`image` must have shape (H, W, C) or (N, H, W, C). Received: image of shape"
                f" {image.shape}"
            )
        self.check_channels(image.shape[-1])
        single = image.shape.rank == 3
        images = image[None] if single else image
        sides = [known or tf.shape(images)[i] for i, known in enumerate(images.shape)]
        images = tf.cast(_resized(self, images, *sides[1:3], _tensorflow()), "uint8")
        return images[0] if single else images

    def normalize(self, image):
        """The second half: bytes, or floats in 0..255, to float32 about 0."""
        import tensorflow as tf

        self.check_channels(image.shape[-1])
        return _normalized(self, tf.cast(image, "float32"))

    def layer(self, name: str = "preprocessing"):
        """The layer that does this inside a model."""
        return PreprocessImages(**self.get_config(), name=name)

    def get_config(self) -> dict:
        """The arguments as JSON holds them."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_config(cls, config: dict):
        """The object whose `get_config` gave `config`."""
        return cls(**config)

    def check_channels(self, channels):
        """Refuse an image whose channels are not those of `mean` and `std`."""
        for name in ("mean", "std"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != channels:
                raise ValueError(
                    f"`{name}` must have one number for each channel of the image, or be one"
                    f" number for all. Received: {name}={value!r} for an image of"
                    f" {'unknown' if channels is None else channels} channels"
                )


@keras.saving.register_keras_serializable(PACKAGE)
class PreprocessImages(Layer):
    """`Preprocessing` as a layer: it takes images of any size, in float32 whatever the policy.

    It is made of matrix products, so that every backend and file format can hold it. Where height
    and width are known, the matrices are constants.

    Shapes: `(N, H, W, C) -> (N, *size, C)`, with H and W known or None; bytes, or floats in 0..255.

    Args:
        size: as in `Preprocessing`, and so the others.
        crop_fraction: side of the crop over side of the resized image.
        interpolation: `"bicubic"` or `"bilinear"`.
        mean: subtracted from the image in 0..1.
        std: what the difference is divided by.

    Raises:
        ValueError: `mean` or `std` does not have one number for each channel of the image.

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
        **kwargs,
    ):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.preprocessing = Preprocessing(size, crop_fraction, interpolation, mean, std)
        self.size = self.preprocessing.size
        self.crop_fraction = self.preprocessing.crop_fraction
        self.interpolation = self.preprocessing.interpolation
        self.mean = self.preprocessing.mean
        self.std = self.preprocessing.std

    def build(self, x_shape):
        self.preprocessing.check_channels(x_shape[-1])
        self.input_spec = keras.layers.InputSpec(ndim=self.rank, axes={-1: x_shape[-1]})

    def compute_output_shape(self, x_shape):
        return (x_shape[0], *self.size, x_shape[-1])

    def call(self, x):
        return _normalized(
            self.preprocessing, _resized(self.preprocessing, x, *ops.shape(x)[1:3], ops)
        )


# From here on `tensors` is keras.ops or, where tf.data calls, TensorFlow under the same names;
# `numbers` is that or, for images of known size, NumPy.


def _tensorflow():
    import tensorflow as tf

    return types.SimpleNamespace(
        abs=tf.abs,
        arange=tf.range,
        array=tf.cast,
        expand_dims=tf.expand_dims,
        floor=tf.floor,
        matmul=tf.matmul,
        maximum=tf.maximum,
        minimum=tf.minimum,
        round=tf.round,
        sum=tf.reduce_sum,
        transpose=tf.transpose,
    )


def _resized(spec, images, height, width, tensors):
    """Images of `spec`'s size, whole numbers from 0 to 255 in float32.

    An unknown height or width is a scalar tensor.
    """
    known = isinstance(height, int) and isinstance(width, int)
    numbers = np if known else tensors
    if not known:
        height, width = (tensors.array(side, dtype="int64") for side in (height, width))
    resized = _resized_sides(spec, height, width, numbers)
    kernel = KERNELS[spec.interpolation]
    top, bottom, rows = _weights(kernel, height, resized[0], spec.size[0], numbers)
    left, right, columns = _weights(kernel, width, resized[1], spec.size[1], numbers)

    # A plane for each channel, the axis in work last but one: two large matrix products.
    x = tensors.transpose(images[:, top:bottom, left:right], (0, 3, 2, 1))
    x = _product(columns, tensors.array(x, dtype="float32"), tensors)
    x = _product(rows, tensors.transpose(x, (0, 1, 3, 2)), tensors)
    return tensors.transpose(x, (0, 2, 3, 1))


def _normalized(spec, x):
    return (x / 255 - np.array(spec.mean, "float32")) / np.array(spec.std, "float32")


def _resized_sides(spec, height, width, numbers):
    """(height, width) of the whole image resized, its crop being `spec.size`."""
    scale = _scale(spec.size, spec.crop_fraction)
    if scale[0] == scale[1]:  # torchvision's Resize: the longer side is cut to a whole number
        shorter = numbers.minimum(height, width)
        return scale[0] * height // shorter, scale[0] * width // shorter
    # timm's ResizeKeepRatio: it is rounded, a half to the even number, after two float64 divisions
    height, width = (numbers.array(side, dtype="float64") for side in (height, width))
    ratio = numbers.minimum(height / scale[0], width / scale[1])
    return tuple(
        numbers.array(numbers.round(side / ratio), dtype="int64") for side in (height, width)
    )


def _scale(size, crop_fraction):
    return tuple(math.floor(side / crop_fraction) for side in size)


def _weights(kernel, length, resized, crop, numbers):
    """Which pixels of an axis the crop depends on, and by what weights.

    Returns `first, last + 1, (coarse, fine)`: matrices (crop, pixels) of whole numbers, of which
    `coarse / COARSE + fine / FRACTION` is Pillow's weight.
    """
    kernel, radius = kernel
    margin = resized - crop
    offset = (margin + margin % 4 // 3) // 2  # margin / 2, a half to the even number as by round()

    # Centres of pixels in units of half a pixel of either image: whole numbers, so nothing is lost.
    target = (2 * (numbers.arange(crop, dtype="int64") + offset) + 1) * length
    wider = numbers.maximum(length, resized)  # the kernel grows with the image that shrinks
    first = numbers.maximum((target[0] - 2 * radius * wider) // (2 * resized), 0)
    end = numbers.minimum((target[-1] + 2 * radius * wider) // (2 * resized) + 1, length)
    source = (2 * numbers.arange(first, end, dtype="int64") + 1) * resized
    distance = numbers.abs(source - numbers.expand_dims(target, 1))
    distance = numbers.array(distance, dtype="float64") / (
        2 * numbers.array(wider, dtype="float64")
    )

    weights = kernel(distance, numbers)
    weights = weights / numbers.sum(weights, axis=1, keepdims=True)
    weights = numbers.round(weights * FRACTION)
    coarse = numbers.round(weights / FINE)
    return first, end, (coarse, weights - coarse * FINE)


def _product(weights, x, tensors):
    """Weights times bytes, to the nearest byte, a half up: Pillow's result, without any error."""
    coarse, fine = (tensors.matmul(tensors.array(part, dtype="float32"), x) for part in weights)
    x = tensors.floor((coarse + tensors.floor(fine / FINE) + COARSE // 2) / COARSE)
    return tensors.minimum(tensors.maximum(x, 0), 255)


def _triangle(distance, numbers):
    return 1 - numbers.minimum(distance, 1)


def _cubic(distance, numbers):
    # Either half is 0 where the other counts, which spares a choice between them.
    inner = numbers.minimum(distance, 1)
    outer = numbers.minimum(numbers.maximum(distance, 1), 2)
    return (1.5 * inner - 2.5) * inner * inner + 1 - 0.5 * (outer - 1) * (outer - 2) ** 2


KERNELS = {"bicubic": (_cubic, 2), "bilinear": (_triangle, 1)}  # how far each reaches


def _fraction(name, value, size):
    largest = arguments.LARGEST_INTEGER
    expected = f"above 0 and at most 1, and `size` divided by it at most {largest}"
    try:
        value = arguments.real(name, value, SMALLEST)
        if value > 1 or max(size) > largest * value:
            raise ValueError
    except (TypeError, ValueError) as error:
        raise type(error)(f"`{name}` must be {expected}. Received: {name}={value!r}") from None
    return value


def _per_channel(name, value, which, minimum):
    expected = f"a number, or a tuple of one for each channel, {which}"
    several = isinstance(value, (tuple, list))
    try:
        each = value if several else [value]
        checked = tuple(arguments.real(name, number, minimum, LARGEST) for number in each)
        if not checked:
            raise ValueError
    except (TypeError, ValueError) as error:
        raise type(error)(f"`{name}` must be {expected}. Received: {name}={value!r}") from None
    return checked if several else checked[0]
