"""Backup: interrupted and resumed training ends with the weights of uninterrupted training."""

import os
import signal
import time

import h5py
import keras
import numpy as np
import pytest

import keras_mixers as km

RECIPE = km.Recipe(epochs=3, batch_size=64, learning_rate=1e-2, clip_norm=1.0, ema_decay=0.9)
BATCHES = 23


class Interrupted(Exception):
    pass


class AfterSteps(keras.callbacks.Callback):
    """Call `action` after a number of steps."""

    def __init__(self, steps, action):
        super().__init__()
        self.steps_left, self.action = steps, action

    def on_train_batch_end(self, batch, logs=None):
        self.steps_left -= 1
        if self.steps_left == 0:
            self.action()


def interrupt():
    raise Interrupted


def linear(info):
    """A model that compiles quickly, for tests that do not depend on the model."""
    flat = keras.layers.Flatten()
    return keras.Sequential([keras.Input(info.input_shape), flat, keras.layers.Dense(10)])


def with_random_layers(info):
    """A model with all kinds of state that a step changes: seeds and moving statistics."""
    mixing = km.layers.ChannelMixing(8, dropout_rate=0.1)
    return keras.Sequential(
        [
            keras.Input(info.input_shape),
            km.layers.PatchEmbed(8, 8),
            km.layers.Residual(mixing, stochastic_depth_rate=0.3),
            keras.layers.BatchNormalization(),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(10),
        ]
    )


def train(backup, *callbacks, build=linear, with_nan=False, validate=False):
    """Train from the backup's position to the end."""
    mixed = km.data.Augmentation(translation=0.1, mixup=0.2)
    batches, test, info = km.data.load(
        "digits",
        augmentation=mixed if build is with_random_layers else None,
        start=(backup.epoch, backup.batch),
    )
    if with_nan:
        batches = batches.map(lambda images, labels: (images * np.nan, labels))
    keras.utils.set_random_seed(0)
    model = build(info)
    RECIPE.compile(model, BATCHES)
    arguments = {"initial_epoch": backup.epoch, "callbacks": [backup, *callbacks]}
    if validate:
        arguments["validation_data"] = test
    model.fit(batches, epochs=RECIPE.epochs, shuffle=False, verbose=0, **arguments)
    return model


@pytest.fixture(autouse=True)
def default_interrupt_handler():
    """Restore the default Ctrl-C handler, which a suite started in the background does not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def path(tmp_path, digits_folder):
    return tmp_path / "backup.weights.h5"


@pytest.mark.slow
def test_backup_resumes_within_and_between_epochs(path, tmp_path):
    whole = km.training.Backup(tmp_path / "whole.weights.h5")
    expected = train(whole, build=with_random_layers)
    for steps, position in ((30, (1, 5)), (26, (2, 5))):  # the third run reaches the end
        with pytest.raises(Interrupted):
            backup = km.training.Backup(path, every=5)
            train(backup, AfterSteps(steps, interrupt), build=with_random_layers)
        backup = km.training.Backup(path)
        assert (backup.epoch, backup.batch) == position
    backup = km.training.Backup(path, every=5)
    found = train(backup, build=with_random_layers)
    assert (backup.epoch, backup.batch) == (3, 0)
    for name, values in whole.history.items():
        assert len(values) == len(backup.history[name]) == 3
        assert backup.history[name][0] == pytest.approx(values[0], rel=1e-5)
    for one, other in zip(expected.weights, found.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-6, err_msg=one.path)
    for one, other in zip(expected.optimizer.variables, found.optimizer.variables, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-6, err_msg=one.path)


def test_backup_of_finished_training_changes_nothing(path):
    trained = train(km.training.Backup(path))
    again = train(km.training.Backup(path))
    for one, other in zip(trained.weights, again.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-6, err_msg=one.path)


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_signal_saves_and_ends_process(number, error, path, capsys):
    before = signal.getsignal(number)
    with pytest.raises(error):
        train(km.training.Backup(path), AfterSteps(30, lambda: os.kill(os.getpid(), number)))
    assert signal.getsignal(number) is before
    backup = km.training.Backup(path)
    # Backup is the first callback, so it sees the signal only after the next step.
    assert (backup.epoch, backup.batch) == (1, 30 - BATCHES + 1)
    assert "Finishing this step, then saving" in capsys.readouterr().err


def test_signal_during_validation_saves_epoch(path):
    class SignalInValidation(keras.callbacks.Callback):
        def on_test_begin(self, logs=None):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as end:
        train(km.training.Backup(path), SignalInValidation(), validate=True)
    assert end.value.code == 128 + signal.SIGTERM
    backup = km.training.Backup(path)
    assert (backup.epoch, backup.batch) == (1, 0)
    assert "val_loss" in backup.history


def test_signal_after_failed_fit_reaches_previous_handler(path):
    with pytest.raises(Interrupted):
        train(km.training.Backup(path), AfterSteps(3, interrupt))
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)


@pytest.mark.slow
def test_last_batches_save_only_at_epoch_end(path):
    with pytest.raises(Interrupted):
        train(km.training.Backup(path, every=BATCHES - 3), AfterSteps(BATCHES, interrupt))
    assert not path.exists(), "nothing is saved between the last batches of an epoch and its end"
    with pytest.raises(Interrupted):
        train(km.training.Backup(path, every=BATCHES - 4), AfterSteps(BATCHES, interrupt))
    backup = km.training.Backup(path)
    assert (backup.epoch, backup.batch) == (0, BATCHES - 4)
    train(backup)
    assert len(backup.history["loss"]) == 3


def test_fit_raises_on_wrong_initial_epoch(path):
    train(km.training.Backup(path))
    # `train` passes the epoch of its first argument, which is 0 without a file.
    empty = km.training.Backup(path.with_name("none.weights.h5"))
    with pytest.raises(ValueError, match="`initial_epoch` must be 3 in `fit`.*initial_epoch=0"):
        train(empty, km.training.Backup(path))


@pytest.mark.slow
def test_backup_resumes_in_float16(path):
    """Keras wraps the optimizer in a `LossScaleOptimizer` there."""
    keras.config.set_dtype_policy("mixed_float16")
    expected = train(km.training.Backup(path.with_name("whole.weights.h5")))
    assert "LossScale" in type(expected.optimizer).__name__
    with pytest.raises(Interrupted):
        train(km.training.Backup(path, every=5), AfterSteps(30, interrupt))
    found = train(km.training.Backup(path))
    for one, other in zip(expected.weights, found.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-4, err_msg=one.path)


def test_second_signal_stops_at_once(path):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)  # because Python may merge two pending signals
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(km.training.Backup(path), AfterSteps(3, twice))
    assert not path.exists()


def test_fit_restores_signal_handlers(path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    train(km.training.Backup(path))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_nan_loss_stops_before_saving(path):
    with pytest.raises(Interrupted):
        train(km.training.Backup(path, every=4), AfterSteps(6, interrupt))
    good = path.read_bytes()
    with pytest.raises(FloatingPointError, match=r"the loss is nan at step 5 \(epoch 1, batch 5\)"):
        train(km.training.Backup(path, every=1), with_nan=True)
    assert path.read_bytes() == good


def test_failed_save_keeps_previous_file(path, monkeypatch):
    with pytest.raises(Interrupted):
        train(km.training.Backup(path, every=4), AfterSteps(6, interrupt))
    good = path.read_bytes()

    def save_half(model, file):
        file.write_bytes(b"half")
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "save_weights", save_half)
        with pytest.raises(OSError, match="no space left"):
            train(km.training.Backup(path, every=4))
    assert path.read_bytes() == good
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_backup_removes_temporary_folder_of_killed_process(path):
    killed = path.parent / f".{path.name}-abc"
    killed.mkdir()
    (killed / path.name).write_bytes(b"half")
    other = path.parent / ".another.weights.h5-abc"
    other.mkdir()
    assert km.training.Backup(path).epoch == 0
    assert list(path.parent.iterdir()) == [other]


def test_backup_raises_on_invalid_file(path, tmp_path):
    with pytest.raises(ValueError, match=r"`path` must end in '.weights.h5'.*backup.h5"):
        km.training.Backup("backup.h5")
    with pytest.raises(ValueError, match="`every` must.*0"):
        km.training.Backup(path, every=0)
    path.write_bytes(b"another kind of file")
    with pytest.raises(ValueError, match="`path` must be a file that a Backup wrote.*backup"):
        km.training.Backup(path)
    with h5py.File(path, "w"):
        pass
    with pytest.raises(ValueError, match="`path` must be a file that a Backup wrote.*backup"):
        km.training.Backup(path)
    path.unlink()
    train(km.training.Backup(path))
    with pytest.raises(ValueError, match="`path` must be a backup of this model.*backup"):
        train(km.training.Backup(path), build=with_random_layers)


def test_resume_within_epoch_needs_known_length(path):
    with pytest.raises(Interrupted):
        train(km.training.Backup(path, every=4), AfterSteps(6, interrupt))
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    endless = ((np.zeros((1, 2)), np.zeros((1, 1))) for _ in iter(int, 1))
    with pytest.raises(ValueError, match="`path` must be a backup of the end of an epoch.*epoch 1"):
        model.fit(endless, shuffle=False, verbose=0, callbacks=[km.training.Backup(path)])
