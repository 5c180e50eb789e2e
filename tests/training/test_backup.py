"""A training that is broken off ends with the weights it would have had."""

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


class Broken(Exception):
    pass


class At(keras.callbacks.Callback):
    """Do something after a number of steps."""

    def __init__(self, step, action):
        super().__init__()
        self.left, self.action = step, action

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            self.action()


def break_off():
    raise Broken


def linear(info):
    """A model that is compiled quickly, for all that does not depend on the model."""
    flat = keras.layers.Flatten()
    return keras.Sequential([keras.Input(info.input_shape), flat, keras.layers.Dense(10)])


def with_draws(info):
    """A model with all that a step may change: draws, moving averages."""
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


def train(backup, *callbacks, build=linear, poison=False, judged=False):
    """The whole training, or what is left of it."""
    mixed = km.data.Augmentation(translation=0.1, mixup=0.2)
    batches, test, info = km.data.load(
        "digits",
        augmentation=mixed if build is with_draws else None,
        start=(backup.epoch, backup.batch),
    )
    if poison:
        batches = batches.map(lambda images, labels: (images * np.nan, labels))
    keras.utils.set_random_seed(0)
    model = build(info)
    RECIPE.compile(model, BATCHES)
    going_on = {"initial_epoch": backup.epoch, "callbacks": [backup, *callbacks]}
    if judged:
        going_on["validation_data"] = test
    model.fit(batches, epochs=RECIPE.epochs, shuffle=False, verbose=0, **going_on)
    return model


@pytest.fixture(autouse=True)
def interrupts():
    """Ctrl-C does what it does by default, also where the suite was started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def path(tmp_path, digits_folder):
    return tmp_path / "backup.weights.h5"


def test_it_goes_on_from_an_epoch_s_end_and_from_within_one(path, tmp_path):
    whole = km.training.Backup(tmp_path / "whole.weights.h5")
    expected = train(whole, build=with_draws)
    for steps, stood in ((30, (1, 5)), (26, (2, 5))):  # and the third part, to the end
        with pytest.raises(Broken):
            train(km.training.Backup(path, every=5), At(steps, break_off), build=with_draws)
        backup = km.training.Backup(path)
        assert (backup.epoch, backup.batch) == stood
    backup = km.training.Backup(path, every=5)
    found = train(backup, build=with_draws)
    assert (backup.epoch, backup.batch) == (3, 0)
    for name, values in whole.history.items():
        assert len(values) == len(backup.history[name]) == 3
        assert backup.history[name][0] == pytest.approx(values[0], rel=1e-5)
    for one, other in zip(expected.weights, found.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-6, err_msg=one.path)
    for one, other in zip(expected.optimizer.variables, found.optimizer.variables, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-6, err_msg=one.path)


def test_a_training_that_has_ended_goes_on_to_nothing(path):
    trained = train(km.training.Backup(path))
    again = train(km.training.Backup(path))
    for one, other in zip(trained.weights, again.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-6, err_msg=one.path)


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_signal_saves_and_ends(number, error, path, capsys):
    before = signal.getsignal(number)
    with pytest.raises(error):
        train(km.training.Backup(path), At(30, lambda: os.kill(os.getpid(), number)))
    assert signal.getsignal(number) is before
    backup = km.training.Backup(path)
    # Backup comes first among the callbacks: it sees the signal after the next step.
    assert (backup.epoch, backup.batch) == (1, 30 - BATCHES + 1)
    assert "Ending this step, then saving" in capsys.readouterr().err


def test_a_signal_while_the_model_is_judged_saves_the_epoch(path):
    class WhenJudged(keras.callbacks.Callback):
        def on_test_begin(self, logs=None):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as end:
        train(km.training.Backup(path), WhenJudged(), judged=True)
    assert end.value.code == 128 + signal.SIGTERM
    backup = km.training.Backup(path)
    assert (backup.epoch, backup.batch) == (1, 0)
    assert "val_loss" in backup.history


def test_a_signal_after_a_training_that_failed_is_the_process_s(path):
    with pytest.raises(Broken):
        train(km.training.Backup(path), At(3, break_off))
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)


def test_the_last_batch_of_an_epoch_is_saved_as_its_end(path):
    with pytest.raises(Broken):
        train(km.training.Backup(path, every=BATCHES - 3), At(BATCHES, break_off))
    assert not path.exists(), "nothing stands between an epoch's last batches and its end"
    with pytest.raises(Broken):
        train(km.training.Backup(path, every=BATCHES - 4), At(BATCHES, break_off))
    backup = km.training.Backup(path)
    assert (backup.epoch, backup.batch) == (0, BATCHES - 4)
    train(backup)
    assert len(backup.history["loss"]) == 3


def test_it_must_begin_where_the_file_stands(path):
    train(km.training.Backup(path))
    begun = km.training.Backup(path.with_name("none.weights.h5"))  # `train` begins at its epoch
    with pytest.raises(ValueError, match="`initial_epoch` must be 3 in `fit`.*initial_epoch=0"):
        train(begun, km.training.Backup(path))


def test_half_precision_goes_on_too(path):
    """The optimizer has one around it there, which scales the loss."""

    keras.config.set_dtype_policy("mixed_float16")
    expected = train(km.training.Backup(path.with_name("whole.weights.h5")))
    assert "LossScale" in type(expected.optimizer).__name__
    with pytest.raises(Broken):
        train(km.training.Backup(path, every=5), At(30, break_off))
    found = train(km.training.Backup(path))
    for one, other in zip(expected.weights, found.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-4, err_msg=one.path)


def test_a_second_signal_stops_at_once(path):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)  # or the two could be seen as one
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(km.training.Backup(path), At(3, twice))
    assert not path.exists()


def test_handlers_are_those_of_before(path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    train(km.training.Backup(path))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_loss_that_is_no_number_stops_before_it_is_saved(path):
    with pytest.raises(Broken):
        train(km.training.Backup(path, every=4), At(6, break_off))
    good = path.read_bytes()
    with pytest.raises(FloatingPointError, match=r"the loss is nan at step 5 \(epoch 1, batch 5\)"):
        train(km.training.Backup(path, every=1), poison=True)
    assert path.read_bytes() == good


def test_the_file_is_never_half(path, monkeypatch):
    with pytest.raises(Broken):
        train(km.training.Backup(path, every=4), At(6, break_off))
    good = path.read_bytes()

    def half(model, file):
        file.write_bytes(b"half")
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "save_weights", half)
        with pytest.raises(OSError, match="no space left"):
            train(km.training.Backup(path, every=4))
    assert path.read_bytes() == good
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_what_a_kill_left_is_cleared_away(path):
    cut = path.parent / f".{path.name}-abc"
    cut.mkdir()
    (cut / path.name).write_bytes(b"half")
    other = path.parent / ".another.weights.h5-abc"
    other.mkdir()
    assert km.training.Backup(path).epoch == 0
    assert list(path.parent.iterdir()) == [other]


def test_files_that_will_not_do_are_named(path, tmp_path):
    with pytest.raises(ValueError, match=r"`path` must end in '.weights.h5'.*backup.h5"):
        km.training.Backup("backup.h5")
    with pytest.raises(ValueError, match="`every` must.*0"):
        km.training.Backup(path, every=0)
    path.write_bytes(b"no file of ours")
    with pytest.raises(ValueError, match="`path` must be a file that a Backup wrote.*backup"):
        km.training.Backup(path)
    with h5py.File(path, "w"):
        pass
    with pytest.raises(ValueError, match="`path` must be a file that a Backup wrote.*backup"):
        km.training.Backup(path)
    path.unlink()
    train(km.training.Backup(path))
    with pytest.raises(ValueError, match="`path` must be a backup of this model.*backup"):
        train(km.training.Backup(path), build=with_draws)


def test_within_an_epoch_the_length_of_a_pass_must_be_known(path):
    with pytest.raises(Broken):
        train(km.training.Backup(path, every=4), At(6, break_off))
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    endless = ((np.zeros((1, 2)), np.zeros((1, 1))) for _ in iter(int, 1))
    with pytest.raises(ValueError, match="`path` must hold the end of an epoch where.*epoch 1"):
        model.fit(endless, shuffle=False, verbose=0, callbacks=[km.training.Backup(path)])
