"""How a configuration is trained: batches, augmentation and schedule for each kind of data."""

import functools

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
from scored import TINY
from tensorflow.python.framework.ops import gradient_registry

import keras_mixers as km
from keras_mixers.tuning.space import recompile

IMAGES = np.random.default_rng(0).normal(size=(20, 8, 8, 1)).astype("float32")
LABELS = np.arange(20) % 3
SHIFTED = km.data.Augmentation(translation=0.1)


@pytest.fixture
def fitted(monkeypatch):
    """Replace `model.fit`, so that it trains nothing, and collect its arguments."""
    calls = []

    def fit(self, *data, **options):
        calls.append({"data": data, "schedule": self.optimizer._learning_rate, **options})
        return {"val_accuracy": 1.0}

    monkeypatch.setattr(keras.Model, "fit", fit)
    return calls


def make_space(**options):
    return km.tuning.HyperConvMixer((8, 8, 1), 3, **{**TINY, "depth": 1, **options})


def fit(space, *data, **options):
    hp = keras_tuner.HyperParameters()
    return space.fit(hp, space.build(hp), *data, **options)


def test_fit_divides_arrays_into_batches(fitted):
    space = make_space(batch_size=8, learning_rate=2e-3, warmup_fraction=0.25, schedule="linear")
    assert fit(space, IMAGES, LABELS, epochs=4, validation_data=(IMAGES, LABELS)) == {
        "val_accuracy": 1.0
    }
    (call,) = fitted
    assert call["batch_size"] == 8
    assert call["data"] == (IMAGES, LABELS)
    schedule = call["schedule"]
    assert (schedule.steps, schedule.warmup_steps) == (4 * 3, 3)
    assert (schedule.peak, schedule.shape) == (2e-3, "linear")
    fit(space, x=IMAGES, y=LABELS, validation_split=0.3, epochs=1)
    assert fitted[-1]["schedule"].steps == 2, "14 of the 20 images"
    fit(space, IMAGES, LABELS)
    assert fitted[-1]["schedule"].steps == 3, "one epoch is the default of Keras"


def test_fit_passes_configuration_to_load(fitted):
    requests = []

    def load(batch_size, augmentation):
        requests.append((batch_size, augmentation))
        return [1] * 7, "validation", "information"

    fit(make_space(batch_size=32, augmentation=SHIFTED), load=load, epochs=3)
    assert requests == [(32, SHIFTED)]
    (call,) = fitted
    assert call["data"] == ([1] * 7,)
    assert call["validation_data"] == "validation"
    assert call["shuffle"] is False
    assert call["schedule"].steps == 21


def test_fit_uses_batches_unchanged(fitted):
    batches = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(6)
    fit(make_space(), batches, validation_data=batches, epochs=2)
    assert fitted[-1]["data"] == (batches,)
    assert "batch_size" not in fitted[-1]
    assert fitted[-1]["schedule"].steps == 8
    fit(make_space(), batches.repeat(), steps_per_epoch=10)
    assert fitted[-1]["schedule"].steps == 10


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ((), {}, "search.. must be given the data"),
        (
            (IMAGES,),
            {"load": len},
            "`load` must be a function.*x, y, batch_size.*positional",
        ),
        ((), {"load": len, "validation_data": 1}, "must not be passed.*len.*with validation_data"),
        ((), {"load": "digits"}, "`load` must be a function.*'digits'"),
        ((iter([]),), {}, "must be given steps_per_epoch"),
        ((IMAGES, LABELS), {"batch_size": 5}, "`batch_size` must not be passed to search.*=5"),
    ],
)
def test_invalid_data_end_search(data, options, message, tmp_path):
    """The search raises an error. It does not fail one trial after the other."""
    tuner = keras_tuner.RandomSearch(make_space(), "val_accuracy", directory=tmp_path)
    with pytest.raises((TypeError, ValueError), match=message):
        tuner.search(*data, **options, verbose=0)


def test_recipe_sets_what_is_not_searched(fitted):
    recipe = km.Recipe(
        epochs=9, clip_norm=0.5, label_smoothing=0.1, model_arguments={"activation": "relu"}
    )
    space = make_space(recipe=recipe)
    hp = keras_tuner.HyperParameters()
    made = space.recipe_of(hp, epochs=5)
    assert (made.epochs, made.clip_norm, made.label_smoothing) == (5, 0.5, 0.1)
    assert (made.batch_size, made.weight_decay) == (16, 0.0)
    assert space.arguments_of(hp)["activation"] == "relu"
    assert space.build(hp).optimizer.clip_norm == 0.5


def test_built_model_has_constant_learning_rate():
    """The number of steps is unknown after `tuner.hypermodel.build(best)`."""
    model = make_space(learning_rate=1e-3, warmup_fraction=0.3).build(keras_tuner.HyperParameters())
    for step in (0, 100_000):
        model.optimizer.iterations.assign(step)
        assert float(model.optimizer.learning_rate) == pytest.approx(1e-3, rel=1e-3)


def test_recompile_keeps_moments_and_schedule():
    hp = keras_tuner.HyperParameters()
    space = make_space(recipe=km.Recipe(epochs=1, gradient_accumulation_steps=3))
    model = space.build(hp)
    for variable in model.optimizer.variables[1:]:
        variable.assign(np.full(variable.shape, 0.25))
    recompile(model, space.recipe_of(hp, epochs=9), steps=7, initial_epoch=3)
    assert int(model.optimizer.iterations) == 21 // 3  # updates of the weights
    assert model.optimizer._learning_rate.steps == 63
    for variable in model.optimizer.variables[1:]:
        assert np.all(np.asarray(variable) == 0.25) or variable.shape == ()


@pytest.mark.slow
def test_hyperband_on_digits(tmp_path, digits_folder):
    """A real search over all training quantities: two short trials, one of which is resumed."""
    size = {"patch_size": 2, "hidden_dim": 8, "depth": 1, "kernel_size": 3}
    # Without RandAugment, because tracing its graph takes seconds.
    augmentations = [SHIFTED, km.data.Augmentation()]
    space = km.tuning.HyperConvMixer((8, 8, 1), 10, augmentation=augmentations, **size)
    tuner = keras_tuner.Hyperband(
        space, "val_accuracy", max_epochs=2, factor=2, seed=2, directory=tmp_path
    )
    registered = len(gradient_registry.list())
    tuner.search(load=functools.partial(km.data.load, "digits"), verbose=0)
    assert len(gradient_registry.list()) == registered, "TensorFlow never releases these"
    trials = tuner.oracle.trials.values()
    assert {trial.status for trial in trials} == {"COMPLETED"}
    resumed = [trial for trial in trials if "tuner/trial_id" in trial.hyperparameters.values]
    assert resumed
    assert len({trial.hyperparameters.values["augmentation"] for trial in trials}) > 1
    best = tuner.get_best_hyperparameters()[0]
    assert space.recipe_of(best, epochs=2).batch_size == best.values["batch_size"]
    (model,) = tuner.get_best_models()
    _, test, _ = km.data.load("digits")
    assert model.evaluate(test, verbose=0)[1] == pytest.approx(
        max(trial.score for trial in trials), abs=1e-6
    )
