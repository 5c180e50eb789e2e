"""The budget of a configuration, and what replaces a model that is over budget."""

import dataclasses
import statistics
import time

import keras
import numpy as np
from keras_tuner.errors import FailedTrialError

from keras_mixers import arguments, files
from keras_mixers.exporting import export

RUNTIMES = ("keras", "onnxruntime")
INFEASIBLE_PREFIX = "infeasible: "  # of a trial's message
LATENCY = "latency_ms"  # the metric of a trial
LARGEST_LIMIT = 2**60


class InfeasibleError(FailedTrialError):
    """Raised for a configuration that is over budget or needs more memory than there is."""

    def __init__(self, reason):
        super().__init__(INFEASIBLE_PREFIX + reason)
        self.reason = reason


class InfeasibleModel(keras.Model):
    """Replaces an infeasible model, because KerasTuner expects `build` to return a model.

    It has no weights. Each use raises `InfeasibleError` with the reason.
    """

    def __init__(self, reason):
        super().__init__(name="infeasible")
        self.reason = reason
        self.compile()

    def fit(self, *data, **options):
        """Raise `InfeasibleError`."""
        raise InfeasibleError(self.reason)

    call = evaluate = predict = fit


@dataclasses.dataclass(frozen=True)
class Budget:
    """The limits of a model's cost; None means no limit.

    Args:
        params: largest number of weights, those that are not trained included.
        flops: largest number of multiply-adds for one image, as `km.count_flops` counts them.
        latency_ms: largest latency in milliseconds for one image, on this machine.
        latency_of: what is timed: `"keras"`, the model; `"onnxruntime"`, its exported file.
    """

    params: int | None
    flops: int | None
    latency_ms: float | None
    latency_of: str

    def __post_init__(self):
        for name in ("params", "flops"):
            if getattr(self, name) is not None:
                arguments.integer(f"max_{name}", getattr(self, name), 1, LARGEST_LIMIT)
        if self.latency_ms is not None:
            arguments.real("max_latency_ms", self.latency_ms, 0.0)
        arguments.choice("latency_of", self.latency_of, RUNTIMES)
        if self.latency_of == "onnxruntime" and keras.backend.backend() != "tensorflow":
            raise ValueError(
                "`latency_of` must be 'keras' on other backends than TensorFlow, because only"
                " TensorFlow exports models. Received: latency_of='onnxruntime' on"
                f" {keras.backend.backend()!r}"
            )

    @property
    def limits_size(self):
        """Whether the size of a model is limited."""
        return self.params is not None or self.flops is not None

    def check_size(self, params, flops):
        """Raise if a model of this size is over budget. The model needs no weights for this."""
        if self.params is not None and params > self.params:
            raise_over_budget("parameters", params, "max_params", self.params)
        if self.flops is not None and flops > self.flops:
            raise_over_budget("multiply-adds", flops, "max_flops", self.flops)

    def measure_latency(self, model):
        """Milliseconds for one image, or None if the budget has no limit of the latency."""
        if self.latency_ms is None:
            return None
        measure = {"keras": keras_latency, "onnxruntime": onnxruntime_latency}[self.latency_of]
        return measure(model)

    def check_latency(self, milliseconds):
        """Raise if a measured latency is over budget; None was not measured."""
        if milliseconds is not None and milliseconds > self.latency_ms:
            raise_over_budget(
                "ms an image", round(milliseconds, 3), "max_latency_ms", self.latency_ms
            )


def raise_over_budget(unit, cost, name, limit):
    """Raise `InfeasibleError` with the cost and the limit."""
    raise InfeasibleError(f"{cost:,} {unit}, over {name}={limit:,}")


def keras_latency(model):
    """Milliseconds for one image with the compiled model: the median of ten calls after two."""
    image = np.zeros((1, *model.input_shape[1:]), "float32")
    times = []
    for _ in range(12):
        start = time.perf_counter()
        model.predict_on_batch(image)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[2:])


def onnxruntime_latency(model):
    """Milliseconds for one image with the exported ONNX file in onnxruntime."""
    with files.temporary_folder() as folder:
        return export(model, folder / "model.onnx", target="onnxruntime").latency
