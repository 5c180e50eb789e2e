"""AdamW as Vision Transformers are trained with it."""

import re

import keras
from keras import ops

from keras_mixers import arguments
from keras_mixers.serialization import registered


@registered
class LayerwiseAdamW(keras.optimizers.Adam):
    """AdamW that spares what is no kernel its decay, and can be slower in early layers.

    `w -= rate * (m / (sqrt(v) + epsilon) + weight_decay * w)`, decay for kernels alone: no bias, no
    norm, no position, no token. `rate` falls with the distance from the head, by `layer_decay` a
    block. Keras's own AdamW has to be told what to spare, and forgets it in a file.

    Args:
        learning_rate: a number, or a schedule.
        weight_decay: times the rate, taken off each kernel at each step.
        layer_decay: each block's rate over the next one's; 1 for the same everywhere.
        clip_norm: largest norm of all gradients together, after they are summed over devices;
            Keras's `global_clipnorm` clips each device's own. `None` for any.
        beta_1: how long the mean of gradients remembers.
        beta_2: how long the mean of their squares does.
        epsilon: added to the root of the latter.
        **kwargs: of `keras.optimizers.Adam`, such as `use_ema`.

    Raises:
        ValueError: `layer_decay` for a model whose blocks are not named `block_0_...` as ours are.

    Example:
        >>> optimizer = LayerwiseAdamW(1e-3, weight_decay=0.05, clip_norm=1.0)

    Source: "Decoupled Weight Decay Regularization", arXiv 1711.05101; layer decay: "BEiT: BERT
    Pre-Training of Image Transformers", arXiv 2106.08254.
    """

    def __init__(
        self,
        learning_rate=1e-3,
        weight_decay: float = 0.0,
        layer_decay: float = 1.0,
        clip_norm: float | None = None,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        name: str = "adamw",
        **kwargs,
    ):
        super().__init__(
            learning_rate, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon, name=name, **kwargs
        )
        # Not Keras's `weight_decay`, which would decay everything.
        self.kernel_decay = arguments.real("weight_decay", weight_decay, 0.0)
        self.layer_decay = decay_factor("layer_decay", layer_decay)
        self.clip_norm = None if clip_norm is None else positive("clip_norm", clip_norm)

    def build(self, variables):
        super().build(variables)
        distances = distances_from_head([variable.path for variable in variables])
        if self.layer_decay != 1 and not any(distances):
            raise ValueError(
                "`layer_decay` must be 1 for a model without layers named 'block_0_...', whose"
                f" order is not known. Received: layer_decay={self.layer_decay}"
            )
        self.factors = [self.layer_decay**distance for distance in distances]
        self.decays = [
            self.kernel_decay if is_kernel(variable.path) else 0.0 for variable in variables
        ]

    def _clip_gradients(self, grads):
        # Keras's place for it: after gradients were unscaled and accumulated.
        grads = super()._clip_gradients(grads)
        return grads if self.clip_norm is None else clipped(grads, self.clip_norm)

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        rate = ops.cast(learning_rate * self.factors[index], variable.dtype)
        if self.decays[index]:
            self.assign_sub(variable, variable * rate * self.decays[index])
        super().update_step(gradient, variable, rate)

    def get_config(self):
        return {
            **super().get_config(),
            "weight_decay": self.kernel_decay,
            "layer_decay": self.layer_decay,
            "clip_norm": self.clip_norm,
        }


def is_kernel(path):
    """Whether a weight is a matrix or convolution, by its name."""
    return path.split("/")[-1].endswith("kernel")


def distances_from_head(paths):
    """How many blocks lie between each weight and the head: 0 for the head itself."""
    blocks = [re.search(r"(?:^|/)block_(\d+)_", path) for path in paths]
    depth = 1 + max((int(block[1]) for block in blocks if block), default=-1)
    stem = re.compile(r"(?:^|/)(patch_embed|position_embedding|prefix_tokens|stem_)")
    return [
        depth - int(block[1]) if block else depth + 1 if depth and stem.search(path) else 0
        for path, block in zip(paths, blocks, strict=True)
    ]


def clipped(gradients, clip_norm):
    """Gradients whose norm, together and over all devices, is at most `clip_norm`."""
    shares = 1
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        replica = tf.distribute.get_replica_context()
        shares = replica.num_replicas_in_sync if replica else 1
    if shares > 1:  # Keras sums over the replicas later: each has its share of the sum until then
        known = [gradient for gradient in gradients if gradient is not None]
        sums = iter(replica.all_reduce(tf.distribute.ReduceOp.SUM, known))
        gradients = [None if gradient is None else next(sums) for gradient in gradients]
    squares = [ops.sum(ops.square(ops.cast(g, "float32"))) for g in gradients if g is not None]
    norm = ops.sqrt(sum(squares))
    factor = clip_norm / ops.maximum(norm, clip_norm) / shares
    return [None if g is None else g * ops.cast(factor, g.dtype) for g in gradients]


def positive(name, value):
    """A finite number above 0."""
    if not arguments.real(name, value, 0.0) > 0:
        raise ValueError(f"`{name}` must be above 0. Received: {name}={value!r}")
    return float(value)


def decay_factor(name, value):
    """A factor above 0 and at most 1."""
    if not 0 < arguments.real(name, value, 0.0) <= 1:
        raise ValueError(f"`{name}` must be above 0 and at most 1. Received: {name}={value!r}")
    return float(value)
