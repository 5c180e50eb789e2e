"""Half of a block in ViT, MLP-Mixer and hybrids: a residual branch around one mixer."""

import functools
from typing import Any

import keras
from keras import ops

from keras_mixers import arguments
from keras_mixers.graph import float32_inside
from keras_mixers.layers import kernels
from keras_mixers.layers.base import Layer, SavesSeedState
from keras_mixers.layers.norms import NORMALIZATIONS
from keras_mixers.serialization import registered


@registered
class Residual(Layer):
    """`x + drop(scale(mixer(norm(x))))`: a pre-norm residual branch around any mixer.

    Shapes: `(N, T, D) -> (N, T, D)`.

    Args:
        mixer: any Keras layer that keeps the shape of its input. By its class attribute `mixes`, a
            frozenset of `"tokens"` and `"channels"`, tools know what it mixes.
        stochastic_depth_rate: fraction of the samples whose branch is dropped in training.
        layer_scale_init: initial value of the LayerScale of each channel; `None` for no LayerScale.
        epsilon: added to the variance in the norm.
        gradient_checkpointing: in training, store only the input of the branch, and recompute the
            branch in the backward pass. This needs less memory and more time.
        normalization: `"layer"` for LayerNorm, `"rms"` for RMSNorm.

    Raises:
        TypeError: if `mixer` is not a Keras layer.
        ValueError: if `mixer` changes the shape of its input.
        ValueError: if `gradient_checkpointing` is True and `mixer` has a seed generator or moving
            averages. Both would change twice in each training step.

    Example:
        >>> half_block = Residual(keras.layers.Dense(48), stochastic_depth_rate=0.1)
        >>> half_block(keras.Input((10, 48))).shape
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
        normalization: str = "layer",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if not isinstance(mixer, keras.layers.Layer):
            raise TypeError(
                "`mixer` must be a Keras layer, such as MultiHeadSelfAttention(num_heads=3)."
                f" Received: mixer={arguments.shown(mixer)}"
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
        self.normalization = arguments.choice("normalization", normalization, NORMALIZATIONS)

        dtype = self.dtype_policy
        self.norm = NORMALIZATIONS[self.normalization](
            epsilon=self.epsilon, dtype=dtype, name="norm"
        )
        self.scale = None
        if self.layer_scale_init is not None:
            self.scale = LayerScale(self.layer_scale_init, dtype=dtype, name="layer_scale")
        self.drop = StochasticDepth(
            self.stochastic_depth_rate, dtype=dtype, name="stochastic_depth"
        )

    def build(self, x_shape):
        self.norm.build(x_shape)
        # Keras's convolutions have a `rank` too, with another meaning.
        rank = self.mixer.rank if isinstance(self.mixer, Layer) else None
        if rank and len(x_shape) != rank:
            raise ValueError(
                f"`mixer` must fit the input. Received: mixer={type(self.mixer).__name__}, which"
                f" takes {rank} axes, for an input of shape {tuple(x_shape)}"
            )
        # A symbolic call, because a mixer need not define `build` or `compute_output_shape`.
        mixed = self.mixer(keras.KerasTensor(x_shape, dtype=self.compute_dtype))
        mixed_shape = getattr(mixed, "shape", "several outputs")
        if mixed_shape[1:] != tuple(x_shape)[1:]:  # or the sum in `call` could broadcast silently
            raise ValueError(
                "`mixer` must keep the shape of its input, because both are added."
                f" {arguments.received(mixer=self.mixer)}, which makes {mixed_shape} of"
                f" {tuple(x_shape)}"
            )
        learned = {id(weight) for weight in self.mixer.weights if weight.trainable}
        state = [v.path for v in self.mixer.variables if id(v) not in learned]
        if self.gradient_checkpointing and state and self.mixer.trainable:
            raise ValueError(
                "`gradient_checkpointing` must be False for a mixer with state that changes in"
                " training, such as moving averages or the seed generator of dropout: recomputing"
                f" the mixer would change it twice. Received: a mixer with {state[0]!r}"
            )
        if self.scale:
            self.scale.build(x_shape)
        self.drop.build(x_shape)  # because Keras quantizes only models whose layers are all built

    def call(self, x, training=None):
        # `training` is an explicit argument, because Keras does not pass it on when the backward
        # pass recomputes the branch.
        branch = functools.partial(self.branch, training=training)
        if self.gradient_checkpointing and training:
            branch = keras.remat(branch)
        if not training and kernels.prefers_float32(x):
            with float32_inside(self):
                precise = ops.cast(x, "float32")
                return ops.cast(precise + branch(precise), x.dtype)
        fork, add = kernels.find("fork", x), kernels.find("add", x)
        if not fork or x.dtype != "bfloat16" or kernels.is_small(x):
            return x + self.drop(branch(x), training=training)
        x, into_branch = fork(x)
        return add(x, self.drop(branch(into_branch), training=training))

    def branch(self, x, training):
        """`scale(mixer(norm(x)))`, the branch without stochastic depth."""
        return self.scaled(self.mixer(self.norm(x, training=training), training=training))

    def scaled(self, branch):
        """The mixer's output, multiplied by LayerScale if there is one."""
        return self.scale(branch) if self.scale else branch


@registered
class LayerScale(Layer):
    """`x * gamma`, with one learned factor for each channel; the factors start small.

    Shapes: `(..., D) -> (..., D)`.

    Args:
        init: initial value of gamma; 1e-6 in DeiT-III.

    Example:
        >>> LayerScale(1e-5)(keras.Input((10, 48))).shape
        (None, 10, 48)

    Source: "Going deeper with Image Transformers", arXiv 2103.17239.
    """

    def __init__(self, init: float = 1e-6, **kwargs: Any):
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
    """In training, `x * bernoulli(1 - rate) / (1 - rate)`, with one random number for each sample.

    A dropped sample is zero in all its values. The division keeps the expectation equal to x. At
    inference, and at rate 0, the layer is the identity.

    Shapes: `(N, ...) -> (N, ...)`.

    Args:
        rate: fraction of the samples to drop, in [0, 1).
        seed: seed of the random numbers; `None` to derive one from Keras's global seed.

    Example:
        >>> StochasticDepth(0.1)(keras.Input((10, 48))).shape
        (None, 10, 48)

    Source: "Deep Networks with Stochastic Depth", arXiv 1603.09382. This layer rescales in
    training, as dropout does; the paper rescales at inference.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.rate = arguments.rate("rate", rate)
        self.seed = None if seed is None else arguments.integer("seed", seed, 0, 2**31 - 1)
        if self.rate:
            self.seed_generator = keras.random.SeedGenerator(self.seed)

    def call(self, x, training=None):
        if not (training and self.rate):
            return x
        one_number_per_sample = (ops.shape(x)[0], *[1] * (len(x.shape) - 1))
        return keras.random.dropout(
            x, self.rate, noise_shape=one_number_per_sample, seed=self.seed_generator
        )
