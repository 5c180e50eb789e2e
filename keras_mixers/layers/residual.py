"""The half-block that every isotropic family repeats: one residual stream, one mixer beside it."""

import functools

import keras
from keras import ops

from keras_mixers import arguments
from keras_mixers.layers.base import Layer, SavesSeedState
from keras_mixers.layers.norms import LayerNormalization
from keras_mixers.serialization import registered


@registered
class Residual(Layer):
    """`x + drop(scale(mixer(norm(x))))`: pre-norm, any mixer, back onto the stream.

    Shapes: `(N, T, D) -> (N, T, D)`.

    Args:
        mixer: a layer that keeps its input's shape.
        stochastic_depth_rate: share of samples whose branch is dropped in training.
        layer_scale_init: where each channel's scale begins; `None` for no LayerScale.
        epsilon: of the LayerNorm.
        gradient_checkpointing: keep the input alone in training, and compute the branch again on
            the way back: less memory, more time.

    Raises:
        TypeError: `mixer` is not a layer.
        ValueError: `mixer` changes the shape; or has draws or moving averages, which would change
            twice a step under `gradient_checkpointing`.

    Example:
        >>> block = Residual(keras.layers.Dense(48), stochastic_depth_rate=0.1)
        >>> block(keras.Input((10, 48))).shape
        (None, 10, 48)

    Source: "Deep Residual Learning for Image Recognition", arXiv 1512.03385, with the norm first
    as in "Identity Mappings in Deep Residual Networks", arXiv 1603.05027; checkpointing: "Training
    Deep Nets with Sublinear Memory Cost", arXiv 1604.06174.
    """

    def __init__(
        self,
        mixer: keras.layers.Layer,
        stochastic_depth_rate: float = 0.0,
        layer_scale_init: float | None = None,
        epsilon: float = 1e-6,
        gradient_checkpointing: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not isinstance(mixer, keras.layers.Layer):
            raise TypeError(
                "`mixer` must be a Keras layer, such as MultiHeadSelfAttention(num_heads=3)."
                f" Received: mixer={mixer!r}"
            )
        self.mixer = mixer
        self.stochastic_depth_rate = arguments.rate("stochastic_depth_rate", stochastic_depth_rate)
        self.layer_scale_init = None
        if layer_scale_init is not None:
            self.layer_scale_init = arguments.real("layer_scale_init", layer_scale_init, 0.0)
        self.epsilon = arguments.real("epsilon", epsilon, 0.0)
        self.gradient_checkpointing = arguments.flag(
            "gradient_checkpointing", gradient_checkpointing
        )

        same = {"dtype": self.dtype_policy}
        self.norm = LayerNormalization(epsilon=self.epsilon, name="norm", **same)
        self.scale = None
        if self.layer_scale_init is not None:
            self.scale = LayerScale(self.layer_scale_init, name="layer_scale", **same)
        self.drop = StochasticDepth(self.stochastic_depth_rate, name="stochastic_depth", **same)

    def build(self, x_shape):
        self.norm.build(x_shape)
        rank = getattr(self.mixer, "rank", None)
        if rank and len(x_shape) != rank:
            raise ValueError(
                f"`mixer`={type(self.mixer).__name__} takes an input of {rank} axes. Received one"
                f" of shape {tuple(x_shape)}"
            )
        # A symbolic call, because a mixer need not define `build` or `compute_output_shape`.
        mixed_shape = self.mixer(keras.KerasTensor(x_shape, dtype=self.compute_dtype)).shape
        if mixed_shape[1:] != tuple(x_shape)[1:]:  # it would broadcast, or fail far from here
            raise ValueError(
                "`mixer` must keep its input's shape, to be added to it. Received:"
                f" mixer={self.mixer!r}, which makes {mixed_shape} of {tuple(x_shape)}"
            )
        learned = {id(weight) for weight in self.mixer.weights if weight.trainable}
        state = [v.path for v in self.mixer.variables if id(v) not in learned]
        if self.gradient_checkpointing and state and self.mixer.trainable:
            raise ValueError(
                "`gradient_checkpointing` must be False for a mixer with draws or moving averages,"
                f" which would change twice a step; dropout has such. Received: {state[0]}"
            )
        if self.scale:
            self.scale.build(x_shape)

    def call(self, x, training=None):
        # Said to each part, as nobody says it when the branch is computed again.
        branch = functools.partial(self.branch, training=training)
        if self.gradient_checkpointing and training:
            branch = keras.remat(branch)
        return x + self.drop(branch(x), training=training)

    def branch(self, x, training):
        return self.scaled(self.mixer(self.norm(x, training=training), training=training))

    def scaled(self, branch):
        """The mixer's output times LayerScale, if there is one."""
        return self.scale(branch) if self.scale else branch


@registered
class LayerScale(Layer):
    """`x * gamma`, one learned factor a channel that begins small.

    Shapes: `(..., D) -> (..., D)`.

    Args:
        init: where gamma begins; 1e-6 in DeiT-III.

    Example:
        >>> LayerScale(1e-5)(keras.Input((10, 48))).shape
        (None, 10, 48)

    Source: "Going deeper with Image Transformers", arXiv 2103.17239.
    """

    def __init__(self, init: float = 1e-6, **kwargs):
        super().__init__(**kwargs)
        self.init = arguments.real("init", init, 0.0)

    def build(self, x_shape):
        self.gamma = self.add_weight(
            shape=(x_shape[-1],),
            initializer=keras.initializers.Constant(self.init),
            name="gamma",
        )

    def call(self, x):
        return x * ops.cast(self.gamma, x.dtype)


@registered
class StochasticDepth(SavesSeedState, Layer):
    """In training, drop whole samples of a branch and divide the others by the share kept.

    `x * bernoulli(1 - rate) / (1 - rate)`, one draw a sample, so the expectation is x. At
    inference, and at rate 0, it is the identity.

    Shapes: `(N, ...) -> (N, ...)`.

    Args:
        rate: share of samples dropped, in [0, 1).
        seed: of the draws; `None` for one from Keras's global seed.

    Example:
        >>> StochasticDepth(0.1)(keras.Input((10, 48))).shape
        (None, 10, 48)

    Source: "Deep Networks with Stochastic Depth", arXiv 1603.09382; rescaled in training as
    dropout is, rather than at inference as in the paper.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.rate = arguments.rate("rate", rate)
        self.seed = None if seed is None else arguments.integer("seed", seed, 0, 2**31 - 1)
        if self.rate:
            self.seed_generator = keras.random.SeedGenerator(self.seed)

    def call(self, x, training=None):
        if not (training and self.rate):
            return x
        one_draw_a_sample = (ops.shape(x)[0], *[1] * (len(x.shape) - 1))
        return keras.random.dropout(
            x, self.rate, noise_shape=one_draw_a_sample, seed=self.seed_generator
        )
