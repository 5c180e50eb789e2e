"""The roles of the weights in Keras's own files, `.keras` and `.weights.h5`.

Keras names a weight by its place: `layers/residual_2/mixer/qkv/vars/0` is the first weight of the
query, key and value layer of the third `Residual`. The model to fill shows which role each place
has. Nothing of the file is run.
"""

import dataclasses
import re

from keras_mixers.graph import saved_variables
from keras_mixers.weights import heads
from keras_mixers.weights.entries import FLOATS
from keras_mixers.weights.roles import WeightRole
from keras_mixers.weights.rules import Format, Rule, by_name, role_pattern
from keras_mixers.weights.transforms import same

DENSE = re.compile(r"(?:.+/)?layers/dense(?:_\d+)?/vars/([01])")
# Layers that users put after the features.
HEAD = re.compile(r"(?:.+/)?layers/(?:dense|batch_normalization)(?:_\d+)?/vars/\d+")
DENSE_WEIGHTS = {"0": "kernel", "1": "bias"}
OPTIMIZER = "optimizer/"
SEED_STATE = "/vars/seed_generator"  # that `SavesSeedState` writes


@dataclasses.dataclass(frozen=True)
class Places:
    """Where Keras keeps the weights, in the model and in the file.

    Attributes:
        below: `{path below the layers of the model's backbone: role}`.
        heads: `{path: role}` of the model's heads, if model and file have Dense layers at the same
            places, else empty.
        own: `{path: variable}` of variables without a role that the file has in the same shape.
        root: the path of the layers of the file's backbone, such as `layers/functional/layers/`.
        names: `{path of a layer in the file: its name}`.
    """

    below: dict
    heads: dict
    own: dict
    root: str
    names: dict

    def role(self, path):
        """The role of a path in the file, or the path itself if the model has no such role."""
        dense = DENSE.fullmatch(path)
        if path in self.own:
            return path
        if dense and self.names.get(layer_of(path)) in heads.HEADS:
            return f"{self.names[layer_of(path)]}.{DENSE_WEIGHTS[dense[1]]}"
        if dense:
            return self.heads.get(path, path)
        below = path.removeprefix(self.root) if path.startswith(self.root) else None
        # Without prefix tokens in the model, the file's first ones are taken for its class token.
        if below == "prefix_tokens/vars/0" and below not in self.below:
            return "tokens.class"
        return self.below.get(below, path)

    def reason_to_skip(self, path):
        """The reason to skip a path of the file that has no role, or None; None for a role."""
        if "/" not in path:
            return None
        if path.startswith(OPTIMIZER):
            return "optimizer state"
        if path.endswith(SEED_STATE):
            return "state of dropout's random numbers"
        if HEAD.fullmatch(path) or not path.startswith(self.root):
            return "a layer that the model does not have in this shape"
        return None


def recognise(kind, entries, names, model, backbone, head, adapts):
    """(Format, Backbone) that plan the load of a Keras file.

    Args:
        kind: `"keras"` or `"h5"`.
        entries: `{path: Entry}` of the file.
        names: `{path of a layer in the file: its name}`.
        model: the model to fill.
        backbone: its `Backbone`.
        head: as in `load_weights`.
        adapts: the argument `adapt` of `load_weights`.

    Returns:
        The `Format`, and the backbone with more roles. The role of a variable that has none in
        published files, such as a weight of a user's layer or a slot of the optimizer, is its path.

    Raises:
        ValueError: if `head` is `"keep"` and a Dense layer of the user differs.
    """
    places = find_places(entries, names, model, backbone, head, adapts)
    own = {path: WeightRole(path, variable, None) for path, variable in places.own.items()}
    taken = {id(weight.variable) for weight in own.values()}
    backbone = dataclasses.replace(
        backbone,
        roles=backbone.roles | own,
        unmatched=[variable for variable in backbone.unmatched if id(variable) not in taken],
    )
    patterns = {role_pattern(role)[0] for role in backbone.roles} | {"tokens.class"}
    patterns |= {f"{role}.{weight}" for role in heads.HEADS for weight in DENSE_WEIGHTS.values()}
    form = Format(
        "Keras (.keras)" if kind == "keras" else "Keras (.weights.h5)",
        frozenset(backbone.mixers),
        tuple(Rule(pattern, (pattern,), same) for pattern in sorted(patterns)),
        mark="",
        normalise=lambda found: by_name((places.role(p), entry) for p, entry in found.items()),
        ignorable=places.reason_to_skip,
        no_role="the file has no such layer of this shape",
    )
    return form, backbone


def find_places(entries, names, model, backbone, head, adapts):
    """The `Places` of a model and a file; arguments as in `recognise`."""
    variables, names_in_model = saved_variables(model)
    role_of = {id(weight.variable): role for role, weight in backbone.roles.items()}
    with_role = {path: role_of[id(v)] for path, v in variables.items() if id(v) in role_of}
    stem = next(path for path, role in with_role.items() if role == "patch_embed.kernel")
    end = "/".join(stem.split("/")[-4:])  # such as patch_embed/projection/vars/0
    roots = [path.removesuffix(end) for path in entries if path.endswith(end)]
    dense = [{path for path in side if DENSE.fullmatch(path)} for side in (variables, entries)]

    own, layers_of_file = {}, by_layer(entries)
    # Sorted, because processes that share a model must set its weights in one order.
    for layer, members in by_layer(sorted(variables.keys() - with_role.keys())).items():
        is_head = any(DENSE.fullmatch(path) for path in members)
        # The optimizer's state belongs to the weights of the file without any change.
        unwanted = head == "skip" and (is_head or layer == OPTIMIZER)
        unwanted |= adapts and layer == OPTIMIZER
        # A head's name shows that the file's layer is not the user's layer at the same place.
        is_other = names.get(layer) in heads.HEADS and names[layer] != names_in_model.get(layer)
        fits = layers_of_file.get(layer) == members and all(
            has_form(variables[path], entries[path]) for path in members
        )
        if fits and not is_other and not unwanted:
            own |= {path: variables[path] for path in sorted(members)}
        elif is_head and head == "keep":
            raise ValueError(
                f"`head`='keep' needs a head that fits. Received: a file in which {layer!r} is"
                " missing or has other shapes; head='auto' leaves this layer unchanged"
            )
    return Places(
        below={path.removeprefix(stem.removesuffix(end)): r for path, r in with_role.items()},
        heads={path: role for path, role in with_role.items() if dense[0] == dense[1]},
        own=own,
        root=roots[0] if len(roots) == 1 else "layers/",
        names=names,
    )


def by_layer(paths):
    """`{layer: set of its paths}`; all of the optimizer's paths belong to one layer."""
    found = {}
    for path in paths:
        found.setdefault(layer_of(path), set()).add(path)
    return found


def layer_of(path):
    """The path of the layer that has a weight."""
    return OPTIMIZER if path.startswith(OPTIMIZER) else path.rpartition("vars/")[0].rstrip("/")


def has_form(variable, entry):
    """Whether an array of the file has a variable's shape and a dtype that can fill it."""
    same_dtype = entry.dtype in FLOATS if is_float(variable) else entry.dtype == variable.dtype
    return same_dtype and entry.shape == tuple(variable.shape)


def is_float(variable):
    """Whether a variable has a float dtype."""
    return "float" in str(variable.dtype)
