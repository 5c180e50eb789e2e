"""Callbacks of Keras in a training that a recipe compiled, and training beyond the recipe."""

import keras
import numpy as np
import pytest

import keras_mixers as km

pytestmark = pytest.mark.backends

BATCHES = 2
CALLBACKS = keras.callbacks
# {id: a function `folder -> callback`}, as tutorials write them.
MADE = {
    "EarlyStopping": lambda folder: CALLBACKS.EarlyStopping(
        "val_accuracy", patience=1, restore_best_weights=True
    ),
    "EarlyStopping on accuracy": lambda folder: CALLBACKS.EarlyStopping("accuracy"),
    "EarlyStopping on val_loss": lambda folder: CALLBACKS.EarlyStopping(),
    "ModelCheckpoint": lambda folder: CALLBACKS.ModelCheckpoint(
        folder / "best.keras", "val_accuracy", save_best_only=True
    ),
    "ModelCheckpoint of weights": lambda folder: CALLBACKS.ModelCheckpoint(
        folder / "best.weights.h5", "val_accuracy", save_best_only=True, save_weights_only=True
    ),
    "ModelCheckpoint by steps": lambda folder: CALLBACKS.ModelCheckpoint(
        str(folder / "{epoch}-{accuracy:.2f}.keras"), save_freq=3
    ),
    "ReduceLROnPlateau": lambda folder: CALLBACKS.ReduceLROnPlateau("val_accuracy", patience=1),
    "LearningRateScheduler": lambda folder: CALLBACKS.LearningRateScheduler(
        lambda epoch, rate: rate if epoch < 1 else rate * 0.9
    ),
    "TensorBoard": lambda folder: CALLBACKS.TensorBoard(folder / "logs", histogram_freq=1),
    "CSVLogger": lambda folder: CALLBACKS.CSVLogger(folder / "log.csv"),
    "BackupAndRestore": lambda folder: CALLBACKS.BackupAndRestore(folder / "restored"),
    "TerminateOnNaN": lambda folder: CALLBACKS.TerminateOnNaN(),
    "LambdaCallback": lambda folder: CALLBACKS.LambdaCallback(on_epoch_end=lambda *_: None),
    "RemoteMonitor": lambda folder: CALLBACKS.RemoteMonitor("http://127.0.0.1:9"),
    "SwapEMAWeights": lambda folder: CALLBACKS.SwapEMAWeights(),
    "ProgbarLogger": lambda folder: CALLBACKS.ProgbarLogger(),
    "History": lambda folder: CALLBACKS.History(),
    "Backup": lambda folder: km.training.Backup(folder / "backup.weights.h5"),
}
# They read the optimizer or the traced steps when the training begins.
NEED_A_NEW_MODEL = {"TensorBoard", "BackupAndRestore", "Backup", "SwapEMAWeights"}


def images_and_labels():
    random = np.random.RandomState(0)
    images = random.randn(16, 4).astype("float32")
    return images, (images[:, 0] > 0).astype("int64")


def compiled(**values):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    recipe = km.Recipe(**{"epochs": 3, "learning_rate": 0.1, **values})
    recipe.compile(model, BATCHES)
    return model


def fit(model, *callbacks, epochs=3, **arguments):
    data = images_and_labels()
    arguments = {"validation_data": data, "verbose": 0, **arguments}
    return model.fit(
        *data, epochs=epochs, batch_size=8, callbacks=list(callbacks), **arguments
    ).history


@pytest.fixture(scope="module")
def traced():
    """A compiled model after its first training, and the values of all its variables before."""
    model = compiled(ema_decay=0.9)
    model.optimizer.build(model.trainable_variables)
    start = [variable.numpy().copy() for variable in variables_of(model)]
    fit(model, epochs=2)
    return model, start


def variables_of(model):
    return [*model.variables, *model.optimizer.variables]


@pytest.fixture
def untrained(traced):
    """One model for all callbacks, as new, because tracing takes most of the time of a training."""
    model, start = traced
    for variable, value in zip(variables_of(model), start, strict=True):
        variable.assign(value)
    return model


@pytest.mark.parametrize("name", MADE)
@pytest.mark.filterwarnings("ignore:Could not reach RemoteMonitor")
def test_keras_callback_accepts_compiled_recipe(name, untrained, tmp_path):
    callback = MADE[name](tmp_path)
    model = compiled(ema_decay=0.9) if name in NEED_A_NEW_MODEL else untrained
    assert "val_accuracy" in fit(model, callback, epochs=2)


def test_every_keras_callback_is_tested():
    excluded = {"Callback", "CallbackList", "OrbaxCheckpoint"}
    names = {name for name, value in vars(CALLBACKS).items() if isinstance(value, type)}
    assert names - excluded == {name.split()[0] for name in MADE} - {"Backup"}


def test_callback_maximizes_accuracy(tmp_path):
    stop = CALLBACKS.EarlyStopping("val_accuracy")
    fit(compiled(), stop, epochs=1)
    assert stop.monitor_op is keras.ops.greater


def test_reduce_lr_on_plateau_scales_rate_of_schedule():
    reduce = CALLBACKS.ReduceLROnPlateau("val_accuracy", factor=0.5, patience=1, min_delta=2)
    model = compiled()
    rates = fit(model, reduce)["learning_rate"]
    undisturbed = fit(compiled(), CALLBACKS.LearningRateScheduler(lambda epoch, rate: rate))
    assert rates[:2] == undisturbed["learning_rate"][:2]
    assert rates[2] == pytest.approx(rates[1] / 2)
    assert float(model.optimizer.learning_rate) == pytest.approx(rates[2] / 2)


def test_learning_rate_scheduler_sets_rate_of_each_step():
    model = compiled(weight_decay=0.0)
    rates = fit(model, CALLBACKS.LearningRateScheduler(lambda epoch: 0.01 / (epoch + 1)))
    np.testing.assert_allclose(rates["learning_rate"], [0.01, 0.005, 0.01 / 3], rtol=1e-6)
    before = model.get_weights()
    fit(model, CALLBACKS.LearningRateScheduler(lambda epoch: 0.0), epochs=1)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_assigned_learning_rate_is_saved(tmp_path):
    model = compiled()
    model.optimizer.learning_rate = 0.03
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert float(loaded.optimizer.learning_rate) == pytest.approx(0.03)
    loaded.optimizer.learning_rate = km.training.WarmUp(0.5, 100)
    assert float(loaded.optimizer.learning_rate) == pytest.approx(0.5, rel=1e-2)
    with pytest.raises(ValueError, match="`learning_rate` must be.*-1"):
        loaded.optimizer.learning_rate = -1.0


def test_optimizer_loads_state_without_assigned_rate():
    """Files of version 0.1.0 have one variable fewer."""
    model = compiled()
    fit(model, epochs=1)
    optimizer = model.optimizer
    old = [v for v in optimizer.variables if v is not optimizer.assigned_rate]
    saved = {str(i): variable.numpy() for i, variable in enumerate(old)}
    other = compiled().optimizer
    other.load_own_variables(saved)
    for one, two in zip(optimizer.variables, other.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())


def test_fit_beyond_the_schedule_warns():
    model = compiled()
    fit(model)
    with pytest.warns(UserWarning, match=r"trained for 12 steps, but .* 6 steps.* was 0\. .*again"):
        fit(model)
    with pytest.warns(UserWarning, match="schedule has 6 steps"):
        fit(model, epochs=1)
    km.Recipe(epochs=3).compile(model, BATCHES)
    fit(model)
    fit(model, CALLBACKS.LearningRateScheduler(lambda epoch: 0.01), epochs=1)
