"""AdamW and SGD as they are used to train and to fine-tune Vision Transformers."""

from typing import Any

import keras
from keras import ops

from keras_mixers import arguments
from keras_mixers.layers.kernels.optimizer import fused_adam
from keras_mixers.serialization import registered
from keras_mixers.training.layerwise import Layerwise


@registered
class LayerwiseAdamW(Layerwise, keras.optimizers.Adam):
    """AdamW whose weight decay applies to kernels only, with smaller steps in early layers.

    `w -= rate * (m / (sqrt(v) + epsilon) + weight_decay * w)`. Only kernels decay: biases, norms,
    positions and tokens do not. `rate` falls with the distance from the head, by the factor
    `layer_decay` per block. Keras's `AdamW` needs a list of the variables to exclude, and a saved
    file does not contain this list.

    A callback may assign a number to `learning_rate`, also if it is a schedule. The rate then keeps
    this value until the next assignment.

    Args:
        learning_rate: a number or a schedule.
        weight_decay: at each step, a kernel loses learning rate times `weight_decay` of its value.
        layer_decay: ratio of a block's learning rate to the next block's; 1 for equal rates.
        clip_norm: largest global norm of the gradients, after they are summed over the devices.
            Keras's `global_clipnorm` clips the gradients of each device separately. `None` for no
            clipping.
        beta_1: decay of the moving average of the gradients.
        beta_2: decay of the moving average of the squared gradients.
        epsilon: added to the square root of the average of the squared gradients.
        **kwargs: arguments of `keras.optimizers.Adam`, such as `use_ema`. With
            `gradient_accumulation_steps`, the moving average changes once per update; in Keras it
            changes with each batch.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it.
        ValueError: if `layer_decay` is not 1 and no layer of the model is named `block_0_...`, as
            in the models of this package.

    Example:
        >>> optimizer = LayerwiseAdamW(1e-3, weight_decay=0.05, clip_norm=1.0)

    Source: "Decoupled Weight Decay Regularization", arXiv 1711.05101; layer decay: "BEiT: BERT
    Pre-Training of Image Transformers", arXiv 2106.08254.
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 1e-3,
        weight_decay: float = 0.0,
        layer_decay: float = 1.0,
        clip_norm: float | None = None,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        name: str = "adamw",
        **kwargs: Any,
    ):
        super().__init__(
            learning_rate,
            weight_decay,
            layer_decay,
            clip_norm,
            name,
            beta_1=arguments.rate("beta_1", beta_1),
            beta_2=arguments.rate("beta_2", beta_2),
            epsilon=arguments.non_negative("epsilon", epsilon),
            **kwargs,
        )

    def step(self, gradient, variable, rate):
        keras.optimizers.Adam.update_step(self, gradient, variable, rate)

    def _backend_update_step(self, *args):
        # Keras calls this method to update all weights.
        with fused_adam(self, LayerwiseAdamW.step):
            super()._backend_update_step(*args)

    def load_own_variables(self, store):
        # Files of version 0.1.0 do not contain the assigned rate.
        before = [v for v in self.variables if v is not self.assigned_rate]
        if self.assigned_rate is None or len(store.keys()) != len(before):
            super().load_own_variables(store)
            return
        for i, variable in enumerate(before):
            variable.assign(store[str(i)])


@registered
class LayerwiseSGD(Layerwise):
    """SGD with momentum whose weight decay applies to kernels only, with smaller early steps.

    `v = momentum * v + g; w -= rate * (v + weight_decay * w)` for a gradient g. The velocity v does
    not contain the rate, as in PyTorch and optax. In Keras's `SGD` it does, which differs when the
    rate changes. The decay is not part of the velocity. In PyTorch it is: a decay of 1 there
    acts as about `1 / (1 - momentum)` here. All else is as in `LayerwiseAdamW`.

    Args:
        learning_rate: a number or a schedule.
        momentum: fraction of the velocity that a step keeps; 0 for plain gradient descent.
        weight_decay: at each step, a kernel loses learning rate times `weight_decay` of its value.
        layer_decay: ratio of a block's learning rate to the next block's; 1 for equal rates.
        clip_norm: largest global norm of the gradients, after they are summed over the devices;
            `None` for no clipping.
        **kwargs: arguments of `keras.optimizers.Optimizer`, such as `use_ema`.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it.
        ValueError: if `layer_decay` is not 1 and no layer of the model is named `block_0_...`.

    Example:
        >>> optimizer = LayerwiseSGD(0.03, clip_norm=1.0)

    Source: "On the importance of initialization and momentum in deep learning", ICML 2013;
    decoupled decay: arXiv 1711.05101.
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        layer_decay: float = 1.0,
        clip_norm: float | None = None,
        name: str = "sgd",
        **kwargs: Any,
    ):
        super().__init__(learning_rate, weight_decay, layer_decay, clip_norm, name, **kwargs)
        self.momentum = arguments.rate("momentum", momentum)

    def build(self, variables):
        super().build(variables)
        self.velocities = self.add_optimizer_variables(variables, "velocity")

    def step(self, gradient, variable, rate):
        velocity = self.velocities[self._get_variable_index(variable)]
        momentum = ops.cast(self.momentum, variable.dtype)
        self.assign(velocity, momentum * velocity + ops.cast(gradient, variable.dtype))
        self.assign_sub(variable, rate * velocity)

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum}
