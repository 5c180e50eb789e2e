"""From the names in a file to a plan: for each weight of the model, what will fill it and how."""

import dataclasses
import itertools

import numpy as np

from keras_mixers import arguments
from keras_mixers.weights import adapt
from keras_mixers.weights.formats import FORMATS

MOST_NAMED = 5  # of each kind of misfit, in an error


@dataclasses.dataclass(frozen=True)
class Fill:
    """One weight of the model, and the file's arrays that make it."""

    slot: object
    entries: list
    transform: object
    change: adapt.Change | None = None


@dataclasses.dataclass
class Plan:
    """What is to be done; nothing is read or changed until it is complete."""

    format: str
    fills: list = dataclasses.field(default_factory=list)
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


def make_plan(entries, backbone, source, head, adapts, method):
    """The `Plan` that fills a model from a file's entries.

    Raises:
        ValueError: a weight has no key, a key no weight, or shapes differ; all are named.
    """
    form = recognise(entries, source)
    check_kind(form, backbone)
    named = form.normalise(entries)
    hidden = set(entries) - {entry.key for entry in named.values()}
    if hidden:
        raise ValueError(
            f"`source` must name each weight once. Received: source='{source}', in which"
            f" {sorted(hidden)[0]!r} and another key mean the same"
        )
    context = adapt.Context(backbone, named, form, method or form.positions)
    plan = Plan(form.name)
    why_no_head = skipped_head(context, head)
    used, missing, unfit = set(), {}, []

    for slot in backbone.slots.values():
        if why_no_head and is_head(slot.role):
            plan.untouched[slot.variable.path] = why_no_head
            continue
        keys, transform = form.for_slot(slot.role) or ([f"({slot.role})"], None)
        absent = [key for key in keys if key not in named]
        if absent:
            missing[absent[0]] = f"{absent[0]!r} for {slot.variable.path} {slot.shape}"
            continue
        used.update(keys)
        fill = Fill(slot, [named[key] for key in keys], transform)
        try:
            plan.fills.append(fitted(fill, context, plan, adapts))
        except ValueError as error:
            unfit.append(str(error))

    extra = leftovers(context, used, plan, why_no_head, adapts)
    for weight in backbone.others:
        plan.untouched[weight.path] = "of a layer that the file knows nothing of"
    if missing or unfit or extra:
        raise ValueError(misfit(context, missing, unfit, extra, source))
    return plan


def check_kind(form, backbone):
    """Refuse a file for another family of models."""
    kinds = set(backbone.mixers)
    if not kinds <= form.mixers:
        raise ValueError(
            f"`source` must hold weights of a model with these blocks: {', '.join(sorted(kinds))}."
            f" Received: a {form.name} file, whose blocks are {', '.join(sorted(form.mixers))}"
        )


def fitted(fill, context, plan, adapts):
    """The fill, with the change that makes it fit; a `ValueError` says why it cannot."""
    slot = fill.slot
    wanted, found = fill.transform.shapes(slot), [entry.shape for entry in fill.entries]
    change = None
    if wanted != found:
        shape = shape_in_our_layout(fill)
        change = adapt.change(slot, shape, context) if shape else None
        if not change or not (adapts or change.exact):
            wrong = next(i for i, shape in enumerate(found) if shape != wanted[i])
            hint = f"; adapt=True would take it {change.what}" if change else ""
            raise ValueError(
                f"{fill.entries[wrong].key!r} has shape {found[wrong]}, {slot.variable.path} needs"
                f" {wanted[wrong]}{hint}"
            )
    elif slot.role == "tokens.class" and context.folds:
        position = context.entry("positions")
        change = adapt.Change(
            "its position added", lambda token: token + position.read()[:, :1], exact=True
        )
    if change:
        plan.adapted[slot.role] = change.what
    return dataclasses.replace(fill, change=change)


def shape_in_our_layout(fill):
    """The shape that one array of the file would have as ours, or None where axes are missing."""
    if len(fill.entries) > 1 or len(fill.entries[0].shape) != len(fill.slot.shape):
        return None
    nothing = np.broadcast_to(np.float32(0), fill.entries[0].shape)
    return fill.transform.ours([nothing], fill.slot).shape


def is_head(role):
    """Whether a role is of what turns features into classes."""
    return role.split(".")[0] in ("head", "head_distillation", "pre_logits")


def skipped_head(context, head):
    """Why the model's head is not filled, or None where it is."""
    if head == "skip":
        return "head='skip'"
    slots = [slot for slot in context.backbone.slots.values() if is_head(slot.role)]
    reason = None
    mine = any(slot.role.startswith("pre_logits") for slot in slots)
    if slots and mine != bool(context.entry("pre_logits.kernel")):
        reason = "one head reads pre_logits, the other does not"
    for slot in slots:
        keys, transform = context.form.for_slot(slot.role) or ((), None)
        found = [context.named[key].shape for key in keys if key in context.named]
        if not reason and (not found or found != transform.shapes(slot)):
            there = f"shape {found[0]}" if found else "none"
            reason = f"the file's {slot.role} has {there}, the model's {slot.shape}"
    if reason and head == "keep":
        raise ValueError(
            f"`head`='keep' needs a head that fits: {reason}; head='auto' leaves the model's as it"
            " is"
        )
    return reason


def leftovers(context, used, plan, why_no_head, adapts):
    """The keys that should have filled something; the others go to the plan with a reason."""
    form, slots = context.form, context.backbone.slots
    roles = {key: each.role for each in form.rules for key in each.keys}
    extra = []
    for key in sorted(context.named.keys() - used):
        reason, role = form.surplus(key), roles.get(key, "")
        if is_head(role):
            reason = why_no_head or f"the model has no {role.split('.')[0]}"
        elif role == "tokens.class" and role not in slots and adapts:
            reason = "the model has no class token"
        if reason:
            plan.skipped[context.named[key].key] = reason
        else:
            extra.append(key)
    return extra


def misfit(context, missing, unfit, extra, source):
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
