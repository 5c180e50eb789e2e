"""What a point may cost, and what happens to one that costs more."""

import dataclasses
import pathlib
import statistics
import tempfile
import time

import keras
import numpy as np
from keras_tuner.errors import FailedTrialError

from keras_mixers import arguments
from keras_mixers.exporting import export

RUNTIMES = ("keras", "onnxruntime")
INFEASIBLE_PREFIX = "infeasible: "
LARGEST = 2**60


class InfeasibleError(FailedTrialError):
    """A point that may not be trained here, and why."""

    def __init__(self, why):
        super().__init__(INFEASIBLE_PREFIX + why)
        self.why = why


class Infeasible(keras.Model):
    """Stands for a model that may not be made: it has no weights, and any use of it says why."""

    def __init__(self, why):
        super().__init__(name="infeasible")
        self.why = why
        self.compile()

    def fit(self, *data, **options):
        """It cannot be trained, judged or asked."""
        raise InfeasibleError(self.why)

    call = evaluate = predict = fit


@dataclasses.dataclass(frozen=True)
class Budget:
    """The most that a model may cost; None for any.

    Args:
        params: weights, those that do not train too.
        flops: multiply-adds of an image, as `km.count_flops` counts them.
        latency_ms: milliseconds for one image, the median of some calls on this machine.
        latency_of: what is called: `"keras"`, the model; `"onnxruntime"`, its exported file.
    """

    params: int | None
    flops: int | None
    latency_ms: float | None
    latency_of: str

    def __post_init__(self):
        for name in ("params", "flops"):
            if getattr(self, name) is not None:
                arguments.integer(f"max_{name}", getattr(self, name), 1, LARGEST)
        if self.latency_ms is not None:
            arguments.real("max_latency_ms", self.latency_ms, 0.0)
        arguments.choice("latency_of", self.latency_of, RUNTIMES)
        if self.latency_of == "onnxruntime" and keras.backend.backend() != "tensorflow":
            raise ValueError(
                "`latency_of` must be 'keras' on another backend than TensorFlow, which exports go"
                f" through. Received: latency_of='onnxruntime' on {keras.backend.backend()!r}"
            )

    def check_size(self, params, flops):
        """Refuse what costs more, before it has a weight."""
        if self.params is not None and params > self.params:
            raise_over_budget("parameters", params, "max_params", self.params)
        if self.flops is not None and flops > self.flops:
            raise_over_budget("multiply-adds", flops, "max_flops", self.flops)

    def check_latency(self, model):
        """Refuse a model by the time it takes, before it is trained."""
        if self.latency_ms is None:
            return
        measure = {"keras": latency, "onnxruntime": exported_latency}[self.latency_of]
        milliseconds = measure(model)
        if milliseconds > self.latency_ms:
            raise_over_budget(
                "ms an image", round(milliseconds, 3), "max_latency_ms", self.latency_ms
            )


def raise_over_budget(what, cost, name, most):
    """Say how far a point is over budget."""
    raise InfeasibleError(f"{cost:,} {what}, over {name}={most:,}")


def latency(model):
    """Milliseconds for one image by the compiled model, the median of ten calls after two."""
    image = np.zeros((1, *model.input_shape[1:]), "float32")
    times = []
    for _ in range(12):
        start = time.perf_counter()
        model.predict_on_batch(image)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[2:])


def exported_latency(model):
    """Milliseconds for one image by the ONNX file of a model, in onnxruntime."""
    with tempfile.TemporaryDirectory() as folder:
        return export(model, pathlib.Path(folder, "model.onnx"), target="onnxruntime").latency
