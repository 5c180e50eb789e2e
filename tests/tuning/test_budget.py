"""What a point may cost, told before it has a weight; and memory that does not suffice."""

import time
import tracemalloc

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
from scored import TINY, tiny

import keras_mixers as km
from keras_mixers.models import abstract
from keras_mixers.tuning import budget, memory

# 16 tokens of width 8: the patches, their norm, three blocks with kernels of 5, the head.
DEFAULT = {
    "params": (4 * 8 + 8) + 4 * 8 + 3 * (25 * 8 + 8 + 4 * 8 + 8 * 8 + 8 + 4 * 8) + 8 * 3 + 3,
    "flops": 16 * 4 * 8 + 3 * 16 * 8 * (25 + 8) + 8 * 3,
}


def default():
    return keras_tuner.HyperParameters()


def test_flops_of_shapes_alone_are_published_ones_at_no_cost():
    """ViT-B/16 in float32 would be 346 MB, and seconds of drawing them."""
    tracemalloc.start()
    begin = time.process_time()
    with abstract.abstract_weights():
        small, base = km.ViT("S/16"), km.ViT("B/16")
    seconds, (_, peak) = time.process_time() - begin, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert round(km.count_flops(small) / 1e9, 1) == 4.6
    assert round(km.count_flops(base) / 1e9, 1) == 17.6
    assert base.count_params() == 86_567_656
    assert seconds < 10
    assert peak < 30e6
    assert all(weight._value is None for weight in base.weights)


def test_shapes_alone_leaves_nothing_behind():
    keras.config.set_dtype_policy("mixed_bfloat16")
    with pytest.raises(ZeroDivisionError), abstract.abstract_weights():
        model = km.ViT("Ti/16", input_shape=(16, 16, 3), depth=1)
        _ = 1 / 0
    assert keras.config.dtype_policy().name == "mixed_bfloat16"
    with keras.StatelessScope():  # which makes, at its end, all weights that wait
        pass
    assert all(weight._value is None for weight in model.weights)


def test_what_a_point_costs():
    assert tiny().cost_of(default()) == DEFAULT
    assert tiny().build(default()).count_params() == DEFAULT["params"]


@pytest.mark.parametrize(
    ("most", "why"),
    [
        ({"max_params": 1130}, "1,131 parameters, over max_params=1,130"),
        ({"max_flops": 13_207}, "13,208 multiply-adds, over max_flops=13,207"),
        ({"max_params": 1131, "max_flops": 13_208}, None),
    ],
)
def test_over_budget_is_told_before_a_weight_is_made(most, why, monkeypatch):
    made = []
    variable = keras.Variable._initialize_with_initializer
    monkeypatch.setattr(
        keras.Variable,
        "_initialize_with_initializer",
        lambda self, initializer: made.append(self) or variable(self, initializer),
    )
    space = tiny(**most)
    model = space.build(default())
    if why is None:
        assert model.count_params() == DEFAULT["params"]
        assert made
        return
    assert not [weight for weight in made if "metric" not in weight.path and weight.ndim]
    with pytest.raises(keras_tuner.errors.FailedTrialError, match=why):
        space.fit(default(), model)
    images, labels = np.zeros((1, 8, 8, 1)), np.zeros(1)
    for use in (model, model.predict, lambda x: model.fit(x, labels), model.evaluate):
        with pytest.raises(keras_tuner.errors.FailedTrialError, match=why):
            use(images)


def search(space, folder, trials=4, **more):
    tuner = keras_tuner.RandomSearch(
        space, "val_accuracy", max_trials=trials, seed=1, directory=folder, **more
    )
    tuner.search(verbose=0)
    return tuner


def test_a_search_of_points_over_budget_ends_in_order(tmp_path):
    """KerasTuner ends at three failures in a row."""
    tuner = search(tiny(max_params=1), tmp_path, trials=5)
    assert len(tuner.oracle.trials) == 5
    assert {trial.status for trial in tuner.oracle.trials.values()} == {"FAILED"}
    reasons = km.tuning.infeasible(tuner)
    assert list(reasons) == list(tuner.oracle.trials)
    assert all(why.endswith("parameters, over max_params=1") for why in reasons.values())
    # and goes on from there
    again = search(tiny(max_params=1), tmp_path, trials=7)
    assert len(km.tuning.infeasible(again)) == 7


def test_mistakes_still_end_a_search(tmp_path, monkeypatch):
    """Three in a row, whatever infeasible points stand before and between."""
    space = tiny(max_params=1)
    results = iter(["over", "over", "bug", "over", "bug", "over", "bug", "bug"])

    def build(hp):
        if next(results) == "bug":
            raise ZeroDivisionError
        return budget.InfeasibleModel("1 parameter")

    tuner = keras_tuner.RandomSearch(space, "val_accuracy", max_trials=8, directory=tmp_path)
    monkeypatch.setattr(space, "build", build)
    with pytest.raises(RuntimeError, match="consecutive failures exceeded the limit of"):
        tuner.search(verbose=0)
    assert len(tuner.oracle.trials) == 7
    assert len(km.tuning.infeasible(tuner)) == 4


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("1 TiB"),
        tf.errors.ResourceExhaustedError(None, None, "OOM when allocating"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_out_of_memory_is_infeasible(error, monkeypatch):
    space = tiny()

    def fail(*_):
        raise error

    monkeypatch.setattr(space, "_train", fail)
    why = f"out of memory \\({type(error).__name__}: "
    with pytest.raises(keras_tuner.errors.FailedTrialError, match=why):
        space.fit(default(), space.build(default()))


def test_a_search_goes_on_where_models_need_too_much_memory(tmp_path, monkeypatch):
    tuner = keras_tuner.RandomSearch(tiny(), "val_accuracy", max_trials=5, directory=tmp_path)

    def build(**arguments):
        if arguments["depth"] > 1:
            raise MemoryError("1 TiB")
        return km.ConvMixer(**arguments)

    monkeypatch.setattr(tuner.hypermodel, "builder", build)
    monkeypatch.setattr(tuner.hypermodel, "cost_of", lambda _: DEFAULT)  # of shapes: it fits
    tuner.search(verbose=0)
    reasons = km.tuning.infeasible(tuner)
    deep = [t for t in tuner.oracle.trials.values() if t.hyperparameters.values["depth"] > 1]
    assert list(reasons) == [trial.trial_id for trial in deep]
    assert set(reasons.values()) == {"out of memory (MemoryError: 1 TiB)"}


def test_another_error_is_no_matter_of_memory():
    with pytest.raises(ZeroDivisionError), memory.infeasible_if_out_of_memory():
        _ = 1 / 0


@pytest.mark.parametrize("runtime", ["keras", "onnxruntime"])
def test_latency(runtime, monkeypatch):
    """Measured before training, in the runtime that is asked for."""
    monkeypatch.setattr(km.tuning.HyperConvMixer, "_train", lambda *_: {"val_accuracy": 1.0})

    def fit(most):
        space = km.tuning.HyperConvMixer(
            (8, 8, 1), 3, **{**TINY, "depth": 1}, max_latency_ms=most, latency_of=runtime
        )
        return space.fit(default(), space.build(default()))

    assert fit(10_000) == {"val_accuracy": 1.0}
    with pytest.raises(keras_tuner.errors.FailedTrialError, match="ms an image, over max_latency"):
        fit(1e-6)
    monkeypatch.setattr(budget, "keras_latency", lambda _: 3)
    monkeypatch.setattr(budget, "onnxruntime_latency", lambda _: 7)
    measured = {"keras": 3, "onnxruntime": 7}[runtime]
    with pytest.raises(keras_tuner.errors.FailedTrialError, match=f": {measured} ms an image"):
        fit(measured - 1)


def test_the_exported_file_cannot_be_timed_on_another_backend(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="`latency_of` must be 'keras' on other backends"):
        tiny(latency_of="onnxruntime")
