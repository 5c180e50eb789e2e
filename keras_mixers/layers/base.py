"""The base of every layer here: a config that is the constructor's signature."""

import keras

from keras_mixers.serialization import ConfigFromSignature


class SavesSeedState:
    """Saves where a layer's random draws stand, which Keras's files leave out.

    Training that is read back then goes on with the draws it would have had.
    """

    def save_own_variables(self, store):
        super().save_own_variables(store)
        if hasattr(self, "seed_generator"):
            store["seed_generator"] = keras.ops.convert_to_numpy(self.seed_generator.state)

    def load_own_variables(self, store):
        own = dict(store)
        state = own.pop("seed_generator", None)
        super().load_own_variables(own)
        if state is not None and hasattr(self, "seed_generator"):
            self.seed_generator.state.assign(state)


class Layer(ConfigFromSignature, keras.layers.Layer):
    """A Keras layer whose config is read off its constructor's signature.

    The rule a subclass keeps: one attribute for each constructor argument, of the same name and
    meaning. `get_config` and `from_config` follow from it, so no key can be missing or surplus.
    """

    rank = None  # how many axes the input has, where it matters: 3 for tokens, 4 for a grid
    # How tools that read models know a mixer: what it mixes, of "tokens" and "channels", and the
    # name of its weights' role in a checkpoint. A mixer of a user's own sets them too.
    mixes = frozenset()
    role = None

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        if self.rank:
            self.input_spec = keras.layers.InputSpec(ndim=self.rank)

    def hold_tokens(self, tokens):
        """From here on refuse an input of another number of tokens."""
        self.input_spec = keras.layers.InputSpec(ndim=self.rank, axes={1: tokens})

    def compute_output_shape(self, x_shape):
        # Most layers keep the stream's shape; said here, Keras need not trace `call` to learn it.
        return x_shape

    def multiply_adds(self, x_shape):
        """How many products of an input and a weight, or of two inputs, one image takes."""
        return 0


def mixes_tokens(layer):
    """Whether a layer says of itself that it mixes tokens."""
    return "tokens" in getattr(layer, "mixes", ())
