"""What both optimizers share: decay of kernels only, smaller steps in early layers, clipping."""

import re

import keras
import numpy as np
from keras import ops

from keras_mixers import arguments
from keras_mixers.training.schedule import WarmUp


class Layerwise(keras.optimizers.Optimizer):
    """The base of `LayerwiseAdamW` and `LayerwiseSGD`, whose arguments it checks.

    A subclass defines `step(gradient, variable, rate)`, which updates one weight without decay.
    """

    def __init__(self, learning_rate, weight_decay, layer_decay, clip_norm, name, **kwargs):
        if not callable(learning_rate):
            learning_rate = arguments.non_negative("learning_rate", learning_rate)
        name = None if name is None else arguments.text("name", name)
        super().__init__(learning_rate, name=name, **kwargs)
        # Not the attribute `weight_decay`, because Keras would then decay every variable.
        self.kernel_decay = arguments.non_negative("weight_decay", weight_decay)
        self.layer_decay = decay_factor("layer_decay", layer_decay)
        self.clip_norm = None if clip_norm is None else positive("clip_norm", clip_norm)
        self.assigned_rate = None
        if isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule):
            # A variable, because a compiled training step reads it. Below 0: the schedule is used.
            self.assigned_rate = keras.Variable(
                -1.0,
                name="assigned_rate",
                dtype="float32",
                trainable=False,
                aggregation="only_first_replica",
            )
            self._track_variable(self.assigned_rate)

    @property
    def learning_rate(self):
        return self._get_current_learning_rate()

    @learning_rate.setter
    def learning_rate(self, value):
        if not callable(value):
            # A callback's may be a tensor.
            number = float(value) if hasattr(value, "dtype") else value
            value = arguments.non_negative("learning_rate", number)
        if self.assigned_rate is None or callable(value):
            keras.optimizers.Optimizer.learning_rate.fset(self, value)
        if self.assigned_rate is None:
            return
        if callable(value):
            self.assigned_rate.assign(-1.0)
            return
        # A LearningRateScheduler returns the current rate to keep the schedule.
        if np.float32(value) != np.float32(self.learning_rate):
            self.assigned_rate.assign(value)

    def _get_current_learning_rate(self):
        rate = super()._get_current_learning_rate()
        if self.assigned_rate is None:
            return rate
        assigned = ops.convert_to_tensor(self.assigned_rate)
        return ops.where(assigned >= 0, assigned, rate)

    def finalize_variable_values(self, var_list):
        # Keras calls this method at the end of `fit`.
        super().finalize_variable_values(var_list)
        schedule = self._learning_rate
        # After an error in a step, the variables have no values on JAX.
        if not isinstance(schedule, WarmUp) or self._iterations.value is None:
            return
        # Not `int(variable)`, because a variable of tf.distribute does not support it.
        steps, assigned = map(ops.convert_to_numpy, (self._iterations, self.assigned_rate))
        if steps > schedule.steps and assigned < 0:
            arguments.warn(
                f"`fit` has trained for {steps} steps, but the learning rate schedule has"
                f" {schedule.steps} steps. The learning rate of all later steps was"
                f" {schedule.final:g}. To train for longer, call `Recipe.compile` again before"
                " `fit`, which begins a new schedule"
            )

    def _update_model_variables_moving_average(self, trainable_variables):
        # Keras calls this method after each batch, also if it only accumulated the gradients.
        decay, steps = self.ema_momentum, self.gradient_accumulation_steps or 1
        if steps > 1:
            updated = (ops.convert_to_tensor(self._iterations) + 1) % steps == 0
            self.ema_momentum = ops.where(updated, decay, 1.0)
        super()._update_model_variables_moving_average(trainable_variables)
        self.ema_momentum = decay

    def _overwrite_model_variables_with_average_value(self, trainable_variables):
        # Keras calls this method at the end of `fit`, if there is a moving average.
        super()._overwrite_model_variables_with_average_value(trainable_variables)
        if keras.backend.backend() == "jax":
            # Now a weight and its average are one array on JAX. The next call of `fit`, `evaluate`
            # or `predict` donates the array of the weight, which would delete the average.
            for average in self._model_variables_moving_average:
                average.assign(average * 1)

    def build(self, variables):
        super().build(variables)
        distances = distances_from_head([variable.path for variable in variables])
        if self.layer_decay != 1 and not any(distances):
            raise ValueError(
                "`layer_decay` must be 1 for a model without layers named 'block_0_...', because"
                f" the order of its layers is unknown. Received: layer_decay={self.layer_decay}"
            )
        self.factors = [self.layer_decay**distance for distance in distances]
        self.decays = [
            self.kernel_decay if is_kernel(variable.path) else 0.0 for variable in variables
        ]

    def _clip_gradients(self, grads):
        # Keras calls this method after it has unscaled and accumulated the gradients.
        grads = super()._clip_gradients(grads)
        return grads if self.clip_norm is None else clip_by_global_norm(grads, self.clip_norm)

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        rate = ops.cast(learning_rate * self.factors[index], variable.dtype)
        if self.decays[index]:
            self.assign_sub(variable, variable * rate * self.decays[index])
        self.step(gradient, variable, rate)

    def get_config(self):
        # Written by hand, because the attribute `learning_rate` is a value and not the schedule.
        return {
            **super().get_config(),
            "weight_decay": self.kernel_decay,
            "layer_decay": self.layer_decay,
            "clip_norm": self.clip_norm,
        }


def is_kernel(path):
    """Whether the path names a matrix or a convolution kernel."""
    return path.split("/")[-1].endswith("kernel")


def distances_from_head(paths):
    """The distance in blocks of each weight from the head; 0 for the head."""
    blocks = [re.search(r"(?:^|/)block_(\d+)_", path) for path in paths]
    depth = 1 + max((int(block[1]) for block in blocks if block), default=-1)
    stem = re.compile(r"(?:^|/)(patch_|position_embedding|prefix_tokens|embedding_norm|stem_)")
    return [
        depth - int(block[1]) if block else depth + 1 if depth and stem.search(path) else 0
        for path, block in zip(paths, blocks, strict=True)
    ]


def clip_by_global_norm(gradients, clip_norm):
    """Scale the gradients so that their global norm, over all devices, is at most `clip_norm`."""
    replicas = 1
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        replicas = context.num_replicas_in_sync if context else 1
    if replicas > 1:
        # The norm is that of the sum over the replicas, which Keras computes only later. So each
        # replica returns its part of the clipped sum.
        present = [gradient for gradient in gradients if gradient is not None]
        sums = iter(context.all_reduce(tf.distribute.ReduceOp.SUM, present))
        gradients = [None if gradient is None else next(sums) for gradient in gradients]
    squares = [ops.sum(ops.square(ops.cast(g, "float32"))) for g in gradients if g is not None]
    norm = ops.sqrt(sum(squares))
    factor = clip_norm / ops.maximum(norm, clip_norm) / replicas
    return [None if g is None else g * ops.cast(factor, g.dtype) for g in gradients]


def positive(name, value):
    """A finite number above 0."""
    if not arguments.non_negative(name, value) > 0:
        raise ValueError(f"`{name}` must be above 0. {arguments.received(**{name: value})}")
    return float(value)


def decay_factor(name, value):
    """A number above 0 and at most 1."""
    if not 0 < arguments.non_negative(name, value) <= 1:
        received = arguments.received(**{name: value})
        raise ValueError(f"`{name}` must be above 0 and at most 1. {received}")
    return float(value)
