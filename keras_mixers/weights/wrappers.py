"""The model in a file: one of several, or one whose keys begin with the names of its wrappers.

Training code wraps a model, and its files show that: `module.` (data-parallel), `_orig_mod.`
(torch.compile), `backbone.`, `visual.trunk.`, or the names of nested dictionaries, `model_ema.`.
"""

import dataclasses
import re

from keras_mixers.arguments import shown
from keras_mixers.weights import heads
from keras_mixers.weights.entries import Entry
from keras_mixers.weights.formats import FORMATS
from keras_mixers.weights.rules import Format, by_name

# torch gives these names to wrappers of a model or of one of its layers. No model has such a name.
TORCH = re.compile(r"(?:^|(?<=\.))_(?:orig_mod|fsdp_wrapped_module|checkpoint_wrapped_module)\.")
LONGEST_PREFIX = 200  # characters
# Words in the prefix of the averaged weights, which training keeps to use them afterwards.
AVERAGED = {"ema", "teacher", "target"}
VISION = {"visual", "vision", "image", "img"}
OTHER = {"text", "txt", "student", "online", "predictor", "decoder", "optimizer"}


@dataclasses.dataclass(frozen=True)
class Part:
    """One model of a file.

    Attributes:
        name: what precedes the names of its weights, such as `"model_ema.module"`, or `""`.
        form: the format of the names.
        named: `{key as the format's rules spell it: Entry}`.
        outside: `{key of the file: reason to skip it}` for the keys that do not begin with `name`.
    """

    name: str
    form: Format
    named: dict[str, Entry]
    outside: dict[str, str]


def find_part(entries, source):
    """The `Part` of a file to load, by the keys.

    The prefix is the shortest text before keys that a format knows. So `load_weights` removes a
    prefix only if the keys have no format without this. Of several models with unlike prefixes, it
    takes averaged weights (`ema`, `teacher`) first, and an image tower before a text tower. A head
    may stand outside the prefix, next to the backbone.

    Raises:
        ValueError: if no format knows a key, or if the prefixes do not show which model to load.
    """
    names = by_name((TORCH.sub("", key), entry) for key, entry in entries.items())
    found = {form.prefix(name) for form in FORMATS for name in names} - {None}
    found = {prefix for prefix in found if len(prefix) <= LONGEST_PREFIX}
    if not found:
        known = ", ".join(form.name for form in FORMATS)
        raise ValueError(
            f"`source` must name its weights as one of the known formats does ({known}). Received:"
            f" source='{source}' with {len(entries)} keys such as {shown(sorted(entries)[:3])}"
        )
    prefix = best_prefix(found, source)
    part = prefix.rstrip(".")
    inside = {n.removeprefix(prefix): e for n, e in names.items() if n.startswith(prefix)}
    rest = {name: names[name] for name in sorted(names) if not name.startswith(prefix)}
    form = next(form for form in FORMATS if form.recognise(inside))
    outside = {entry.key: f"outside of '{part}'" for entry in rest.values()}
    next_to_it = {without_parent(name, prefix): entry for name, entry in rest.items()}
    named = form.normalise(next_to_it | inside)
    head_keys = {key for rule in form.rules if heads.is_head(rule.role) for key in rule.keys}
    named = {n: e for n, e in named.items() if e.key not in outside or n in head_keys}
    return Part(part, form, named, outside)


def best_prefix(prefixes, source):
    """The prefix of the model to load.

    Raises:
        ValueError: if two prefixes are equally good.
    """
    shortest = sorted((p for p in prefixes if prefixes.isdisjoint(parents(p))), key=rank)
    if len(shortest) > 1 and rank(shortest[0]) == rank(shortest[1]):
        raise ValueError(
            "`source` must hold one model, or show by the prefixes of its keys which to load."
            f" Received: source='{source}' with the prefixes"
            f" {', '.join(shown(prefix) for prefix in sorted(shortest)[:5])}; save one of the"
            " models in its own file"
        )
    return shortest[0]


def rank(prefix):
    """Sorts the prefixes of models in a file: the one to load comes first."""
    words = set(re.split(r"[._]", prefix.lower()))
    # timm prefers the name state_dict to the name model.
    return not words & AVERAGED, bool(words & OTHER), not words & VISION, "dict" not in words


def without_parent(name, prefix):
    """A key without the longest parent of `prefix` that it has: head.bias for model.head.bias."""
    return name.removeprefix(next(p for p in reversed(parents(prefix)) if name.startswith(p)))


def parents(prefix):
    """What a prefix begins with, the shortest first: `["", "a."]` for `"a.b."`."""
    ends = (0, *(dot.end() for dot in re.finditer(r"\.", prefix)))
    return [prefix[:end] for end in ends if end < len(prefix)]
