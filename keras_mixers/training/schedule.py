"""The learning rate, step by step."""

import keras
import numpy as np
from keras import ops

from keras_mixers import arguments
from keras_mixers.serialization import ConfigFromSignature, registered

SHAPES = ("cosine", "linear", "one_cycle")


@registered
class WarmUp(ConfigFromSignature, keras.optimizers.schedules.LearningRateSchedule):
    """Linearly up to `peak` in `warmup_steps`, then down to `final` until `steps`.

    `"cosine"` and `"linear"` go straight to `final`; `"one_cycle"` falls linearly to a twentieth of
    `peak` in two thirds of the way, and linearly on from there. The first step has a rate already.

    Args:
        peak: the highest rate.
        steps: of the whole training.
        warmup_steps: how many of them go up.
        shape: `"cosine"`, `"linear"` or `"one_cycle"`.
        final: the rate at the end.

    Example:
        >>> schedule = WarmUp(1e-3, steps=100, warmup_steps=10)
        >>> [round(float(schedule(step)), 6) for step in (0, 9, 99)]
        [0.0001, 0.001, 0.0]

    Source: "SGDR: Stochastic Gradient Descent with Warm Restarts", arXiv 1608.03983; one cycle:
    "Patches Are All You Need?", arXiv 2201.09792, in its authors' training on CIFAR-10.
    """

    def __init__(
        self,
        peak: float,
        steps: int,
        warmup_steps: int = 0,
        shape: str = "cosine",
        final: float = 0.0,
    ):
        self.peak = arguments.real("peak", peak, 0.0)
        self.steps = arguments.integer("steps", steps, 1, 2**40)
        self.warmup_steps = arguments.integer("warmup_steps", warmup_steps, 0, 2**40)
        self.shape = arguments.choice("shape", shape, SHAPES)
        self.final = arguments.real("final", final, 0.0)
        if self.warmup_steps >= self.steps:
            raise ValueError(
                "`warmup_steps` must be fewer than `steps`. Received:"
                f" warmup_steps={warmup_steps}, steps={steps}"
            )

    def __call__(self, step):
        done = ops.cast(step, "float32") + 1.0
        up = self.peak * done / max(self.warmup_steps, 1)
        down = ops.clip((done - self.warmup_steps) / (self.steps - self.warmup_steps), 0.0, 1.0)
        if self.shape == "cosine":
            rate = self.final + (self.peak - self.final) * (1 + ops.cos(np.pi * down)) / 2
        elif self.shape == "linear":
            rate = self.final + (self.peak - self.final) * (1 - down)
        else:
            low = self.peak / 20
            fast = self.peak + (low - self.peak) * down * 3 / 2
            slow = self.final + (low - self.final) * (1 - down) * 3
            rate = ops.where(down < 2 / 3, fast, slow)
        return ops.where(done <= self.warmup_steps, up, rate)
