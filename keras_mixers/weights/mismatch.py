"""The differences between a file and a model, and the error message that lists them."""

import dataclasses
import itertools

from keras_mixers import arguments
from keras_mixers.arguments import shown

MOST_LISTED = 5  # lines of each kind in a message


@dataclasses.dataclass
class Problems:
    """Why a file does not fit the model.

    Attributes:
        nameless: lines about weights that have no name in the format.
        missing: `{key: line}` of keys that the file lacks.
        misshapen: lines about arrays of another shape.
        extra: keys that no weight of the model uses.
    """

    nameless: list[str] = dataclasses.field(default_factory=list)
    missing: dict[str, str] = dataclasses.field(default_factory=dict)
    misshapen: list[str] = dataclasses.field(default_factory=list)
    extra: list[str] = dataclasses.field(default_factory=list)


def shape_message(assignment, change):
    """The line of an error for an array of another shape or grid, with the change that fits it."""
    pairs = zip(assignment.entries, assignment.file_shapes, assignment.expected_shapes, strict=True)
    path, differ = assignment.weight.variable.path, [each for each in pairs if each[1] != each[2]]
    if not differ:  # the grids differ and have equally many tokens
        key = shown(assignment.entries[0].key)
        return f"{key} fits {path} only with adapt=True: {change.words}"
    entry, found, expected = differ[0]
    hint = f"; with adapt=True: {change.words}" if change else ""
    return f"{shown(entry.key)} has shape {found}, {path} needs {expected}{hint}"


def mismatch_message(context, problems, source, part):
    """The error message with up to `MOST_LISTED` differences of each kind."""
    file = f"the part '{part}' of '{source}'" if part else f"'{source}'"
    # Only those that are listed, because the search for similar names is slow.
    unknown = [
        f"{shown(context.named[key].key)} {context.named[key].shape}"
        f"{arguments.nearest(key, problems.missing)}"
        for key in problems.extra[:MOST_LISTED]
    ]
    lines = [f"`source` does not fit the model, which is unchanged. Received: {file}"]
    for title, found, count in (
        (f"without a name in {context.form.name} files", problems.nameless, len(problems.nameless)),
        ("missing in the file", list(problems.missing.values()), len(problems.missing)),
        ("of another shape or grid", problems.misshapen, len(problems.misshapen)),
        ("without a place in the model", unknown, len(problems.extra)),
    ):
        if found:
            lines += [f"  {title}:", *(f"    {line}" for line in found[:MOST_LISTED])]
        if count > MOST_LISTED:
            lines.append(f"    and {count - MOST_LISTED} more")
    in_file, in_model = file_depth(context), len(context.backbone.mixers)
    if in_file != in_model:
        lines.append(f"  the file has {in_file} blocks, the model has {in_model}")
    lines += widths(context)
    lines += extra_registers(context)
    return "\n".join(lines)


def widths(context):
    """A line if the tokens of file and model have other widths."""
    width = context.backbone.patch_embed.hidden_dim
    entry = context.entry("blocks.0.norm1.gamma")
    if entry is None or len(entry.shape) != 1 or entry.shape[0] == width:
        return []
    return [f"  the file has hidden_dim={entry.shape[0]}, the model has {width}"]


def extra_registers(context):
    """A line if the file has register tokens and the model has none."""
    entry = context.entry("tokens.registers")
    if entry is None or "tokens.registers" in context.backbone.roles or len(entry.shape) != 3:
        return []
    return [f"  num_registers={entry.shape[1]} gives the model the file's register tokens"]


def file_depth(context):
    """The number of blocks in a file, counted by one weight that each block has."""
    patterns = [key for rule in context.form.rules for key in rule.keys if "{i}" in key]
    for pattern in patterns:
        names = (pattern.replace("{i}", str(i)) for i in itertools.count())
        count = sum(1 for _ in itertools.takewhile(context.named.__contains__, names))
        if count:
            return count
    return 0
