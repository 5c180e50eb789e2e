"""From the names in a file to a plan: for each weight of the model, what will fill it and how."""

import dataclasses
import itertools

import numpy as np

from keras_mixers import arguments
from keras_mixers.weights import adapt
from keras_mixers.weights.context import Context
from keras_mixers.weights.formats import FORMATS

MOST_NAMED = 5  # of each kind of mismatch, in an error


@dataclasses.dataclass(frozen=True)
class Assignment:
    """One weight of the model, and the file's arrays that make it."""

    weight: object
    entries: list
    transform: object
    change: adapt.Change | None = None


@dataclasses.dataclass
class Plan:
    """What is to be done; nothing is read or changed until it is complete."""

    format: str
    assignments: list = dataclasses.field(default_factory=list)
    adapted: dict = dataclasses.field(default_factory=dict)
    skipped: dict = dataclasses.field(default_factory=dict)
    untouched: dict = dataclasses.field(default_factory=dict)


def recognise(entries, source):
    """The format of a file, by its keys."""
    keys = set(entries)
    for form in FORMATS:
        if form.recognise(keys):
            return form
    known = ", ".join(form.name for form in FORMATS)
    raise ValueError(
        f"`source` must name its weights in a known way ({known}). Received: source='{source}',"
        f" with {len(keys)} keys such as {sorted(keys)[:3]}"
    )


def make_plan(entries, backbone, source, head, adapts, method, file_grid=None):
    """The `Plan` that fills a model from a file's entries.

    Raises:
        ValueError: a weight has no key, a key no weight, or shapes differ; all are named.
    """
    form = recognise(entries, source)
    check_kind(form, backbone)
    named = form.normalise(entries)
    context = Context(backbone, named, form, method or form.positions, adapts, file_grid)
    plan = Plan(form.name)
    why_no_head = skipped_head(context, head)
    used, missing, unfit = set(), {}, []

    for weight in backbone.roles.values():
        if why_no_head and is_head(weight.role):
            plan.untouched[weight.variable.path] = why_no_head
            continue
        keys, transform = form.for_role(weight.role) or ([f"({weight.role})"], None)
        absent = [key for key in keys if key not in named]
        if absent:
            missing[absent[0]] = f"{absent[0]!r} for {weight.variable.path} {weight.shape}"
            continue
        used.update(keys)
        assignment = Assignment(weight, [named[key] for key in keys], transform)
        change, wrong = needed_change(assignment, context)
        if wrong:
            unfit.append(wrong)
        elif change:
            plan.adapted[weight.role] = change.words
        plan.assignments.append(dataclasses.replace(assignment, change=change))

    plan.skipped, extra = unused_keys(context, used, why_no_head)
    for weight in backbone.unmatched:
        plan.untouched[weight.path] = "of a layer that has no place in such files"
    if missing or unfit or extra:
        raise ValueError(mismatch_message(context, missing, unfit, extra, source))
    return plan


def check_kind(form, backbone):
    """Refuse a file for another family of models."""
    kinds = set(backbone.mixers)
    if not kinds <= form.mixers:
        raise ValueError(
            f"`source` must hold weights of a model with these blocks: {', '.join(sorted(kinds))}."
            f" Received: a {form.name} file, whose blocks are {', '.join(sorted(form.mixers))}"
        )


def needed_change(assignment, context):
    """(the `Change` that makes an assignment fit or None; why it cannot be made to fit or None)."""
    weight = assignment.weight
    wanted, found = (
        assignment.transform.shapes(weight),
        [entry.shape for entry in assignment.entries],
    )
    shape = shape_in_our_layout(assignment)
    change = adapt.find_change(weight, shape, context) if shape else None
    if change and (change.exact or context.adapts):
        return change, None
    if wanted == found:
        return None, None
    wrong = next(i for i, shape in enumerate(found) if shape != wanted[i])
    hint = f"; with adapt=True: {change.words}" if change else ""
    return None, (
        f"{assignment.entries[wrong].key!r} has shape {found[wrong]}, {weight.variable.path} needs"
        f" {wanted[wrong]}{hint}"
    )


def shape_in_our_layout(assignment):
    """The shape that one array of the file would have as ours, or None where axes are missing."""
    if len(assignment.entries) > 1 or len(assignment.entries[0].shape) != len(
        assignment.weight.shape
    ):
        return None
    nothing = np.broadcast_to(np.float32(0), assignment.entries[0].shape)
    return assignment.transform.ours([nothing], assignment.weight).shape


def is_head(role):
    """Whether a role is of what turns features into classes."""
    return role.split(".")[0] in ("head", "head_distillation", "pre_logits")


def skipped_head(context, head):
    """Why the model's head is not filled, or None where it is to be.

    A head is left out where the file has none, or one of another number of classes. Any other
    difference is an error, as it is elsewhere.
    """
    if head == "skip":
        return "head='skip'"
    reason = other_head(context)
    if head == "keep" and "head.kernel" not in context.backbone.roles:
        reason = "the model has none that reads the features"
    if reason and head == "keep":
        raise ValueError(
            f"`head`='keep' needs a head that fits: {reason}; head='auto' leaves the model's as it"
            " is"
        )
    return reason


def other_head(context):
    """How the file's head is another than the model's, or None."""
    roles = context.backbone.roles
    heads = [role for role in ("head", "head_distillation") if f"{role}.kernel" in roles]
    mine = "pre_logits.kernel" in roles
    if (heads or mine) and context.has_layer("pre_logits") != mine:
        return "one head reads pre_logits, the other does not"
    for role in heads:
        if not context.has_layer(role):
            return f"the file has no {role}"
        theirs, wanted = context.entry(f"{role}.kernel"), roles[f"{role}.kernel"].shape
        classes = context.entry(f"{role}.bias")
        keys, transform = context.form.for_role(f"{role}.kernel")
        if theirs is None or classes is None or len(classes.shape) != 1:
            continue  # half a head: missing keys and shapes are told as such
        other = transform.theirs(np.broadcast_to(np.float32(0), (wanted[0], *classes.shape)), None)
        if classes.shape[0] != wanted[1] and theirs.shape == other[0].shape:
            return f"{keys[0]!r} is for {classes.shape[0]} classes, the model for {wanted[1]}"
    return None


def unused_keys(context, used, why_no_head):
    """What is left of the file: `{key: reason}` for what may be, and the names that may not."""
    form, ours = context.form, context.backbone.roles
    roles = {key: each.role for each in form.rules for key in each.keys}
    skipped, extra = {}, []
    for key in sorted(context.named.keys() - used):
        reason, role = form.ignorable(key), roles.get(key, "")
        if is_head(role):
            reason = why_no_head if role in ours else f"the model has no {role.split('.')[0]}"
        elif role == "tokens.class" and role not in ours and context.adapts:
            reason = "the model has no class token"
        if reason:
            skipped[context.named[key].key] = reason
        else:
            extra.append(key)
    return skipped, extra


def mismatch_message(context, missing, unfit, extra, source):
    """The message that names everything that does not go together."""
    named = context.named
    lines = [f"`source` does not fit the model, which stays as it was. Received: '{source}'"]
    strangers = [
        f"{named[key].key!r} {named[key].shape}{arguments.nearest(key, missing)}" for key in extra
    ]
    for title, found in (
        ("missing in the file", list(missing.values())),
        ("of another shape", unfit),
        ("without a place in the model", strangers),
    ):
        if found:
            more = [f"and {len(found) - MOST_NAMED} more"] if len(found) > MOST_NAMED else []
            lines += [f"  {title}:", *(f"    {line}" for line in found[:MOST_NAMED] + more)]
    blocks = file_depth(context)
    if blocks != len(context.backbone.mixers):
        lines.append(f"  the file has {blocks} blocks, the model {len(context.backbone.mixers)}")
    return "\n".join(lines)


def file_depth(context):
    """How many blocks a file has, by the names of one of their weights."""
    patterns = [key for each in context.form.rules for key in each.keys if "{i}" in key]
    for pattern in patterns:
        names = (pattern.replace("{i}", str(i)) for i in itertools.count())
        count = sum(1 for _ in itertools.takewhile(context.named.__contains__, names))
        if count:
            return count
    return 0
