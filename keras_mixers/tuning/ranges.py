"""What a quantity may be: a list of choices, a `(low, high)` range, or one fixed value."""

import dataclasses
import functools
import math

from keras_tuner.errors import FatalValueError

from keras_mixers import arguments
from keras_mixers.data import Augmentation

MOST_CHOICES = 10_000
USUAL_TOKENS = (16, 256)  # fewer tell little of an image, more take long
MIDDLE_TOKENS = 64
USUAL_HEADS = (16, 32, 64)  # channels of each


def searched(read, default, **options):
    """A field that is a quantity of the space, read by `read(name, value, **options)`."""
    metadata = {"read": functools.partial(read, **options)}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Choices:
    """One of these values, as KerasTuner keeps them; `meaning` has what they stand for, if not
    themselves.
    """

    values: tuple
    default: object
    meaning: dict = dataclasses.field(default_factory=dict)

    def ask(self, hp, name):
        """The value at this point of the space, which it is registered in."""
        if len(self.values) == 1:
            value = hp.Fixed(name, self.values[0])
        else:
            value = hp.Choice(name, list(self.values), default=self.default)
        if value is not None and value not in self.values:  # None: not active
            outside(name, value, f"one of {', '.join(map(str, self.values))}")
        return self.meaning.get(value, value)


@dataclasses.dataclass(frozen=True)
class Interval:
    """Any number from `low` to `high`, drawn evenly or, with `log`, evenly in its logarithm."""

    low: float
    high: float
    default: float
    log: bool

    def ask(self, hp, name):
        """The value at this point of the space, which it is registered in."""
        sampling = "log" if self.log else "linear"
        value = hp.Float(name, self.low, self.high, sampling=sampling, default=self.default)
        if not self.low <= value <= self.high:
            outside(name, value, f"from {self.low} to {self.high}")
        return value


def outside(name, value, expected):
    """Refuse what came into the search past the space."""
    raise FatalValueError(
        f"`{name}` must be {expected}, as the space has it; its constructor takes another range,"
        " and the search of another space another `directory`, or overwrite=True. Received:"
        f" {name}={value!r}"
    )


def integers(name, value, usual, step=1, doubling=False):
    """The `Choices` of a whole number; a range goes in steps, or doubles from its low end.

    A range narrower than a step goes in the largest part of one that leads to its high end.
    """
    if isinstance(value, tuple):
        low, high = _ends(name, value, arguments.integer)
        if doubling:
            values = [low << i for i in range((high // low).bit_length())]
        else:
            step = step if step <= high - low else math.gcd(step, high - low)
            values = range(low, high + 1, step)
    else:
        values = _each(name, value, arguments.integer)
    return Choices(tuple(values), min(values, key=lambda choice: abs(choice - usual)))


def reals(name, value, usual, log=False, below=None):
    """The `Interval` of a number, or its `Choices`."""

    def check(name, number):
        return arguments.real(name, number, 0.0, **({} if below is None else {"below": below}))

    if not isinstance(value, tuple):
        values = _each(name, value, check)
        return Choices(tuple(values), min(values, key=lambda choice: abs(choice - usual)))
    low, high = _ends(name, value, check)
    if log and not low:
        raise ValueError(
            f"`{name}` must have a range that begins above 0, as it is drawn on a logarithmic"
            f" scale; a list may have a 0 in it. Received: {name}={value!r}"
        )
    return Interval(low, high, min(max(usual, low), high), log)


def patches(name, value, input_shape):
    """The `Choices` of a patch's side, each of which divides the image's.

    None stands for those that give a usual number of tokens; of a range, the others are left out.
    """
    rows, columns, _ = input_shape
    side = math.gcd(rows, columns)
    divisors = [patch for patch in range(1, side + 1) if side % patch == 0]

    def tokens(patch):
        return rows * columns // patch**2

    def distance(patch):
        return abs(math.log(tokens(patch) / MIDDLE_TOKENS))

    if value is None:
        fewest, most = USUAL_TOKENS
        values = [patch for patch in divisors if fewest <= tokens(patch) <= most]
        values = values or [min(divisors, key=distance)]
    elif isinstance(value, tuple):
        low, high = _ends(name, value, arguments.integer)
        values = [patch for patch in divisors if low <= patch <= high]
    else:
        values = _each(name, value, arguments.integer)
    wrong = [patch for patch in values if patch not in divisors]
    if wrong or not values:
        raise ValueError(
            f"`{name}` must divide the height and width of the image. Received: {name}={value!r}"
            f" and input_shape={input_shape}; these do: {', '.join(map(str, divisors))}"
        )
    return Choices(tuple(values), min(values, key=distance))


def heads(name, value, hidden_dim):
    """The `Choices` of a head's width, each of which divides each width of the tokens.

    None stands for the usual ones that do.
    """
    if value is None:
        common = math.gcd(*hidden_dim.values)
        value = [width for width in USUAL_HEADS if common % width == 0] or common
    choices = integers(name, value, usual=32, doubling=True)
    for width in hidden_dim.values:
        for head in choices.values:
            arguments.divides(name, head, "hidden_dim", width)
    return choices


def names(name, value, of):
    """The `Choices` of a name, all of them out of `of`; the first is the default."""
    _no_range(name, value)
    values = _each(name, value, lambda name, each: arguments.choice(name, each, of))
    return Choices(tuple(values), values[0])


def augmentations(name, value):
    """The `Choices` of an `Augmentation`, each known by what it changes; the first is default."""
    _no_range(name, value)
    meaning = {described(each): each for each in _each(name, value, _augmentation)}
    return Choices(tuple(meaning), next(iter(meaning)), meaning)


def described(augmentation):
    """What an augmentation does, as the value of a hyperparameter: text."""
    plain = Augmentation().get_config()
    done = {key: each for key, each in augmentation.get_config().items() if each != plain[key]}
    return ", ".join(f"{key}={each}" for key, each in done.items()) or "none"


def _augmentation(name, value):
    if not isinstance(value, Augmentation):
        raise TypeError(
            f"`{name}` must be km.data.Augmentation(...), or a list of them. Received:"
            f" {name}={value!r}"
        )
    return value


def _each(name, value, check):
    """Every choice of a list, or the one value, checked."""
    values = value if isinstance(value, list) else [value]
    if not 0 < len(values) <= MOST_CHOICES:
        raise ValueError(
            f"`{name}` must have from 1 to {MOST_CHOICES:,} choices. Received: {len(values)}"
        )
    checked = [check(name, each) for each in values]
    if any(each in checked[:i] for i, each in enumerate(checked)):
        raise ValueError(f"`{name}` must have each choice once. Received: {name}={value!r}")
    return checked


def _ends(name, value, check):
    """The ends of a range, checked."""
    expected = f"`{name}` must be a list of choices, a (low, high) range, or one value."
    if len(value) != 2:
        raise ValueError(f"{expected} Received: {name}={value!r}")
    low, high = (check(name, end) for end in value)
    if low >= high:
        raise ValueError(f"{expected} Received: {name}={value!r}, where low is not below high")
    if isinstance(low, int) and high - low > MOST_CHOICES:
        raise ValueError(f"`{name}` has a range of more than {MOST_CHOICES:,}: {name}={value!r}")
    return low, high


def _no_range(name, value):
    if isinstance(value, tuple):
        raise TypeError(
            f"`{name}` must be a list of choices or one value; it has no order for a range."
            f" Received: {name}={value!r}"
        )
