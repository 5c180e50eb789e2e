"""Which patches a decision rests on: attention weighted by its gradient."""

from collections.abc import Sequence

import keras
import numpy as np

from keras_mixers.graph import layer_calls, run
from keras_mixers.layers import Residual
from keras_mixers.probe.attention import Layers, attention_path, read_out
from keras_mixers.probe.collect import batches, check_images, mixer_input, mixer_of, to_numpy
from keras_mixers.probe.outputs import kind_of_output


def relevance(
    model: keras.Model,
    images: np.ndarray,
    target: int | Sequence[int] | None = None,
    layers: Layers = None,
    *,
    batch_size: int = 8,
) -> np.ndarray:
    """How much each patch speaks for a class: `R += A R` over the layers, from R = I.

    A is the mean over heads of `max(0, gradient * attention)`, the gradient that of the class's
    logit by the attention weights (of the logarithm of its probability, in a model that ends in a
    softmax). Of `R - I` the row is taken of the token that the model reads
    (its class token, or else the mean over the patches).

    Shapes: `(N, H, W, C) -> (N, rows, columns)`, 0 or more.

    Args:
        model: a functional or sequential classifier whose tokens are mixed by attention alone.
        images: as the model takes them.
        target: the class, for all images or one for each; `None` for those the model predicts.
        layers: as in `attention_rollout`; those named are followed, whatever mixes between them.
        batch_size: how many images are computed at once.

    Raises:
        ValueError: the model is no such classifier, a target is none of its classes, or the images
            do not fit.
        NotImplementedError: Keras runs neither on TensorFlow nor on JAX.

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
        done = sum(map(len, parts))
        chosen = target if np.ndim(target) == 0 else target[done : done + len(batch)]
        parts.append(read_out(model, wanted, flow(model, wanted, batch, chosen)))
    return np.concatenate(parts)


def flow(model, wanted, images, target):
    """R of a batch, `(N, T, T)`, from the gradients in all layers at once."""
    weights = {}

    def score(nudges):
        """The classes' logits, summed, where each layer's attention is nudged by so much."""

        def visit(name, layer, *args, **kwargs):
            if name not in wanted:
                return layer(*args, **kwargs)
            y, weights[name] = perturbed(layer, args[0], nudges.get(name, 0.0))
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


def perturbed(layer, x, nudge):
    """A layer's output where its attention weights are changed by `nudge`, and the weights."""
    y, weights = mixer_of(layer).with_weights(mixer_input(layer, x), lambda w: w + nudge)
    if not isinstance(layer, Residual):
        return y, weights
    x = keras.ops.cast(x, y.dtype)  # because Keras casts the input of a layer's call too
    return x + layer.scaled(y), weights


def gradients(function, tensors):
    """The gradient of a number by each of the tensors it is a function of: `{name: tensor}`."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.grad(function)(tensors)
    if backend != "tensorflow":
        raise NotImplementedError(
            f"relevance needs gradients by TensorFlow or JAX. Received: Keras on {backend!r}; start"
            " Python with KERAS_BACKEND=tensorflow"
        )
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(tensors)
        number = function(tensors)
    return tape.gradient(number, tensors)


def check_classes(model, images, target):
    """Refuse a model that is no classifier, and a target that it does not know."""
    if kind_of_output(model) is None:
        raise ValueError(
            "`model` must end in logits, a Dense without an activation, or in a softmax of them."
            f" Received: '{model.name}', which ends in {list(layer_calls(model))[-1]!r}"
        )
    if target is None:
        return
    known, given = model.outputs[0].shape[-1], np.asarray(target)
    if given.shape not in ((), (len(images),)):
        raise ValueError(
            f"`target` must be one number, or one for each of the {len(images)} images. Received:"
            f" target={target!r}"
        )
    if given.dtype.kind not in "iu" or not ((given >= 0) & (given < known)).all():
        raise ValueError(
            f"`target` must be numbers from 0 to {known - 1}. Received: target={target!r}"
        )
