"""The learning rate as a function of the step."""

import keras
import numpy as np
from keras import ops

from keras_mixers import arguments
from keras_mixers.serialization import ConfigFromSignature, registered

SHAPES = ("cosine", "linear", "one_cycle", "staircase")


@registered
class WarmUp(ConfigFromSignature, keras.optimizers.schedules.LearningRateSchedule):
    """Linear growth to `peak` in `warmup_steps`, then a decline to `final` until `steps`.

    With `"cosine"` and `"linear"`, the decline has one phase. With `"one_cycle"` it has two linear
    phases. The first ends at a twentieth of `peak`, after two thirds of the steps that follow the
    warm-up. The second ends at `final`. With `"staircase"`, the rate falls to a tenth after 30, 60
    and 90 % of all steps, but not below `final`. The rate of the first step is above 0.

    Args:
        peak: the highest learning rate.
        steps: number of steps in the whole training.
        warmup_steps: number of steps in which the rate grows.
        shape: the form of the decline: `"cosine"`, `"linear"`, `"one_cycle"` or
            `"staircase"`.
        final: the learning rate at the last step.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it.

    Example:
        >>> schedule = WarmUp(1e-3, steps=100, warmup_steps=10)
        >>> [round(float(schedule(step)), 6) for step in (0, 9, 99)]
        [0.0001, 0.001, 0.0]

    Source: "SGDR: Stochastic Gradient Descent with Warm Restarts", arXiv 1608.03983; one cycle:
    "Patches Are All You Need?", arXiv 2201.09792, as in its authors' training on CIFAR-10;
    staircase: "Big Transfer (BiT): General Visual Representation Learning", arXiv 1912.11370.
    """

    def __init__(
        self,
        peak: float,
        steps: int,
        warmup_steps: int = 0,
        shape: str = "cosine",
        final: float = 0.0,
    ):
        self.peak = arguments.non_negative("peak", peak)
        self.steps = arguments.integer("steps", steps, 1, 2**40)
        self.warmup_steps = arguments.count("warmup_steps", warmup_steps, maximum=2**40)
        self.shape = arguments.choice("shape", shape, SHAPES)
        self.final = arguments.non_negative("final", final)
        if self.warmup_steps >= self.steps:
            raise ValueError(
                "`warmup_steps` must be less than `steps`. Received:"
                f" warmup_steps={warmup_steps}, steps={steps}"
            )

    def __call__(self, step):
        step = ops.cast(step, "float32") + 1.0  # counted from 1, so that the first rate is above 0
        warmup = self.peak * step / max(self.warmup_steps, 1)
        progress = (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        progress = ops.clip(progress, 0.0, 1.0)
        if self.shape == "cosine":
            decline = self.final + (self.peak - self.final) * (1 + ops.cos(np.pi * progress)) / 2
        elif self.shape == "linear":
            decline = self.final + (self.peak - self.final) * (1 - progress)
        elif self.shape == "staircase":
            stairs = [ops.cast(step > part * self.steps, "float32") for part in (0.3, 0.6, 0.9)]
            decline = ops.maximum(self.peak * 0.1 ** sum(stairs), self.final)
        else:
            low = self.peak / 20
            fast = self.peak + (low - self.peak) * progress * 3 / 2
            slow = self.final + (low - self.final) * (1 - progress) * 3
            decline = ops.where(progress < 2 / 3, fast, slow)
        return ops.where(step <= self.warmup_steps, warmup, decline)
