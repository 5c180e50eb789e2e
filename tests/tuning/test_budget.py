"""The budget, which is checked before weights are allocated, and trials that run out of memory."""

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

# 16 tokens of width 8: the patch embedding and its norm, three blocks with a 5x5 kernel, the head.
DEFAULT_COST = {
    "params": (4 * 8 + 8) + 4 * 8 + 3 * (25 * 8 + 8 + 4 * 8 + 8 * 8 + 8 + 4 * 8) + 8 * 3 + 3,
    "flops": 16 * 4 * 8 + 3 * 16 * 8 * (25 + 8) + 8 * 3,
}


def default_hp():
    return keras_tuner.HyperParameters()


def test_abstract_weights_count_published_flops_cheaply():
    """The float32 weights of ViT-B/16 are 346 MB, and initializing them takes seconds."""
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


def test_abstract_weights_restores_keras():
    keras.config.set_dtype_policy("mixed_bfloat16")
    with pytest.raises(ZeroDivisionError), abstract.abstract_weights():
        model = km.ViT("Ti/16", input_shape=(16, 16, 3), depth=1)
        _ = 1 / 0
    assert keras.config.dtype_policy().name == "mixed_bfloat16"
    with keras.StatelessScope():  # because it initializes all deferred weights at its end
        pass
    assert all(weight._value is None for weight in model.weights)


def test_cost_of_matches_built_model():
    assert tiny().cost_of(default_hp()) == DEFAULT_COST
    assert tiny().build(default_hp()).count_params() == DEFAULT_COST["params"]


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"max_params": 1130}, "1,131 parameters, over max_params=1,130"),
        ({"max_flops": 13_207}, "13,208 multiply-adds, over max_flops=13,207"),
        ({"max_params": 1131, "max_flops": 13_208}, None),
    ],
)
def test_build_checks_budget_before_weights(limits, reason, monkeypatch):
    initialized = []
    initialize = keras.Variable._initialize_with_initializer
    monkeypatch.setattr(
        keras.Variable,
        "_initialize_with_initializer",
        lambda self, initializer: initialized.append(self) or initialize(self, initializer),
    )
    space = tiny(**limits)
    model = space.build(default_hp())
    if reason is None:
        assert model.count_params() == DEFAULT_COST["params"]
        assert initialized
        return
    assert not [weight for weight in initialized if "metric" not in weight.path and weight.ndim]
    with pytest.raises(keras_tuner.errors.FailedTrialError, match=reason):
        space.fit(default_hp(), model)
    images, labels = np.zeros((1, 8, 8, 1)), np.zeros(1)
    for use in (model, model.predict, lambda x: model.fit(x, labels), model.evaluate):
        with pytest.raises(keras_tuner.errors.FailedTrialError, match=reason):
            use(images)


def search(space, folder, trials=4, **options):
    tuner = keras_tuner.RandomSearch(
        space, "val_accuracy", max_trials=trials, seed=1, directory=folder, **options
    )
    tuner.search(verbose=0)
    return tuner


def test_search_continues_if_all_trials_are_infeasible(tmp_path):
    """KerasTuner ends a search after three consecutive failures."""
    tuner = search(tiny(max_params=1), tmp_path, trials=5)
    assert len(tuner.oracle.trials) == 5
    assert {trial.status for trial in tuner.oracle.trials.values()} == {"FAILED"}
    reasons = km.tuning.infeasible(tuner)
    assert list(reasons) == list(tuner.oracle.trials)
    assert all(reason.endswith("parameters, over max_params=1") for reason in reasons.values())
    resumed = search(tiny(max_params=1), tmp_path, trials=7)
    assert len(km.tuning.infeasible(resumed)) == 7


def test_three_consecutive_errors_end_search(tmp_path, monkeypatch):
    """Infeasible trials before and between the errors do not count."""
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
    reason = f"out of memory \\({type(error).__name__}: "
    with pytest.raises(keras_tuner.errors.FailedTrialError, match=reason):
        space.fit(default_hp(), space.build(default_hp()))


def test_search_continues_after_out_of_memory(tmp_path, monkeypatch):
    tuner = keras_tuner.RandomSearch(tiny(), "val_accuracy", max_trials=5, directory=tmp_path)

    def build(**arguments):
        if arguments["depth"] > 1:
            raise MemoryError("1 TiB")
        return km.ConvMixer(**arguments)

    monkeypatch.setattr(tuner.hypermodel, "builder", build)
    monkeypatch.setattr(tuner.hypermodel, "cost_of", lambda _: DEFAULT_COST)  # within the budget
    tuner.search(verbose=0)
    reasons = km.tuning.infeasible(tuner)
    deep = [t for t in tuner.oracle.trials.values() if t.hyperparameters.values["depth"] > 1]
    assert list(reasons) == [trial.trial_id for trial in deep]
    assert set(reasons.values()) == {"out of memory (MemoryError: 1 TiB)"}


def test_other_errors_are_not_out_of_memory():
    with pytest.raises(ZeroDivisionError), memory.infeasible_if_out_of_memory():
        _ = 1 / 0


@pytest.mark.parametrize("runtime", ["keras", "onnxruntime"])
def test_latency_is_measured_in_chosen_runtime(runtime, monkeypatch):
    monkeypatch.setattr(km.tuning.HyperConvMixer, "_train", lambda *_: {"val_accuracy": 1.0})

    def fit(limit):
        space = km.tuning.HyperConvMixer(
            (8, 8, 1), 3, **{**TINY, "depth": 1}, max_latency_ms=limit, latency_of=runtime
        )
        return space.fit(default_hp(), space.build(default_hp()))

    assert fit(10_000) == {"val_accuracy": 1.0}
    with pytest.raises(keras_tuner.errors.FailedTrialError, match="ms an image, over max_latency"):
        fit(1e-6)
    monkeypatch.setattr(budget, "keras_latency", lambda _: 3)
    monkeypatch.setattr(budget, "onnxruntime_latency", lambda _: 7)
    milliseconds = {"keras": 3, "onnxruntime": 7}[runtime]
    with pytest.raises(keras_tuner.errors.FailedTrialError, match=f": {milliseconds} ms an image"):
        fit(milliseconds - 1)


def test_onnxruntime_latency_needs_tensorflow(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="`latency_of` must be 'keras' on other backends"):
        tiny(latency_of="onnxruntime")
