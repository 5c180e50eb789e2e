"""Old names of public functions, arguments and attributes: they still work, and warn."""

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import TypeVar

from keras_mixers.arguments import received, shown

Renamed = TypeVar("Renamed", bound=Callable)


def warn(old, new):
    """Warn the caller's caller that `old` is now called `new`."""
    warnings.warn(
        f"`{old}` is deprecated since keras_mixers 0.2: use `{new}`",
        DeprecationWarning,
        stacklevel=3,
    )


def renamed(old: str, function: Renamed) -> Renamed:
    """An alias of `function` under its old name, which warns when it is called."""

    @functools.wraps(function)
    def alias(*args, **kwargs):
        warn(old, function.__name__)
        return function(*args, **kwargs)

    return alias


def renamed_argument(old: str, new: str) -> Callable[[Renamed], Renamed]:
    """A decorator of a function or class: the keyword `old` still works as `new`, and warns."""

    def decorate(target):
        function = target.__init__ if inspect.isclass(target) else target

        @functools.wraps(function)
        def call(*args, **kwargs):
            if old in kwargs:
                if new in kwargs:
                    raise TypeError(
                        f"`{old}` is the old name of `{new}`: give only `{new}`."
                        f" {received(**{old: kwargs[old]})} and {new}={shown(kwargs[new])}"
                    )
                warn(old, new)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        if inspect.isclass(target):
            target.__init__ = call
            return target
        return call

    return decorate
