"""Whether the head of a file fits the model's head."""

import numpy as np

from keras_mixers.arguments import shown

HEADS = ("head", "head_distillation", "pre_logits")


def is_head(role):
    """Whether a weight belongs to the layers that turn features into classes."""
    return role.split(".")[0] in HEADS


def reason_to_skip(context, head):
    """Why the model's head keeps its weights, or None if the file's head is loaded.

    The head is skipped if the file has none, if its number of classes differs, or if only one side
    has `pre_logits`. Any other difference is an error, as it is for the other weights.

    Raises:
        ValueError: if `head` is `"keep"` and the heads differ.
    """
    if head == "skip":
        return "head='skip'"
    reason = difference(context)
    if head == "keep" and "head.kernel" not in context.backbone.roles:
        reason = "the model has no head that reads the features"
    if reason and head == "keep":
        raise ValueError(
            f"`head`='keep' needs a head that fits: {reason}; head='auto' leaves the model's head"
            " unchanged"
        )
    return reason


def difference(context):
    """How the heads of file and model differ, or None if the file's head is to be loaded."""
    roles = context.backbone.roles
    heads = [role for role in ("head", "head_distillation") if f"{role}.kernel" in roles]
    in_model, in_file = "pre_logits.kernel" in roles, context.has_layer("pre_logits")
    if in_model != in_file and (heads or in_model):
        return f"pre_logits is only in the {'model' if in_model else 'file'}"
    for role in heads:
        if not context.has_layer(role):
            return f"the file has no {role}"
        if reason := other_classes(context, role):
            return reason
    return None


def other_classes(context, role):
    """The numbers of classes as text if they are the only difference of two heads, else None."""
    weight = context.backbone.roles[f"{role}.kernel"]
    kernel, bias = context.entry(f"{role}.kernel"), context.entry(f"{role}.bias")
    has_bias = bias is not None or context.is_absent(f"{role}.bias")
    if kernel is None or not has_bias or len(kernel.shape) != 2:
        return None  # because the plan reports missing keys and wrong shapes
    array = np.broadcast_to(np.float32(0), kernel.shape)  # takes no memory
    features, classes = context.rule(weight.role).transform.to_model([array], weight).shape
    if features != weight.shape[0] or classes == weight.shape[1]:
        return None
    if bias is not None and bias.shape != (classes,):
        return None
    return f"{shown(kernel.key)} has {classes} classes, the model has {weight.shape[1]}"
