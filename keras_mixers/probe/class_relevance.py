"""Relevance of each patch for a class: attention weights multiplied by their gradients."""

from collections.abc import Sequence

import keras
import numpy as np

from keras_mixers import arguments
from keras_mixers.graph import layer_calls, run
from keras_mixers.layers import Residual
from keras_mixers.models.outputs import kind_of_output
from keras_mixers.probe.attention import Layers, attention_path, read_out
from keras_mixers.probe.collect import batches, mixer_input, mixer_of, to_numpy
from keras_mixers.probe.images import check_images, numbers_of


def relevance(
    model: keras.Model,
    images: np.ndarray,
    target: int | Sequence[int] | None = None,
    layers: Layers = None,
    *,
    batch_size: int = 8,
) -> np.ndarray:
    """How much each patch supports a class: `R += A R` over the layers, from R = I.

    A is the mean over heads of `max(0, gradient * attention)`. The gradient is that of the class's
    logit with respect to the attention weights. In a model that ends in a softmax, the logarithm
    of the probability replaces the logit. The result comes from `R - I`. It is the row of the class
    token if the model's head reads this token, or else the mean of the patches' rows.

    Shapes: `(N, H, W, C) -> (N, rows, columns)`, values of 0 or more.

    Args:
        model: functional or sequential classifier in which only attention mixes tokens; the rule
            is that of `attention_rollout`.
        images: array in the value range that the model expects.
        target: a class for all images, a list with one class for each image, or `None` for the
            classes that the model predicts.
        layers: as in `attention_rollout`.
        batch_size: number of images in one forward and backward pass.

    Raises:
        ValueError: if the model is not a classifier, or if `attention_rollout` refuses it.
        ValueError: if a target is not one of its classes, or if the images do not fit the model.
        NotImplementedError: if Keras's backend is neither TensorFlow nor JAX.

    Example:
        >>> from keras_mixers import ViT
        >>> model = ViT("Ti/16", input_shape=(32, 48, 3), depth=2, num_classes=10)
        >>> relevance(model, np.zeros((1, 32, 48, 3)), target=3).shape
        (1, 2, 3)

    Source: "Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder
    Transformers", arXiv 2103.15679, equations 5 and 6.
    """
    check_images(model, images)
    wanted = attention_path(model, layers)
    check_classes(model, images, target)
    parts = []
    for batch in batches(model, images, batch_size):
        start = sum(map(len, parts))
        classes = target if np.ndim(target) == 0 else target[start : start + len(batch)]
        parts.append(read_out(model, wanted, flow(model, wanted, batch, classes)))
    return np.concatenate(parts)


def flow(model, wanted, images, target):
    """`R - I` of a batch, `(N, T, T)`, from one backward pass through all layers."""
    weights = {}

    def score(changes):
        """The sum of the target logits if `changes` is added to each layer's attention weights."""

        def visit(name, layer, *args, **kwargs):
            if name not in wanted:
                return layer(*args, **kwargs)
            y, weights[name] = perturbed(layer, args[0], changes.get(name, 0.0))
            return y

        (logits,) = run(model, images, visit)
        if kind_of_output(model) == "probabilities":
            logits = keras.ops.log(logits + keras.backend.epsilon())
        predicted = keras.ops.argmax(logits, axis=-1) if target is None else target
        one_hot = keras.ops.one_hot(predicted, logits.shape[-1], dtype=logits.dtype)
        return keras.ops.sum(logits * one_hot)

    score({})
    attention = {name: to_numpy(tensor) for name, tensor in weights.items()}
    slopes = gradients(score, {name: keras.ops.zeros_like(weights[name]) for name in wanted})
    identity = np.eye(next(iter(attention.values())).shape[-1], dtype="float32")
    total = identity
    for name in wanted:
        mean = np.maximum(to_numpy(slopes[name]) * attention[name], 0).mean(axis=1)
        total = total + mean @ total
    return total - identity


def perturbed(layer, x, change):
    """The layer's output after `change` is added to its attention weights; the weights before."""
    y, weights = mixer_of(layer).with_weights(mixer_input(layer, x), lambda w: w + change)
    if not isinstance(layer, Residual):
        return y, weights
    x = keras.ops.cast(x, y.dtype)  # because Keras casts the input of a layer's call too
    return x + layer.scaled(y), weights


def gradients(function, tensors):
    """The gradient of a scalar function with respect to each of its tensors: `{name: tensor}`."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.grad(function)(tensors)
    if backend == "torch":
        import torch

        leaves = {name: tensor.detach().requires_grad_() for name, tensor in tensors.items()}
        found = torch.autograd.grad(function(leaves), list(leaves.values()))
        return dict(zip(leaves, found, strict=True))
    if backend != "tensorflow":
        raise NotImplementedError(
            "relevance needs gradients from TensorFlow, JAX or torch. Received: Keras on"
            f" {backend!r}; start Python with KERAS_BACKEND=tensorflow"
        )
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(tensors)
    return tape.gradient(value, tensors)


def check_classes(model, images, target):
    """Raise a ValueError if the model is not a classifier or `target` is not one of its classes."""
    if kind_of_output(model) is None:
        raise ValueError(
            "`model` must end in logits (a Dense layer without an activation) or in a softmax of"
            f" logits. Received: '{model.name}', which ends in {list(layer_calls(model))[-1]!r}"
        )
    if target is None:
        return
    num_classes, given = model.outputs[0].shape[-1], numbers_of("target", target)
    if given.shape not in ((), (len(images),)):
        raise ValueError(
            f"`target` must be one number, or one for each of the {len(images)} images. Received:"
            f" target={arguments.shown(target)}"
        )
    if given.dtype.kind not in "iu" or not ((given >= 0) & (given < num_classes)).all():
        raise ValueError(
            f"`target` must be numbers from 0 to {num_classes - 1}."
            f" {arguments.received(target=target)}"
        )
