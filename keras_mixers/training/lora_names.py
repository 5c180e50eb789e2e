"""Names of the weights in the file of a LoRA run, which fit the same backbone in any model."""

import hashlib

import keras
import numpy as np
from keras import ops

from keras_mixers.graph import all_layers, lora_layers, saved_variables
from keras_mixers.training.freezing import HEAD
from keras_mixers.weights.roles import index_weights, named_weights


class Names:
    """The weights and layers of a model by names that do not depend on a model around it.

    The name is the role of a weight, such as `blocks.0.attention.qkv.kernel`, or the path in
    Keras's files for a weight of a user's layer.

    Attributes:
        variables: `{name: variable}`.
        layers: `{name of the kernel: layer}` for the layers that can have LoRA matrices.
        updated: those of them that have LoRA matrices.
    """

    def __init__(self, model):
        self.model, roles = model, index_weights(model).roles
        of_user, _ = saved_variables(model)
        self.roles = {role: weight.variable for role, weight in roles.items()}
        taken = {id(variable) for variable in self.roles.values()}
        others = {path: each for path, each in of_user.items() if id(each) not in taken}
        self.variables = {**others, **self.roles}
        kernels = {
            id(named_weights(layer)["kernel"]): layer
            for layer in all_layers(model)
            if hasattr(layer, "enable_lora") and "kernel" in named_weights(layer)
        }
        self.layers = {
            name: kernels[id(variable)]
            for name, variable in self.variables.items()
            if id(variable) in kernels
        }
        enabled = {id(layer) for layer in lora_layers(model)}
        self.updated = {name: each for name, each in self.layers.items() if id(each) in enabled}

    def trained(self):
        """`{name: variable}`: the head and what trains, without LoRA matrices.

        A BatchNormalization that trains has moving averages too.
        """
        norms = [
            layer
            for layer in all_layers(self.model)
            if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
        ]
        changing = {id(variable) for norm in norms for variable in norm.weights}
        changing |= {id(variable) for variable in self.model.trainable_variables}
        return {
            name: variable
            for name, variable in self.variables.items()
            if id(variable) in changing or is_head(name)
        }

    def without_head(self, named):
        """The items of `{name: value}` that belong to a backbone."""
        return {
            name: value for name, value in named.items() if name in self.roles and not is_head(name)
        }

    def digest(self, names):
        """The digest of the kernels with these names, as text; the model may lack some of them."""
        digest = hashlib.blake2b(digest_size=16)
        for name in sorted(self.variables.keys() & names):
            digest.update(array_of(self.variables[name]).astype("float32").tobytes())
        return digest.hexdigest()


def is_head(name):
    """Whether a weight with this role belongs to the head."""
    return name.split(".")[0] in HEAD


def array_of(variable):
    """The value of a variable as a NumPy array."""
    return np.asarray(ops.convert_to_numpy(variable.value))
