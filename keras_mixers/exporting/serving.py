"""The function that an exported file computes, the same for every format."""

import contextlib
import dataclasses
import itertools
import os
import pathlib
from collections.abc import Iterable

import keras
import numpy as np

from keras_mixers import arguments, layers
from keras_mixers.exporting.temporary_attributes import temporary_attribute
from keras_mixers.graph import all_layers
from keras_mixers.layers.kernels import reference_kernels
from keras_mixers.models.outputs import probabilities
from keras_mixers.preprocessing import PreprocessImages, Preprocessing

FLOATS = ("float32", "float16", "bfloat16")
MAX_IMAGES = 256  # of the calibration data
MAX_BATCHES = 2**12  # read of the calibration data, because endless data may hold no images
NOT_PATHS = (
    "`calibration_data` must hold images as arrays, and not paths:"
    " np.asarray(PIL.Image.open(path).convert('RGB')) is the array of a file"
)


@dataclasses.dataclass(frozen=True)
class Serving:
    """What to export: the function `images -> {name: output}`, and how to store its numbers.

    The attributes are the arguments of `export` after validation, and:
        metadata: facts about the model to store in the file, `{key: JSON value}`.
        calibration: batches of images as the file takes them, or ().
    """

    model: keras.Model
    preprocessing: Preprocessing | None = None
    attention_maps: bool = False
    target: str = "onnx"
    dtype: str = "float32"
    quantize: str | None = None
    batch: int | None = None
    picture_size: tuple[int, int] | None = None
    metadata: dict = dataclasses.field(default_factory=dict)
    top: int | None = None
    runtime: pathlib.Path | str | None = None
    calibration: tuple = ()
    keep_float: tuple = ()
    sensitivity: bool = False

    @property
    def precision(self):
        """The dtype with the fewest bits in the file."""
        return self.quantize or self.dtype

    @property
    def images(self):
        """The input as a `tf.TensorSpec`: `(batch, H, W, C)`, uint8 of any size or float32.

        With `picture_size`, uint8 images have this size.
        """
        import tensorflow as tf

        *size, channels = self.model.input_shape[1:]
        if self.preprocessing:
            size = self.picture_size or (None, None)
            return tf.TensorSpec((self.batch, *size, channels), "uint8", name="images")
        return tf.TensorSpec((self.batch, *size, channels), "float32", name="images")

    def __call__(self, images, **options):
        """The outputs for images, eager or traced; `options` as in `outputs`."""
        with keras.name_scope("preprocessing"):
            prepared = self.preprocessing(images) if self.preprocessing else images
        return self.outputs(prepared, **options)

    def compiled(self, **options):
        """The function as a TensorFlow graph, which frees each tensor after its last use."""
        import tensorflow as tf

        @tf.function(input_signature=[self.images], autograph=False)
        def serve(images):
            # The graph checks the shape, because a signature checks only the dtype.
            return self(tf.ensure_shape(images, self.images.shape), **options)

        return serve.get_concrete_function()

    def outputs(self, prepared, policy="float32", kernels=reference_kernels):
        """`{name: output}` for images as the model takes them.

        Args:
            prepared: `(N, H, W, C)`.
            policy: the dtype policy to compute in, instead of the model's.
            kernels: the context that decides which kernels the layers use.
        """
        maps = []
        with contextlib.ExitStack() as stack:
            stack.enter_context(computing_in(self.model, policy))
            stack.enter_context(kernels())
            if self.attention_maps:
                calls = [(layer, recording(layer, maps)) for layer in attention_layers(self.model)]
                stack.enter_context(temporary_attribute("call", calls))
            outputs = self.model_outputs(prepared)
            outputs = {name: keras.ops.cast(y, "float32") for name, y in outputs.items()}
        if self.preprocessing and len(self.model.outputs) == 1:
            with keras.name_scope("probabilities"):
                outputs["probabilities"] = probabilities(self.model, outputs["logits"])
        return {**outputs, **{f"attention_{i}": weights for i, weights in enumerate(maps)}}

    def model_outputs(self, prepared):
        """`{name: tensor}`, also if the model returns its outputs in a list or a dict."""
        outputs = keras.tree.flatten(self.model(prepared, training=False))
        return dict(zip(output_names(self.model), outputs, strict=True))

    def calibrated(self, data):
        """A copy with calibration images from an array, images, batches, or a dataset.

        Raises:
            TypeError: if `data` is neither an array nor iterable.
            ValueError: if it holds no images, or images that the file does not take.
        """
        if data is None:
            return self
        if not isinstance(data, (Iterable, os.PathLike)) and not hasattr(data, "shape"):
            raise TypeError(
                "`calibration_data` must be an array of images, or images or batches of them."
                f" {arguments.received(calibration_data=data)}"
            )
        batches, count = [], 0
        for array in calibration_arrays(data):
            images = self._checked_calibration(array, MAX_IMAGES - count)
            if len(images):
                batches.append(images)
                count += len(images)
            if count == MAX_IMAGES:
                break
        if not count:
            raise ValueError("`calibration_data` must hold at least one image. Received: none")
        if self.batch:
            batches = [part for images in batches for part in batches_of(images, self.batch)]
        return dataclasses.replace(self, calibration=tuple(batches))

    def _checked_calibration(self, images, most):
        """The first `most` images in the dtype that the file takes."""
        import tensorflow as tf

        shape = tf.TensorShape((None, *self.images.shape[1:]))
        dtype = self.images.dtype.name
        fits = images.dtype.kind in "biuf" or images.dtype.name == "bfloat16"
        fits = fits and (images.dtype == "uint8") == (dtype == "uint8")
        if not fits or not shape.is_compatible_with(images.shape):
            hint = (
                "; keras_mixers.data.images(name, 'train') gives them, and so does a list of NumPy"
                " arrays of any sizes; with preprocessing=None the file takes prepared images"
            )
            raise ValueError(
                f"`calibration_data` must hold images as the file takes them: {dtype} of shape"
                f" {tuple(shape)}. Received: {images.dtype} of shape {images.shape}"
                f"{hint if self.preprocessing else ''}"
            )
        with np.errstate(over="ignore"):  # because the error below names the argument
            images = images[:most].astype(dtype)
        if not np.isfinite(images).all():
            raise ValueError(
                f"`calibration_data` must be finite as {dtype}. Received: NaN or infinity"
            )
        return images


def calibration_arrays(data):
    """Yield the images of an array, or of each item of an iterable, as a batch.

    An item is a batch or one image, with or without labels, so each may have another size.
    """
    if isinstance(data, (str, os.PathLike)):
        raise TypeError(f"{NOT_PATHS}. {arguments.received(calibration_data=data)}")
    for item in items_of(data):
        if item.dtype.kind in "OSU":
            raise TypeError(f"{NOT_PATHS}. {arguments.received(item=item.tolist())}")
        yield item[None] if item.ndim == 3 else item


def items_of(data):
    """Yield an array, or each item of an iterable as an array without its labels."""
    try:
        for item in [data] if hasattr(data, "shape") else itertools.islice(data, MAX_BATCHES):
            yield np.asarray(item[0] if isinstance(item, (tuple, list)) else item)
    except Exception as error:  # an iterator may raise anything
        raise ValueError(
            "`calibration_data` must be an array of images or batches of them."
            f" {arguments.received(calibration_data=data)}: {type(error).__name__}: {error}"
        ) from error


def batches_of(images, count):
    """Batches of `count` images; the last is filled with images from the start."""
    starts = range(0, len(images), count)
    return [images[np.arange(start, start + count) % len(images)] for start in starts]


def output_names(model):
    """Names of the outputs in the file: `logits`, or names of layers if there are several."""
    return ["logits"] if len(model.outputs) == 1 else list(model.output_names)


def attention_layers(model):
    """The attention layers whose weights can be outputs."""
    parts = all_layers(model)
    return [layer for layer in parts if isinstance(layer, layers.MultiHeadSelfAttention)]


def recording(layer, maps):
    """The layer's current `call`, extended to append the attention weights to `maps`."""
    original = layer.call

    def call(x, training=None, return_attention_scores=False):
        y, weights = original(x, return_attention_scores=True)
        maps.append(keras.ops.cast(weights, "float32"))
        return (y, weights) if return_attention_scores else y

    return call


@contextlib.contextmanager
def computing_in(model, policy):
    """Inside the `with` statement the layers that compute in floats have another dtype policy."""
    changed = {
        layer: layer.dtype_policy
        for layer in [model, *all_layers(model)]
        if layer.compute_dtype in FLOATS
        and layer.dtype_policy != keras.dtype_policies.get(policy)
        and not isinstance(layer, PreprocessImages)  # because it is exact only in float32
    }
    try:
        for layer in changed:
            layer.dtype_policy = keras.dtype_policies.get(policy)
        yield
    finally:
        for layer, original in changed.items():
            layer.dtype_policy = original
