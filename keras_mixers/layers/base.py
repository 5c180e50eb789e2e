"""The base class of the layers, and what a layer declares about itself.

Attribute names are part of the file format. A sublayer's attribute, such as `self.qkv`, is part of
the names of its weights in `.keras` and `.weights.h5` files. `keras_mixers.weights` also finds the
weights of published checkpoints by these names. Renaming an attribute therefore changes the format:
files that were saved before no longer load.
"""

import operator
import random
from typing import Any, Self

import keras

from keras_mixers.graph import lora_matrices, sublayers
from keras_mixers.serialization import ConfigFromSignature


class SavesSeedState:
    """Save the state of a layer's seed generator, which Keras leaves out of its files.

    Training that resumes from a file then draws the numbers that it would have drawn otherwise.
    """

    def save_own_variables(self, store):
        super().save_own_variables(store)
        if hasattr(self, "seed_generator"):
            store["seed_generator"] = keras.ops.convert_to_numpy(self.seed_generator.state)

    def load_own_variables(self, store):
        variables = dict(store)
        state = variables.pop("seed_generator", None)
        super().load_own_variables(variables)
        if state is not None and hasattr(self, "seed_generator"):
            self.seed_generator.state.assign(state)


def explicit_seed(seed):
    """A seed for a generator of dropout: on torch, Keras's dropout ignores one without a seed."""
    if seed is None and keras.backend.backend() == "torch":
        return random.randint(1, 10**9)  # as Keras draws its default seeds
    return seed


class Layer(ConfigFromSignature, keras.layers.Layer):
    """A Keras layer with a config that follows from its constructor's signature.

    A subclass keeps one attribute for each constructor argument, of the same name and meaning:
    `ConfigFromSignature` derives `get_config` and `from_config` from them.

    Attributes:
        rank: number of axes of the input, batch included: 3 for tokens `(N, T, D)`, 4 for a grid
            `(N, H, W, D)`; None if any number is valid.
        mixes: what the layer mixes, a frozenset of `"tokens"` and `"channels"`.
        role: what the layer does in a block, such as `"attention"`. Weight loading uses it to name
            a weight: `blocks.3.attention.qkv.kernel` belongs to the attention of block 3.
        split_by: the attribute with the number of heads or hidden units that `split_axes` divides
            among devices; None if the sizes of the axes say it.

    Tools that read a model, such as weight loading and probes, recognize a token mixer by `mixes`
    and `role`. A user's own mixer need not derive from this class. It can be any Keras layer that
    keeps the shape of its input and has the class attributes `mixes` and `role`.

    Example:
        >>> class Shift(keras.layers.Layer):
        ...     mixes = frozenset({"tokens"})
        ...     role = "shift"
        ...
        ...     def call(self, x):
        ...         return keras.ops.roll(x, 1, axis=1)
        >>> mixes_tokens(Shift())
        True
    """

    rank = None
    mixes = frozenset()
    role = None
    split_by = None

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self._parts_to_quantize, self._parts_to_freeze = {}, ()
        if self.rank:
            self.input_spec = keras.layers.InputSpec(ndim=self.rank)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        parts = {
            "quantized_parts": quantized_parts(self, skip=config),
            "frozen_parts": frozen_parts(self, skip=config),
        }
        return {**config, **{name: value for name, value in parts.items() if value}}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        arguments = dict(config)
        quantized = arguments.pop("quantized_parts", {})
        frozen = arguments.pop("frozen_parts", ())
        layer = super().from_config(arguments)
        layer._parts_to_quantize, layer._parts_to_freeze = dict(quantized), tuple(frozen)
        return layer

    def build_from_config(self, config):
        super().build_from_config(config)
        self._restore_parts()

    def __call__(self, *args, **kwargs):
        y = super().__call__(*args, **kwargs)
        if self._parts_to_quantize or self._parts_to_freeze:
            self._restore_parts()
        return y

    def _restore_parts(self):
        """Quantize and freeze the parts that were so in the saved layer; their weights come later.

        Keras calls this when the parts are built.
        """
        while self._parts_to_quantize:
            path, (mode, config) = self._parts_to_quantize.popitem()
            part = operator.attrgetter(path)(self)
            part.quantize(mode, config=keras.saving.deserialize_keras_object(config))
        for path in self._parts_to_freeze:
            operator.attrgetter(path)(self).trainable = False
        self._parts_to_freeze = ()

    def fix_token_count(self, tokens):
        """From now on, Keras raises an error if an input has another number of tokens."""
        self.input_spec = keras.layers.InputSpec(ndim=self.rank, axes={1: tokens})

    def compute_output_shape(self, x_shape):
        # Most layers keep the shape. Without this method Keras would trace `call` to find out.
        return x_shape

    def split_axes(self):
        """The axis along which `km.training.layout_map` may split each weight over devices.

        Each device then computes some of the heads or hidden units. In `{"fc1/kernel": 1}` a weight
        has its path inside the layer. The name `"qkv/parts"` stands for the kernel `(D, parts, U)`
        in `dense.parts`. Weights that are not named stay whole.
        """
        return {}

    def multiply_adds(self, x_shape):
        """Multiply-adds for one image: products of an input and a weight, or of two inputs."""
        return 0


def quantized_parts(layer, skip=()):
    """`{"fc1": (mode, config)}`: the quantized layers inside a layer, by attribute path.

    `skip` has the attributes that are arguments of the layer, because their own configs say it.
    """
    found = {}
    for name, part in sublayers(layer).items():
        if name in skip:
            continue
        if part.quantization_mode:
            config = keras.saving.serialize_keras_object(part.quantization_config)
            found[name] = (part.quantization_mode, config)
        found |= {f"{name}.{rest}": value for rest, value in quantized_parts(part).items()}
    return found


def frozen_parts(layer, skip=()):
    """`["norm", "mixer.score_kernel"]`: the layers and weights in a layer that do not train.

    Keras saves `trainable` of a layer, but not of the layers that its constructor makes. A layer
    that trains only LoRA matrices is frozen, because Keras saves their sum with the kernel.
    `skip` has the attributes that are arguments of the layer, because their own configs say it.
    """
    found = []
    if isinstance(layer, Layer) and layer.trainable:
        variables = {k: v for k, v in vars(layer).items() if isinstance(v, keras.Variable)}
        found += [name for name, variable in variables.items() if not variable.trainable]
    for name, part in sublayers(layer).items():
        if name in skip or not part.weights:
            continue
        if is_frozen(part):
            found.append(name)
        else:
            found += [f"{name}.{rest}" for rest in frozen_parts(part)]
    return found


def is_frozen(layer):
    """Whether nothing in a layer trains except LoRA matrices."""
    matrices = {id(matrix) for matrix in lora_matrices(layer)}
    others = [weight for weight in layer.weights if id(weight) not in matrices]
    return not layer.trainable or bool(matrices and not any(w.trainable for w in others))


def mixes_tokens(layer):
    """Whether a layer declares that it mixes tokens; any Keras layer may declare it."""
    return "tokens" in getattr(layer, "mixes", ())


def mixes_everything(layer):
    """Whether a layer declares that it mixes tokens and channels, as a block without a branch."""
    return {"tokens", "channels"} <= set(getattr(layer, "mixes", None) or ())
