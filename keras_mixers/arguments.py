"""Checks of arguments. Each error names the argument, what is valid, and what was received.

A number, flag or string of a wrong type is a `TypeError`, a wrong value a `ValueError`. A check
returns the value in one normal form, such as a plain int or a pair as a tuple. A config that was
saved as JSON and loaded again therefore equals the original.
"""

import dataclasses
import difflib
import functools
import math
import numbers
import os
import pathlib
from collections.abc import Iterable
from typing import Any

# Far above any published size, and far below a size that exhausts a machine before any error.
LARGEST_INTEGER = 2**20
MOST_BLOCKS = 1_000


def integer(name, value, minimum=1, maximum=LARGEST_INTEGER):
    """Check an int in `[minimum, maximum]`; a bool, a float or a string is a TypeError."""
    expected = f"an integer from {minimum} to {maximum}"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"`{name}` must be {expected}. Received: {name}={value!r}")
    if not minimum <= value <= maximum:
        raise ValueError(f"`{name}` must be {expected}. Received: {name}={value!r}")
    return int(value)


def integers(name, value, meaning):
    """Check positive ints, one for each word of `meaning`, and return them as a tuple.

    Anything except a tuple or list of that length is a ValueError.
    """
    words = f"({', '.join(meaning)})"
    if not isinstance(value, (tuple, list)) or len(value) != len(meaning):
        raise ValueError(f"`{name}` must be {words}. Received: {name}={value!r}")
    try:
        return tuple(integer(name, side) for side in value)
    except (TypeError, ValueError) as error:
        expected = f"{words}, each an integer from 1 to {LARGEST_INTEGER}"
        raise type(error)(f"`{name}` must be {expected}. Received: {name}={value!r}") from None


def pair(name, value):
    """Check a positive int or a (height, width) pair of them, and return `(height, width)`."""
    if not isinstance(value, (tuple, list)):
        return (integer(name, value),) * 2
    return integers(name, value, ("height", "width"))


def real(name, value, minimum, below=math.inf):
    """Check a finite number in `[minimum, below)`, and return it as a float."""
    limit = "" if below == math.inf else f" and below {below}"
    expected = f"a finite number, at least {minimum}{limit}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"`{name}` must be {expected}. Received: {name}={value!r}")
    if not (math.isfinite(value) and minimum <= value < below):
        raise ValueError(f"`{name}` must be {expected}. Received: {name}={value!r}")
    return float(value)


def rate(name, value):
    """Check a rate in `[0, 1)`, such as the fraction that dropout drops."""
    return real(name, value, 0.0, below=1.0)


def flag(name, value):
    """Check True or False; 0 and 1 are TypeErrors."""
    if not isinstance(value, bool):
        raise TypeError(f"`{name}` must be True or False. Received: {name}={value!r}")
    return value


def choice(name, value, choices):
    """Check one of `choices`, which are strings or None; an error suggests similar ones."""
    choices = tuple(choices)
    message = f"`{name}` must be one of {', '.join(map(repr, choices))}. Received: {name}={value!r}"
    if value is not None and not isinstance(value, str):
        raise TypeError(message)
    if value not in choices:
        raise ValueError(f"{message}{nearest(value, choices)}")
    return value


def nearest(value, choices):
    """The end of an error message: the choices that are spelt similarly to `value`, or `""`."""
    names = {choice.lower(): choice for choice in choices if choice}
    near = [names[name] for name in difflib.get_close_matches(str(value).lower(), names, n=3)]
    return f". Did you mean {' or '.join(map(repr, near))}?" if near else ""


def divides(name, value, whole_name, whole):
    """Raise a ValueError if `value` does not divide `whole`."""
    if whole % value:
        raise ValueError(
            f"`{name}` must divide `{whole_name}`. Received: {name}={value!r} and"
            f" {whole_name}={whole!r}; the nearest divisors: {nearest_divisors(value, whole)}"
        )


def nearest_divisors(value, whole):
    """The three divisors of `whole` nearest to `value`, as text."""
    divisors = [d for d in range(1, whole + 1) if whole % d == 0]
    return ", ".join(map(str, sorted(sorted(divisors, key=lambda d: abs(d - value))[:3])))


def class_names(names, classes):
    """Check names, one for each class, and return them as a list; None is returned as it is."""
    if names is None:
        return None
    expected = f"`class_names` must be {classes} strings, one for each class"
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise TypeError(f"{expected}. Received: class_names={names!r}")
    names = list(names)
    if len(names) != classes or not all(isinstance(name, str) for name in names):
        first = f"{names[:3]!r}{' ...' if len(names) > 3 else ''}"
        raise ValueError(f"{expected}. Received: {len(names)}: {first}")
    return names


def output_path(path):
    """Check the path to write to, in a folder that exists, and return a `pathlib.Path`."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"`path` must be a string or a path. Received: path={path!r}")
    path = pathlib.Path(path)
    if not path.parent.is_dir():
        raise ValueError(f"`path` must lie in a folder that exists. Received: path='{path}'")
    return path


def file_path(path, suffix, reason=""):
    """Check the path of a file to write, in a folder that exists, and return a `pathlib.Path`."""
    path = output_path(path)
    if path.suffix.lower() != suffix:
        raise ValueError(f"`path` must end in {suffix!r}{reason}. Received: path='{path}'")
    if path.is_dir():
        raise ValueError(f"`path` must name a file, not a folder. Received: path='{path}'")
    return path


def require_token_count(layer, tokens):
    """Raise a ValueError if the number of tokens is unknown when a layer creates its weights."""
    if tokens is None:
        raise ValueError(
            f"{layer} has one weight for each token, so the number of tokens must be known."
            " Received: an input of shape (N, None, D); give the model a fixed input_shape"
        )


def checked(check, default=dataclasses.MISSING, *, default_factory=dataclasses.MISSING) -> Any:
    """A field of a `CheckedDataclass`, whose value becomes `check(name, value)`.

    If the default is None, the argument is optional, and None is not checked.
    """
    metadata = {"check": check}
    return dataclasses.field(default=default, default_factory=default_factory, metadata=metadata)


class CheckedDataclass:
    """Base of frozen dataclasses whose fields are declared by `checked(check, default)`."""

    def __post_init__(self) -> None:
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
