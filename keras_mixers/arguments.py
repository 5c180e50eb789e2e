"""Checks of arguments: each names the argument, what was received and what would do.

A wrong type is a `TypeError`, a wrong value a `ValueError`. Checks return the value in its one
stored form (a plain int, a pair as a tuple), so that a config read back from JSON is equal.
"""

import dataclasses
import difflib
import functools
import math
import numbers
import os
import pathlib
from collections.abc import Iterable

# Far above any published size, far below what would hang a machine before it can complain.
LARGEST_INTEGER = 2**20
MOST_BLOCKS = 1_000


def integer(name, value, minimum=1, maximum=LARGEST_INTEGER):
    """An int in `[minimum, maximum]`; bools, floats and strings are refused."""
    expected = f"an integer from {minimum} to {maximum}"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"`{name}` must be {expected}. Received: {name}={value!r}")
    if not minimum <= value <= maximum:
        raise ValueError(f"`{name}` must be {expected}. Received: {name}={value!r}")
    return int(value)


def integers(name, value, meaning):
    """A tuple of positive ints, one for each word of `meaning`; errors show it whole."""
    words = f"({', '.join(meaning)})"
    if not isinstance(value, (tuple, list)) or len(value) != len(meaning):
        raise ValueError(f"`{name}` must be {words}. Received: {name}={value!r}")
    try:
        return tuple(integer(name, side) for side in value)
    except (TypeError, ValueError) as error:
        expected = f"{words}, each an integer from 1 to {LARGEST_INTEGER}"
        raise type(error)(f"`{name}` must be {expected}. Received: {name}={value!r}") from None


def pair(name, value):
    """A positive int, or a (height, width) pair of them -> `(height, width)`."""
    if not isinstance(value, (tuple, list)):
        return (integer(name, value),) * 2
    return integers(name, value, ("height", "width"))


def real(name, value, minimum, below=math.inf):
    """A finite float in `[minimum, below)`."""
    limit = "" if below == math.inf else f" and below {below}"
    expected = f"a finite number, at least {minimum}{limit}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"`{name}` must be {expected}. Received: {name}={value!r}")
    if not (math.isfinite(value) and minimum <= value < below):
        raise ValueError(f"`{name}` must be {expected}. Received: {name}={value!r}")
    return float(value)


def rate(name, value):
    """A probability of dropping, in `[0, 1)`."""
    return real(name, value, 0.0, below=1.0)


def flag(name, value):
    """True or False, and nothing that merely looks like it."""
    if not isinstance(value, bool):
        raise TypeError(f"`{name}` must be True or False. Received: {name}={value!r}")
    return value


def choice(name, value, choices):
    """One of `choices`; the message offers the nearest."""
    choices = tuple(choices)
    if value is None or isinstance(value, str):
        if value in choices:
            return value
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(repr, choices))}."
            f" Received: {name}={value!r}{nearest(value, choices)}"
        )
    raise TypeError(
        f"`{name}` must be one of {', '.join(map(repr, choices))}. Received: {name}={value!r}"
    )


def nearest(value, choices):
    """The end of a message: the choices spelt most like `value`, or nothing."""
    names = {choice.lower(): choice for choice in choices if choice}
    near = [names[name] for name in difflib.get_close_matches(str(value).lower(), names, n=3)]
    return f". Did you mean {' or '.join(map(repr, near))}?" if near else ""


def divides(name, value, whole_name, whole):
    """Refuse a `value` that does not divide `whole` evenly, naming both."""
    if whole % value:
        raise ValueError(
            f"`{name}` must divide `{whole_name}`. Received: {name}={value!r} and"
            f" {whole_name}={whole!r}; the nearest that do: {nearest_divisors(value, whole)}"
        )


def nearest_divisors(value, whole):
    """The three divisors of `whole` nearest to `value`, as text."""
    divisors = [d for d in range(1, whole + 1) if whole % d == 0]
    return ", ".join(map(str, sorted(sorted(divisors, key=lambda d: abs(d - value))[:3])))


def class_names(names, classes):
    """The names as a list, one for each class; `None` stays."""
    if names is None:
        return None
    expected = f"`class_names` must be {classes} strings, one for each class"
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TypeError(f"{expected}. Received: class_names={names!r}")
    names = list(names)
    if len(names) != classes or not all(isinstance(name, str) for name in names):
        some = f"{names[:3]!r}{' ...' if len(names) > 3 else ''}"
        raise ValueError(f"{expected}. Received: {len(names)}: {some}")
    return names


def file_path(path, suffix, reason=""):
    """A `pathlib.Path` of a file to write, in a folder that exists."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"`path` must be a string or a path. Received: path={path!r}")
    path = pathlib.Path(path)
    if path.suffix.lower() != suffix or path.is_dir():
        a_folder = ", a folder" if path.is_dir() else ""
        raise ValueError(
            f"`path` must end in {suffix!r}{reason}. Received: path='{path}'{a_folder}"
        )
    if not path.parent.is_dir():
        raise ValueError(f"`path` must lie in a folder that exists. Received: path='{path}'")
    return path


def known_tokens(layer, tokens):
    """Refuse an input whose number of tokens is not known when the weights are made."""
    if tokens is None:
        raise ValueError(
            f"{layer} has one weight for each token, so their number must be known. Received an"
            " input of shape (N, None, D); give the model a fixed input_shape"
        )


def checked(check, default=dataclasses.MISSING, *, default_factory=dataclasses.MISSING):
    """A dataclass field whose value becomes `check(name, value)`.

    The check skips None if None is the default: the argument is optional.
    """
    metadata = {"check": check}
    return dataclasses.field(default=default, default_factory=default_factory, metadata=metadata)


class CheckedDataclass:
    """Base of frozen dataclasses whose fields are declared by `checked(check, default)`."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None or field.default is not None:
                value = field.metadata["check"](field.name, value)
                object.__setattr__(self, field.name, value)  # because the dataclass is frozen


def one_of(*choices):
    """A check that the value is one of `choices`."""
    return functools.partial(choice, choices=choices)


count = functools.partial(integer, minimum=0)
non_negative = functools.partial(real, minimum=0.0)
