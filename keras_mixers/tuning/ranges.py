"""Quantities of a search space: a list of choices, a `(low, high)` range or one value."""

import dataclasses
import functools
import math
from typing import Any

from keras_tuner.errors import FatalValueError

from keras_mixers import arguments
from keras_mixers.data import Augmentation
from keras_mixers.training import layerwise, recipes

Quantity = int | float | str | list[Any] | tuple[Any, ...]  # what the user passes

MAX_CHOICES = 10_000
# Without `patch_size`, because fewer tokens lose the image's detail and more make training slow.
DEFAULT_TOKENS = (16, 256)
PREFERRED_TOKENS = 64
DEFAULT_HEAD_DIMS = (16, 32, 64)
# The default `hidden_dim`: its range and its default. Default hidden widths of MLPs fit to these.
HIDDEN_DIMS = (64, 384)
HIDDEN_DIM = 128
FULL_MLP_DIM = 256  # from this `hidden_dim` on, the range of an MLP's hidden width is complete


def searched(read, choices, needs=None, **options):
    """Declare a field of a space as a quantity to search.

    Args:
        read: checks the user's value and returns `Choices` or an `Interval`. It is called as
            `read(name, value, **options)`.
        choices: the field's default, as a user would pass it.
        needs: name of another field, which `read` takes as a keyword too. A quantity is passed as
            its `Choices`.
        options: further keywords of `read`. `default` is the value that a search starts from; the
            quantity's default is the nearest value that the user allows.
    """
    metadata = {"read": functools.partial(read, **options), "needs": needs}
    if isinstance(choices, list):
        return dataclasses.field(default_factory=lambda: list(choices), metadata=metadata)
    return dataclasses.field(default=choices, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Choices:
    """One value of several.

    Args:
        values: as KerasTuner stores them: numbers or strings.
        default: one of `values`.
        objects: what a stored value stands for, if KerasTuner cannot store it.
    """

    values: tuple
    default: object
    objects: dict = dataclasses.field(default_factory=dict)

    def register(self, hp, name):
        """Register the hyperparameter in `hp` and return its value; None if it is inactive."""
        if len(self.values) == 1:
            value = hp.Fixed(name, self.values[0])
        else:
            value = hp.Choice(name, list(self.values), default=self.default)
        if value is not None and value not in self.values:
            raise_outside_space(name, value, f"one of {', '.join(map(str, self.values))}")
        return self.objects.get(value, value)


@dataclasses.dataclass(frozen=True)
class Interval:
    """Any number from `low` to `high`, sampled uniformly, or log-uniformly if `log`."""

    low: float
    high: float
    default: float
    log: bool

    def register(self, hp, name):
        """Register the hyperparameter in `hp` and return its value; None if it is inactive."""
        sampling = "log" if self.log else "linear"
        value = hp.Float(name, self.low, self.high, sampling=sampling, default=self.default)
        if value is not None and not self.low <= value <= self.high:
            raise_outside_space(name, value, f"from {self.low} to {self.high}")
        return value


def raise_outside_space(name, value, expected):
    """End the search, because the tuner or a reloaded search has a value outside the space."""
    raise FatalValueError(
        f"`{name}` must be {expected}, as the space defines it. To search other values, pass them"
        " to the space, and use another `directory`, or overwrite=True. Received:"
        f" {name}={arguments.shown(value)}"
    )


def integers(name, value, default, step=1, doubling=False):
    """`Choices` of integers.

    A range takes steps from its low end, or doubles. If a range is narrower than a step, the step
    becomes the greatest common divisor of the step and the range's width.
    """
    if isinstance(value, tuple):
        low, high = _checked_ends(name, value, arguments.integer)
        if doubling:
            values = [low << i for i in range((high // low).bit_length())]
        else:
            step = step if step <= high - low else math.gcd(step, high - low)
            values = range(low, high + 1, step)
    else:
        values = _checked_choices(name, value, arguments.integer)
    return Choices(tuple(values), _nearest(values, default))


def reals(name, value, default, log=False, below=arguments.LARGEST_REAL):
    """The `Interval` of a range, or the `Choices` of a list; all numbers in `[0, below)`."""
    check = functools.partial(arguments.real, minimum=0.0, below=below)
    if not isinstance(value, tuple):
        values = _checked_choices(name, value, check)
        return Choices(tuple(values), _nearest(values, default))
    low, high = _checked_ends(name, value, check)
    if log and not low:
        raise ValueError(
            f"`{name}` must have a range that begins above 0, because it is sampled on a"
            f" logarithmic scale; a list may contain 0. Received: {name}={arguments.shown(value)}"
        )
    return Interval(low, high, min(max(default, low), high), log)


def fractions(name, value, default):
    """`reals` above 0 and at most 1."""
    if isinstance(value, tuple):
        low, high = _checked_ends(name, value, layerwise.decay_factor)
        return Interval(low, high, min(max(default, low), high), log=False)
    values = _checked_choices(name, value, layerwise.decay_factor)
    return Choices(tuple(values), _nearest(values, default))


def patch_sizes(name, value, input_shape):
    """`Choices` of a square patch's side, each of which divides the image's height and width.

    None means the sides that give a default number of tokens. A range means the divisors in it.
    """
    rows, columns, _ = input_shape
    side = math.gcd(rows, columns)
    divisors = [patch for patch in range(1, side + 1) if side % patch == 0]

    def tokens(patch):
        return rows * columns // patch**2

    def distance(patch):
        return abs(math.log(tokens(patch) / PREFERRED_TOKENS))

    if value is None:
        fewest, most = DEFAULT_TOKENS
        values = [patch for patch in divisors if fewest <= tokens(patch) <= most]
        values = values or [min(divisors, key=distance)]
    elif isinstance(value, tuple):
        low, high = _checked_ends(name, value, arguments.integer)
        values = [patch for patch in divisors if low <= patch <= high]
    else:
        values = _checked_choices(name, value, arguments.integer)
    wrong = [patch for patch in values if patch not in divisors]
    if wrong or not values:
        raise ValueError(
            f"`{name}` must divide the height and width of the image."
            f" {arguments.received(**{name: value})} and input_shape={input_shape};"
            f" these do: {', '.join(map(str, divisors))}"
        )
    return Choices(tuple(values), min(values, key=distance))


def head_dims(name, value, hidden_dim):
    """`Choices` of the width of an attention head, each of which divides every `hidden_dim`.

    None means those of the default widths that do, or the greatest common divisor if none does.
    """
    if value is None:
        common = math.gcd(*hidden_dim.values)
        value = [width for width in DEFAULT_HEAD_DIMS if common % width == 0] or common
    choices = integers(name, value, default=32, doubling=True)
    for width in hidden_dim.values:
        for head_dim in choices.values:
            arguments.divides(name, head_dim, "hidden_dim", width)
    return choices


def mlp_dims(name, value, hidden_dim, default, limits):
    """`Choices` of an MLP's hidden width. A range takes steps of the low end of `limits`.

    None means the range `limits`, smaller if `hidden_dim` can be smaller than by default. Otherwise
    most configurations of a narrow model would spend their weights on the MLP.
    """
    low, high = limits
    low = max(1, min(low, low * min(hidden_dim.values) // HIDDEN_DIMS[0]))
    high = min(high, high * max(hidden_dim.values) // FULL_MLP_DIM)
    step = limits[0]
    if value is None:
        value, step = ((low, high) if low < high else low), low
    return integers(name, value, default * hidden_dim.default / HIDDEN_DIM, step)


def names(name, value, allowed):
    """`Choices` of strings, each one of `allowed`. The first one is the default."""
    _refuse_range(name, value)
    values = _checked_choices(name, value, arguments.one_of(*allowed))
    return Choices(tuple(values), values[0])


def augmentations(name, value):
    """`Choices` of `Augmentation`s, stored as text. The first one is the default."""
    _refuse_range(name, value)
    each = _checked_choices(name, value, _augmentation_or_recipe)
    objects = {
        given if isinstance(given, str) else as_text(given): found
        for given, found in zip(each, map(_augmentation, each), strict=True)
    }
    return Choices(tuple(objects), next(iter(objects)), objects)


def as_text(augmentation):
    """The arguments of an augmentation that differ from their defaults, or "none"."""
    defaults = Augmentation().get_config()
    changed = {
        argument: value
        for argument, value in augmentation.get_config().items()
        if value != defaults[argument]
    }
    return ", ".join(f"{argument}={value}" for argument, value in changed.items()) or "none"


def _augmentation_or_recipe(name, value):
    if isinstance(value, Augmentation) or (isinstance(value, str) and value in recipes()):
        return value
    hint = arguments.nearest(value, recipes()) if isinstance(value, str) else ""
    raise (ValueError if isinstance(value, str) else TypeError)(
        f"`{name}` must be km.data.Augmentation(...), a name of km.recipes(), or a list of them."
        f" Received: {name}={arguments.shown(value)}{hint}"
    )


def _augmentation(given):
    """An augmentation, or that of the recipe with the given name."""
    return recipes()[given].augmentation if isinstance(given, str) else given


def _nearest(values, default):
    return min(values, key=lambda value: abs(value - default))


def _checked_choices(name, value, check):
    """The choices of a list, or the one value, each checked."""
    values = value if isinstance(value, list) else [value]
    if not 0 < len(values) <= MAX_CHOICES:
        raise ValueError(
            f"`{name}` must have from 1 to {MAX_CHOICES:,} choices. Received: {len(values)}"
        )
    checked = [check(name, each) for each in values]
    if any(each in checked[:i] for i, each in enumerate(checked)):
        raise ValueError(
            f"`{name}` must have each choice once. Received: {name}={arguments.shown(value)}"
        )
    return checked


def _checked_ends(name, value, check):
    """The low and high end of a range, checked."""
    expected = f"`{name}` must be a list of choices, a (low, high) range, or one value."
    if len(value) != 2:
        raise ValueError(f"{expected} Received: {name}={arguments.shown(value)}")
    low, high = (check(name, end) for end in value)
    if low >= high:
        raise ValueError(
            f"{expected} Received: {name}={arguments.shown(value)}, where low is not below high"
        )
    if isinstance(low, int) and high - low > MAX_CHOICES:
        raise ValueError(
            f"`{name}` must have a range of at most {MAX_CHOICES:,} integers. Received:"
            f" {name}={arguments.shown(value)}"
        )
    return low, high


def _refuse_range(name, value):
    if isinstance(value, tuple):
        raise TypeError(
            f"`{name}` must be a list of choices or one value, because its values have no order."
            f" Received: {name}={arguments.shown(value)}"
        )
