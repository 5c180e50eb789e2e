"""Old names of public functions, arguments and attributes: they work and warn."""

import functools
import inspect
import warnings


def warn(old, new):
    """Warn the caller's caller that `old` is now called `new`."""
    warnings.warn(
        f"`{old}` is deprecated since keras_mixers 0.2: use `{new}`",
        DeprecationWarning,
        stacklevel=3,
    )


def renamed(old, function):
    """`function` under its old name."""

    @functools.wraps(function)
    def alias(*args, **kwargs):
        warn(old, function.__name__)
        return function(*args, **kwargs)

    return alias


def renamed_argument(old, new):
    """A decorator: a function or a class takes the keyword `old` as `new`."""

    def decorate(target):
        function = target.__init__ if inspect.isclass(target) else target

        @functools.wraps(function)
        def call(*args, **kwargs):
            if old in kwargs:
                if new in kwargs:
                    raise TypeError(f"`{old}` is the old name of `{new}`: give one of them")
                warn(old, new)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        if inspect.isclass(target):
            target.__init__ = call
            return target
        return call

    return decorate
