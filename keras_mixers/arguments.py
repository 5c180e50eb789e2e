"""Checks of arguments. Each error names the argument, what is valid, and what was received.

A number, flag or string of a wrong type is a `TypeError`, a wrong value a `ValueError`. A check
returns the value in one normal form, such as a plain int or a pair as a tuple. A config that was
saved as JSON and loaded again therefore equals the original.
"""

import dataclasses
import difflib
import functools
import itertools
import numbers
import os
import pathlib
import reprlib
import sys
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

# Far above any published size, and far below a size that exhausts a machine before any error.
LARGEST_INTEGER = 2**20
MOST_BLOCKS = 1_000
LARGEST_REAL = 3.4e38  # larger numbers become infinity in float32
LONGEST_TEXT = 200  # characters of a value in an error message
MOST_NAMES = 30  # names that an error message lists
LONGEST_PATH = 2**12  # characters; systems refuse longer paths
SHORT = reprlib.Repr()
SHORT.maxlist = SHORT.maxtuple = SHORT.maxset = SHORT.maxfrozenset = SHORT.maxdict = 10
SHORT.maxstring = SHORT.maxlong = SHORT.maxother = LONGEST_TEXT


def shown(value):
    """A value as text for an error message, which is short even if the value's `repr` is not."""
    try:
        return SHORT.repr(value)[: 10 * LONGEST_TEXT]
    except Exception as error:  # a `__repr__` may raise anything
        return f"<{type(value).__name__} whose repr raises {type(error).__name__}>"


def one_line(text):
    r"""The text in one line: line breaks and bytes that are not UTF-8 as `\n`, `\udcff`."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def reason(error):
    """The text of an error that another error quotes, which is short too."""
    return str(error)[: 10 * LONGEST_TEXT]


def received(**values):
    """The end of an error message: `Received: name=value, ...`."""
    return f"Received: {', '.join(f'{name}={shown(value)}' for name, value in values.items())}"


def integer(name, value, minimum=1, maximum=LARGEST_INTEGER):
    """Check an int in `[minimum, maximum]`; a bool, a float or a string is a TypeError."""
    expected = f"an integer from {minimum} to {maximum}"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"`{name}` must be {expected}. {received(**{name: value})}")
    if not minimum <= value <= maximum:
        raise ValueError(f"`{name}` must be {expected}. {received(**{name: value})}")
    return int(value)


def integers(name, value, meaning):
    """Check positive ints, one for each word of `meaning`, and return them as a tuple.

    Anything except a tuple or list of that length is a ValueError.
    """
    words = f"({', '.join(meaning)})"
    if not isinstance(value, (tuple, list)) or len(value) != len(meaning):
        raise ValueError(f"`{name}` must be {words}. {received(**{name: value})}")
    try:
        return tuple(integer(name, side) for side in value)
    except (TypeError, ValueError) as error:
        expected = f"{words}, each an integer from 1 to {LARGEST_INTEGER}"
        raise type(error)(f"`{name}` must be {expected}. {received(**{name: value})}") from None


def pair(name, value):
    """Check a positive int or a (height, width) pair of them, and return `(height, width)`."""
    if not isinstance(value, (tuple, list)):
        return (integer(name, value),) * 2
    return integers(name, value, ("height", "width"))


def real(name, value, minimum, below=LARGEST_REAL):
    """Check a number in `[minimum, below)`, which float32 can hold, and return it as a float."""
    below = min(below, LARGEST_REAL)
    expected = f"a finite number, at least {minimum} and below {below}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"`{name}` must be {expected}. {received(**{name: value})}")
    if not minimum <= value < below:  # false for NaN too
        raise ValueError(f"`{name}` must be {expected}. {received(**{name: value})}")
    return float(value)


def rate(name, value):
    """Check a rate in `[0, 1)`, such as the fraction that dropout drops."""
    return real(name, value, 0.0, below=1.0)


def flag(name, value):
    """Check True or False; 0 and 1 are TypeErrors."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"`{name}` must be True or False. {received(**{name: value})}")
    return bool(value)


def choice(name, value, choices):
    """Check one of `choices`, which are strings or None; an error suggests similar ones."""
    choices = tuple(choices)
    names = ", ".join(map(repr, choices[:MOST_NAMES]))
    names += f", ... ({len(choices)} in all)" if len(choices) > MOST_NAMES else ""
    message = f"`{name}` must be one of {names}. {received(**{name: value})}"
    if value is not None and not isinstance(value, str):
        raise TypeError(message)
    if value not in choices:
        raise ValueError(f"{message}{nearest(value, choices)}")
    return value if value is None else str(value)


def nearest(value, choices):
    """The end of an error message: the choices that are spelt similarly to `value`, or `""`."""
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        return ""
    names = {choice.lower(): choice for choice in choices if choice}
    near = [names[name] for name in difflib.get_close_matches(value.lower(), names, n=3)]
    return f". Did you mean {' or '.join(map(repr, near))}?" if near else ""


def divides(name, value, whole_name, whole):
    """Raise a ValueError if `value` does not divide `whole`."""
    if whole % value:
        raise ValueError(
            f"`{name}` must divide `{whole_name}`. {received(**{name: value})} and"
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
    names = sequence("class_names", names, classes, expected)
    if len(names) != classes or not all(isinstance(name, str) for name in names):
        count = len(names) if len(names) <= classes else f"more than {classes}"
        raise ValueError(f"{expected}. Received: {count}: {shown(names)}")
    return [str(name) for name in names]


def sequence(name, value, most, expected):
    """The items of an ordered iterable as a list, at most `most + 1` of an endless one.

    `expected` begins the TypeError for text, a set, or a value that cannot be iterated.
    """
    unordered = (str, bytes, set, frozenset)
    try:
        if isinstance(value, Iterable) and not isinstance(value, unordered):
            return list(itertools.islice(value, most + 1))
    except Exception as error:  # an iterator may raise anything
        raise TypeError(f"{expected}. {received(**{name: value})}: {error}") from error
    raise TypeError(f"{expected}. {received(**{name: value})}")


def mapping(name, value):
    """Check a dict."""
    if not isinstance(value, dict):
        raise TypeError(f"`{name}` must be a dict. {received(**{name: value})}")
    return value


def text(name, value):
    """Check a string that UTF-8 can hold."""
    if not isinstance(value, str):
        raise TypeError(f"`{name}` must be a string. {received(**{name: value})}")
    if not is_encodable(value, "utf-8"):
        raise ValueError(f"`{name}` must be text that UTF-8 can hold. {received(**{name: value})}")
    return str(value)


def is_encodable(value, encoding, errors="strict"):
    """Whether an encoding can hold a string; a lone surrogate has no bytes in UTF-8."""
    try:
        value.encode(encoding, errors)
    except UnicodeEncodeError:
        return False
    return True


def path(name, value, expected="a string or a path"):
    """Check a path, which need not exist, and return a `pathlib.Path`."""
    try:
        text = os.fspath(value)
    except Exception:  # a user's `__fspath__` may raise anything
        text = None
    if not isinstance(text, str):
        raise TypeError(f"`{name}` must be {expected}. {received(**{name: value})}")
    if "\0" in text:
        raise ValueError(f"`{name}` must not contain a null byte. {received(**{name: value})}")
    if len(text) > LONGEST_PATH:
        expected = f"a path of at most {LONGEST_PATH:,} characters"
        raise ValueError(f"`{name}` must be {expected}. {received(**{name: value})}")
    if not is_encodable(text, sys.getfilesystemencoding(), "surrogateescape"):
        raise ValueError(
            f"`{name}` must be a name that files can have. {received(**{name: value})}"
        )
    return pathlib.Path(text)


def output_path(value):
    """Check the path to write to, in a folder that exists, and return a `pathlib.Path`."""
    checked = path("path", value)
    if not checked.parent.is_dir():
        raise ValueError(
            f"`path` must lie in a folder that exists. {received(path=str(checked))}; the folder"
            f" {shown(str(checked.parent))} does not exist"
        )
    return checked


def file_path(value, suffix, reason=""):
    """Check the path of a file to write, in a folder that exists, and return a `pathlib.Path`."""
    checked = output_path(value)
    if checked.suffix.lower() != suffix:
        raise ValueError(f"`path` must end in {suffix!r}{reason}. {received(path=str(checked))}")
    if checked.is_dir():
        raise ValueError(f"`path` must name a file, not a folder. {received(path=str(checked))}")
    return checked


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


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Issue a warning at the line outside this package and Keras that led to it."""
    level, frame = 1, sys._getframe()
    while frame and frame.f_globals.get("__name__", "").split(".")[0] in ("keras", "keras_mixers"):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
