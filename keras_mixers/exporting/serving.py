"""What every export format serves: one function of images, with stable names."""

import contextlib
import dataclasses
from collections.abc import Iterable

import keras
import numpy as np

from keras_mixers import layers
from keras_mixers.exporting.temporary_attributes import temporary_attribute
from keras_mixers.graph import all_layers
from keras_mixers.layers.kernels import reference_kernels
from keras_mixers.preprocessing import PreprocessImages, Preprocessing

FLOATS = ("float32", "float16", "bfloat16")
MOST_IMAGES = 256  # of the calibration data


@dataclasses.dataclass(frozen=True)
class Serving:
    """What an exported file is to be: the function `images -> {name: output}`, and its numbers.

    Attributes are those of `export`, checked, and:
        metadata: what the file says of itself, `{key: what JSON can hold}`.
        calibration: batches of images as the file takes them, or ().
    """

    model: keras.Model
    preprocessing: Preprocessing | None = None
    attention_maps: bool = False
    target: str = "onnx"
    dtype: str = "float32"
    quantize: str | None = None
    metadata: dict = dataclasses.field(default_factory=dict)
    calibration: tuple = ()

    @property
    def precision(self):
        """The narrowest numbers in the file."""
        return self.quantize or self.dtype

    @property
    def images(self):
        """The input as TensorFlow declares it: `(batch, H, W, C)`, bytes of any size or floats."""
        import tensorflow as tf

        *size, channels = self.model.input_shape[1:]
        if self.preprocessing:
            return tf.TensorSpec((None, None, None, channels), "uint8", name="images")
        return tf.TensorSpec((None, *size, channels), "float32", name="images")

    def __call__(self, images, **how):
        """The outputs of images, eagerly or traced; `how` as in `of_prepared`."""
        prepared = self.preprocessing(images) if self.preprocessing else images
        return self.of_prepared(prepared, **how)

    def compiled(self, **how):
        """The function as a graph, which forgets what it no longer needs while it computes."""
        import tensorflow as tf

        serve = tf.function(
            lambda images: self(images, **how), input_signature=[self.images], autograph=False
        )
        return serve.get_concrete_function()

    def of_prepared(self, images, policy="float32"):
        """The outputs of images as the model takes them.

        Args:
            images: `(N, H, W, C)`.
            policy: the dtype policy to compute in, whatever the model's own.
        """
        maps = []
        with contextlib.ExitStack() as stack:
            stack.enter_context(computing_in(self.model, policy))
            stack.enter_context(reference_kernels())
            if self.attention_maps:
                calls = [(layer, recording(layer, maps)) for layer in attentions(self.model)]
                stack.enter_context(temporary_attribute("call", calls))
            logits = keras.ops.cast(self.answer(images), "float32")
        outputs = {"logits": logits}
        if self.preprocessing:
            outputs["probabilities"] = keras.ops.softmax(logits, axis=-1)
        return {**outputs, **{f"attention_{i}": weights for i, weights in enumerate(maps)}}

    def answer(self, images):
        """The model's one output, whatever structure it may stand in."""
        (output,) = keras.tree.flatten(self.model(images, training=False))
        return output

    def calibrated(self, data):
        """The same with calibration images, read from an array, batches, or a dataset.

        Raises:
            ValueError: there are none, or they are not what the file takes.
        """
        if data is None:
            return self
        if not isinstance(data, Iterable) and not hasattr(data, "shape"):
            raise TypeError(
                "`calibration_data` must be an array of images or batches of them. Received:"
                f" calibration_data={data!r}"
            )
        batches, count = [], 0
        for batch in [data] if hasattr(data, "shape") else data:
            images = np.asarray(batch[0] if isinstance(batch, (tuple, list)) else batch)
            self._check_calibration(images)
            if not len(images):
                continue
            batches.append(images.astype(self.images.dtype.name)[: MOST_IMAGES - count])
            count += len(batches[-1])
            if count == MOST_IMAGES:
                break
        if not count:
            raise ValueError("`calibration_data` must have an image. Received: none")
        return dataclasses.replace(self, calibration=tuple(batches))

    def _check_calibration(self, images):
        shape, dtype = self.images.shape, self.images.dtype.name
        wrong = images.dtype == "uint8" if dtype == "float32" else images.dtype != "uint8"
        if wrong or not shape.is_compatible_with(images.shape):
            raise ValueError(
                f"`calibration_data` must hold what the file takes: {dtype} images of shape"
                f" {tuple(shape)}. Received: {images.dtype} of shape {images.shape}"
            )
        if not np.isfinite(images).all():
            raise ValueError("`calibration_data` must be finite. Received: NaN or infinity")


def attentions(model):
    """The attention layers whose weights can be outputs."""
    inside = all_layers(model)
    return [layer for layer in inside if isinstance(layer, layers.MultiHeadSelfAttention)]


def recording(layer, maps):
    """An attention layer's `call` as it is now, which also adds its weights to a list."""
    original = layer.call

    def call(x, training=None, return_attention_scores=False):
        y, weights = original(x, return_attention_scores=True)
        maps.append(keras.ops.cast(weights, "float32"))
        return (y, weights) if return_attention_scores else y

    return call


@contextlib.contextmanager
def computing_in(model, policy):
    """While this lasts, what computes in float32 or less does under another dtype policy."""
    inside = [model, *all_layers(model)]
    changed = {
        layer: layer.dtype_policy
        for layer in inside
        if layer.compute_dtype in FLOATS
        and layer.dtype_policy != keras.dtype_policies.get(policy)
        and not isinstance(layer, PreprocessImages)  # exact in float32 alone
    }
    try:
        for layer in changed:
            layer.dtype_policy = keras.dtype_policies.get(policy)
        yield
    finally:
        for layer, own in changed.items():
            layer.dtype_policy = own
