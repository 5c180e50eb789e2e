"""Plan a load from the keys of a file: which arrays fill which weight of the model, and how."""

import dataclasses

import numpy as np

from keras_mixers.arguments import shown
from keras_mixers.graph import lora_matrices
from keras_mixers.weights import heads
from keras_mixers.weights.adapt import Change, can_change, find_change
from keras_mixers.weights.context import Context
from keras_mixers.weights.entries import Entry
from keras_mixers.weights.mismatch import Problems, mismatch_message, shape_message
from keras_mixers.weights.roles import WeightRole
from keras_mixers.weights.rules import key_pattern, role_pattern
from keras_mixers.weights.transforms import Transform
from keras_mixers.weights.wrappers import Part, find_part


@dataclasses.dataclass(frozen=True)
class Assignment:
    """One weight of the model and the arrays of the file that fill it.

    Attributes:
        weight: the weight.
        keys: the names of the arrays, as the format's rules spell them.
        entries: the arrays, in the order of `keys`.
        transform: how to bring the arrays into the weight's layout.
        change: what makes the result fit the weight's shape, or None if it fits as it is.
    """

    weight: WeightRole
    keys: tuple[str, ...]
    entries: list[Entry]
    transform: Transform
    change: Change | None = None

    @property
    def file_shapes(self):
        return [entry.shape for entry in self.entries]

    @property
    def expected_shapes(self):
        return self.transform.expected_shapes(self.weight)


@dataclasses.dataclass
class Plan:
    """What a load does. No array is read and no weight is set before the plan is complete.

    Attributes:
        format: the name of the file's format.
        part: as in `LoadReport`.
        assignments: one for each weight to set.
        zeros: arrays that the model lacks, which is right only if they are zero.
        adapted, skipped, untouched: as in `LoadReport`.
    """

    format: str
    part: str
    assignments: list[Assignment] = dataclasses.field(default_factory=list)
    zeros: list[Entry] = dataclasses.field(default_factory=list)
    adapted: dict[str, str] = dataclasses.field(default_factory=dict)
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)
    untouched: dict[str, str] = dataclasses.field(default_factory=dict)


def make_plan(entries, backbone, source, head, adapts, method, file_grid=None, form=None):
    """The `Plan` that fills a model from a file's entries.

    Args:
        entries: `{key: Entry}` of the file.
        backbone: the `Backbone` of the model.
        source: the file's path, for errors.
        head: as in `load_weights`.
        adapts: the argument `adapt` of `load_weights`.
        method: the argument `position_method` of `load_weights`.
        file_grid: (rows, columns) of the patches if the file states them, else None.
        form: the `Format` of the file; None to recognise it by the keys.

    Raises:
        ValueError: if a weight has no key, a key has no weight or shapes differ. The message names
            up to `MOST_LISTED` of each kind.
    """
    part = Part("", form, form.normalise(entries), {}) if form else find_part(entries, source)
    form, named = part.form, part.named
    check_blocks(form, backbone)
    check_sizes(form, named)
    context = Context(backbone, named, form, method or form.positions, adapts, file_grid)
    head_reason = heads.reason_to_skip(context, head)
    plan, problems = Plan(form.name, part.name), Problems()

    for weight in backbone.roles.values():
        if head_reason and heads.is_head(weight.role):
            plan.untouched[weight.variable.path] = head_reason
        else:
            assign(weight, context, plan, problems)
    for variable in backbone.unmatched:
        plan.untouched[variable.path] = form.no_role
    for layer in backbone.lora.values():
        for matrix in lora_matrices(layer):
            plan.untouched[matrix.path] = "a LoRA matrix, which stays as it is"
    add_unused(context, head_reason, plan, problems)
    read = {entry.key for assignment in plan.assignments for entry in assignment.entries}
    outside = {key: reason for key, reason in part.outside.items() if key not in read}
    plan.skipped = outside | plan.skipped

    if any(vars(problems).values()):
        raise ValueError(mismatch_message(context, problems, source, part.name))
    return plan


def assign(weight, context, plan, problems):
    """Add the assignment of a weight to `plan`, and what does not fit to `problems`."""
    path, rule = weight.variable.path, context.rule(weight.role)
    if rule is None:
        problems.nameless.append(f"{path} {weight.shape}")
        return
    absent = [key for key in rule.keys if key not in context.named]
    if absent:
        problems.missing[absent[0]] = f"{shown(absent[0])} for {path} {weight.shape}"
        return
    entries = [context.named[key] for key in rule.keys]
    assignment = Assignment(weight, rule.keys, entries, rule.transform)
    if rule.words:
        plan.adapted[weight.role] = rule.words
    change = possible_change(assignment, context)
    if change and (change.exact or context.adapts):
        assignment = dataclasses.replace(assignment, change=change)
        plan.adapted[weight.role] = change.words
    elif change or assignment.file_shapes != assignment.expected_shapes:
        problems.misshapen.append(shape_message(assignment, change))
    plan.assignments.append(assignment)


def check_sizes(form, named):
    """Raise ValueError if an array that the format knows is empty."""
    for key, entry in named.items():
        if 0 in entry.shape and not form.ignorable(key):
            raise ValueError(
                f"{shown(entry.key)} must not be empty. Received: an array of shape {entry.shape}"
            )


def check_blocks(form, backbone):
    """Raise ValueError if the file is for another family of models."""
    kinds = set(backbone.mixers)
    if not kinds <= form.mixers:
        raise ValueError(
            f"`source` must hold weights of a model with these blocks: {', '.join(sorted(kinds))}."
            f" Received: a {form.name} file, whose blocks are {', '.join(sorted(form.mixers))}"
        )


def possible_change(assignment, context):
    """The `Change` that would make an assignment fit, or None if there is none."""
    weight, shapes = assignment.weight, assignment.file_shapes
    if not can_change(weight.role) or len(shapes[0]) != len(weight.shape):
        return None  # because only an array with all its axes can be changed
    array = np.broadcast_to(np.float32(0), shapes[0])  # takes no memory
    return find_change(weight, assignment.transform.to_model([array], weight).shape, context)


def add_unused(context, head_reason, plan, problems):
    """Add the keys that no assignment uses to `plan`, and those without a reason to `problems`."""
    form, in_model = context.form, context.backbone.roles
    roles = {key: rule.role for rule in form.rules for key in rule.keys}
    with_bias = {layer_of(role) for role in in_model if role.endswith("bias")}
    extra_tokens = context.prefix_slices.keys() - in_model
    used = {key for assignment in plan.assignments for key in assignment.keys}
    for key in sorted(context.named.keys() - used):
        entry, reason = context.named[key], form.ignorable(key)
        role = roles.get(key) or roles.get(key_pattern(key), "")
        if heads.is_head(role):
            reason = head_reason if role in in_model else f"the model has no {role.split('.')[0]}"
        elif role == "tokens.class" and context.adapts and role in extra_tokens:
            reason = "the model has no class token"
        elif role.startswith("pool.") and not any(other.startswith("pool.") for other in in_model):
            reason = "the model has no attention pooling"
        elif not reason and role in form.optional and layer_of(role) not in with_bias:
            plan.zeros.append(entry)
            reason = "zero, and the model has no such bias"
        if reason:
            plan.skipped[entry.key] = reason
        else:
            problems.extra.append(key)


def layer_of(role):
    """The layer of a weight, with `{i}` for the number of the block."""
    return role_pattern(role)[0].rpartition(".")[0]
