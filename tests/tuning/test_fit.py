"""How a point is trained: its batches, augmentation and schedule, whatever the data come as."""

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
    """What `model.fit` is given, which trains nothing."""
    calls = []

    def fit(self, *data, **options):
        calls.append({"data": data, "schedule": self.optimizer._learning_rate, **options})
        return {"val_accuracy": 1.0}

    monkeypatch.setattr(keras.Model, "fit", fit)
    return calls


def space(**more):
    return km.tuning.HyperConvMixer((8, 8, 1), 3, **{**TINY, "depth": 1, **more})


def fit(of, *data, **options):
    hp = keras_tuner.HyperParameters()
    return of.fit(hp, of.build(hp), *data, **options)


def test_arrays_are_cut_into_batches(fitted):
    of = space(batch_size=8, learning_rate=2e-3, warmup_fraction=0.25, schedule="linear")
    assert fit(of, IMAGES, LABELS, epochs=4, validation_data=(IMAGES, LABELS)) == {
        "val_accuracy": 1.0
    }
    (call,) = fitted
    assert call["batch_size"] == 8
    assert call["data"] == (IMAGES, LABELS)
    schedule = call["schedule"]
    assert (schedule.steps, schedule.warmup_steps) == (4 * 3, 3)
    assert (schedule.peak, schedule.shape) == (2e-3, "linear")
    fit(of, x=IMAGES, y=LABELS, validation_split=0.3, epochs=1)
    assert fitted[-1]["schedule"].steps == 2, "14 of the 20 images"
    fit(of, IMAGES, LABELS)
    assert fitted[-1]["schedule"].steps == 3, "one epoch, as Keras has it"


def test_load_is_asked_for_batches_of_the_point(fitted):
    asked = []

    def load(batch_size, augmentation):
        asked.append((batch_size, augmentation))
        return [1] * 7, "validation", "information"

    fit(space(batch_size=32, augmentation=SHIFTED), load=load, epochs=3)
    assert asked == [(32, SHIFTED)]
    (call,) = fitted
    assert call["data"] == ([1] * 7,)
    assert call["validation_data"] == "validation"
    assert call["shuffle"] is False
    assert call["schedule"].steps == 21


def test_batches_are_taken_as_they_are(fitted):
    batches = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(6)
    fit(space(), batches, validation_data=batches, epochs=2)
    assert fitted[-1]["data"] == (batches,)
    assert "batch_size" not in fitted[-1]
    assert fitted[-1]["schedule"].steps == 8
    fit(space(), batches.repeat(), steps_per_epoch=10)
    assert fitted[-1]["schedule"].steps == 10


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ((), {}, "search.. must be given the data"),
        ((IMAGES,), {"load": len}, "`load` must be a function.*x, y, batch.*must not be passed.*positional"),
        ((), {"load": len, "validation_data": 1}, "must not be passed.*len.*with validation_data"),
        ((), {"load": "digits"}, "`load` must be a function.*'digits'"),
        ((iter([]),), {}, "must be given steps_per_epoch"),
        ((IMAGES, LABELS), {"batch_size": 5}, "`batch_size` must not be passed to search.*=5"),
    ],
)
def test_wrong_data_end_the_search(data, options, message, tmp_path):
    """With a message, rather than as so many failed trials."""
    tuner = keras_tuner.RandomSearch(space(), "val_accuracy", directory=tmp_path)
    with pytest.raises((TypeError, ValueError), match=message):
        tuner.search(*data, **options, verbose=0)


def test_what_is_not_searched_comes_of_the_recipe(fitted):
    recipe = km.Recipe(
        epochs=9, clip_norm=0.5, label_smoothing=0.1, model_arguments={"activation": "relu"}
    )
    of = space(recipe=recipe)
    hp = keras_tuner.HyperParameters()
    made = of.recipe_of(hp, epochs=5)
    assert (made.epochs, made.clip_norm, made.label_smoothing) == (5, 0.5, 0.1)
    assert (made.batch_size, made.weight_decay) == (16, 0.0)
    assert of.arguments_of(hp)["activation"] == "relu"
    assert of.build(hp).optimizer.clip_norm == 0.5


def test_a_built_model_trains_before_its_steps_are_known():
    """As after `tuner.hypermodel.build(best)`: the rate stands, instead of coming to its end."""
    model = space(learning_rate=1e-3, warmup_fraction=0.3).build(keras_tuner.HyperParameters())
    for step in (0, 100_000):
        model.optimizer.iterations.assign(step)
        assert float(model.optimizer.learning_rate) == pytest.approx(1e-3, rel=1e-3)


def test_what_hyperband_goes_on_with_keeps_moments_and_schedule():
    hp = keras_tuner.HyperParameters()
    of = space()
    model = of.build(hp)
    for variable in model.optimizer.variables[1:]:
        variable.assign(np.full(variable.shape, 0.25))
    recompile(model, of.recipe_of(hp, epochs=9), steps=7, initial_epoch=3)
    assert int(model.optimizer.iterations) == 21
    assert model.optimizer._learning_rate.steps == 63
    for variable in model.optimizer.variables[1:]:
        assert np.all(np.asarray(variable) == 0.25) or variable.shape == ()


def test_hyperband_on_digits(tmp_path, digits_folder):
    """All of it in earnest, with all that is searched: two short trials, of which one goes on."""
    size = {"patch_size": 2, "hidden_dim": 8, "depth": 1, "kernel_size": 3}
    some = [SHIFTED, km.data.Augmentation()]  # without RandAugment, whose graph takes seconds
    of = km.tuning.HyperConvMixer((8, 8, 1), 10, augmentation=some, **size)
    tuner = keras_tuner.Hyperband(
        of, "val_accuracy", max_epochs=2, factor=2, seed=2, directory=tmp_path
    )
    remembered = len(gradient_registry.list())
    tuner.search(load=functools.partial(km.data.load, "digits"), verbose=0)
    assert len(gradient_registry.list()) == remembered, "TensorFlow keeps what is there for ever"
    trials = tuner.oracle.trials.values()
    assert {trial.status for trial in trials} == {"COMPLETED"}
    went_on = [trial for trial in trials if "tuner/trial_id" in trial.hyperparameters.values]
    assert went_on
    assert len({trial.hyperparameters.values["augmentation"] for trial in trials}) > 1
    best = tuner.get_best_hyperparameters()[0]
    assert of.recipe_of(best, epochs=2).batch_size == best.values["batch_size"]
    (model,) = tuner.get_best_models()
    _, test, _ = km.data.load("digits")
    assert model.evaluate(test, verbose=0)[1] == pytest.approx(
        max(trial.score for trial in trials), abs=1e-6
    )
