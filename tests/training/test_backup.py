"""Backup: interrupted and resumed training ends with the weights of uninterrupted training."""

import errno
import json
import os
import signal
import time

import h5py
import keras
import numpy as np
import pytest

import keras_mixers as km
from keras_mixers.files import replacing
from keras_mixers.training import backup_file

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
            keras.layers.Dropout(0.1),  # Keras does not save its seed
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
    (tmp_path / "{}").mkdir()  # a name that must not be taken for a place in a message
    return tmp_path / "{}" / "backup.weights.h5"


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory, digits_folder):
    """The content of a backup after batch 4 of the first epoch of `train`."""
    path = tmp_path_factory.mktemp("interrupted") / "backup.weights.h5"
    with pytest.raises(Interrupted):
        train(km.training.Backup(path, every=4), AfterSteps(6, interrupt))
    return path.read_bytes()


@pytest.fixture(scope="module")
def one_epoch(tmp_path_factory):
    """The content of a backup after one epoch of `small_model`."""
    path = tmp_path_factory.mktemp("one_epoch") / "backup.weights.h5"
    fit(small_model(), path, epochs=1)
    return path.read_bytes()


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


def test_backup_resumes_arrays_within_an_epoch(path):
    random = np.random.RandomState(0)
    data = random.randint(0, 256, (80, 3, 3, 1)).astype("uint8"), np.arange(80) % 10, np.arange(80)

    def train_arrays(backup, *callbacks):
        batches, _, info = km.data.prepare(
            data,
            batch_size=8,
            augmentation=km.data.Augmentation(mixup=1.0),
            class_weight={3: 2.0},
            start=(backup.epoch, backup.batch),
        )
        keras.utils.set_random_seed(0)
        model = linear(info)
        km.Recipe(epochs=2, learning_rate=1e-2).compile(model, len(batches))
        arguments = {"initial_epoch": backup.epoch, "callbacks": [backup, *callbacks]}
        model.fit(batches, epochs=2, shuffle=False, verbose=0, **arguments)
        return model

    expected = train_arrays(km.training.Backup(path.with_name("whole.weights.h5")))
    with pytest.raises(Interrupted):
        train_arrays(km.training.Backup(path, every=2), AfterSteps(13, interrupt))
    backup = km.training.Backup(path)
    assert (backup.epoch, backup.batch) == (1, 4)
    found = train_arrays(backup)
    for one, other in zip(expected.weights, found.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-6, err_msg=one.path)


def test_backup_of_finished_training_changes_nothing(path):
    trained, again = small_model(), small_model()
    fit(trained, path)
    fit(again, path)
    for one, other in zip(trained.weights, again.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-6, err_msg=one.path)


def test_backup_of_each_stage_resumes_fine_tuning(tmp_path, digits_folder):
    """The head by SGD, then all layers: killed in the second stage, then resumed."""
    options = {"optimizer": "sgd", "learning_rate": 0.1, "ema_decay": 0.5}
    recipe = km.Recipe(epochs=2, head_epochs=1, **options)

    def finetune(folder, *callbacks):
        keras.utils.set_random_seed(0)
        pool, head = keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(10)
        model = keras.Sequential([keras.Input((8, 8, 1)), km.layers.PatchEmbed(4, 8), pool, head])
        for number, stage in enumerate(recipe.stages(BATCHES)):
            backup = km.training.Backup(folder / f"{number}.weights.h5")
            start = (backup.epoch, backup.batch)
            train, _, _ = km.data.load("digits", image_size=8, start=start)
            stage.compile(model, BATCHES)
            options = {"initial_epoch": backup.epoch, "epochs": stage.epochs, "shuffle": False}
            model.fit(train, callbacks=[backup, *callbacks], verbose=0, **options)
        return model

    expected = finetune(tmp_path / "whole")
    with pytest.raises(Interrupted):
        finetune(tmp_path / "resumed", AfterSteps(2 * BATCHES + 5, interrupt))
    found = finetune(tmp_path / "resumed")
    for one, other in zip(expected.variables, found.variables, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-6, err_msg=one.path)
    for one, other in zip(expected.optimizer.variables, found.optimizer.variables, strict=True):
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


@pytest.mark.backends
def test_signal_within_first_step_of_validation_saves_epoch(tmp_path):
    """On JAX, the model has no weights within a step."""
    validates = []

    def loss(labels, outputs):
        if validates:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)  # so that Python calls the handler here
            validates.clear()
        return keras.losses.mean_squared_error(labels, outputs)

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", loss)
    data, path = (np.ones((4, 2)), np.ones((4, 1))), tmp_path / "backup.weights.h5"
    begin = keras.callbacks.LambdaCallback(on_test_begin=lambda logs: validates.append(True))
    with pytest.raises(SystemExit) as end:
        callbacks = [km.training.Backup(path), begin]
        model.fit(*data, validation_data=data, callbacks=callbacks, verbose=0)
    assert end.value.code == 128 + signal.SIGTERM
    assert km.training.Backup(path).epoch == 1


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
    model = small_model()
    fit(model, path)
    with pytest.raises(ValueError, match="`initial_epoch` must be 2 in `fit`.*initial_epoch=0"):
        model.fit(np.ones((4, 2)), np.zeros(4), verbose=0, callbacks=[km.training.Backup(path)])


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
    fit(small_model(), path)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_nan_loss_stops_before_saving(path, interrupted):
    path.write_bytes(interrupted)
    with pytest.raises(FloatingPointError, match=r"the loss is nan at step 5 \(epoch 1, batch 5\)"):
        train(km.training.Backup(path, every=1), with_nan=True)
    assert path.read_bytes() == interrupted


def test_failed_save_keeps_previous_file(path, interrupted, monkeypatch):
    path.write_bytes(interrupted)
    monkeypatch.setattr(backup_file, "trailer", full_disk)
    with pytest.raises(OSError, match="No space left.*backup.weights.h5"):
        backup_file.write(path, linear(km.data.load("digits")[2]), backup_file.Progress())
    assert path.read_bytes() == interrupted
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def full_disk(content):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_file_size_limit_raises_and_keeps_previous_file(path, limited_files):
    """A limit on the size of files has the effect of a full disk, and must not end the process."""
    model = keras.Sequential([keras.Input((9,)), keras.layers.Dense(900)])
    model.compile("adam", "mse")
    data = np.zeros((8, 9)), np.zeros((8, 900))
    path.write_bytes(b"")
    path.unlink()
    with limited_files(2_000), pytest.raises(OSError, match="File too large") as caught:
        model.fit(*data, verbose=0, callbacks=[km.training.Backup(path)])
    assert caught.value.filename == str(path)
    assert not list(path.parent.iterdir())


def test_constructor_and_position_write_nothing(path):
    """A second process that reads the position does not disturb the process that saves."""
    with replacing(path) as temporary:
        temporary.write_bytes(b"half")
        backup = km.training.Backup(path)
        assert (backup.epoch, backup.batch, backup.history) == (0, 0, {})
        assert temporary.read_bytes() == b"half"
    with pytest.raises(ValueError, match="`path` must be a file that a Backup wrote"):
        km.training.Backup(path)


def test_backup_raises_on_invalid_argument(path):
    with pytest.raises(ValueError, match=r"`path` must end in '.weights.h5'.*backup.h5"):
        km.training.Backup("backup.h5")
    with pytest.raises(TypeError, match="`path` must be a string or a path"):
        km.training.Backup(object())
    with pytest.raises(ValueError, match="`every` must.*0"):
        km.training.Backup(path, every=0)


def small_model(units=3):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(units)])
    km.Recipe(epochs=2, ema_decay=0.9).compile(model, 4)
    model.run_eagerly = True  # because tracing takes longer than a few steps
    return model


def fit(model, path, epochs=2, **arguments):
    backup = km.training.Backup(path, **arguments)
    data = np.ones((16, 2), "float32"), np.arange(16) % 3
    model.fit(
        *data,
        epochs=epochs,
        initial_epoch=backup.epoch,
        batch_size=4,
        verbose=0,
        callbacks=[backup],
    )
    return backup


def state(model):
    return [v.numpy().copy() for v in [*model.variables, *model.optimizer.variables]]


def rewrite(path, change):
    """Change the HDF5 file, and give it the right digest."""
    _, content = backup_file.read(path)
    with h5py.File(content, "r+") as file:
        change(file)
    content = content.getbuffer()
    path.write_bytes(bytes(content) + backup_file.trailer(content))


def test_backup_with_any_damage_raises_and_loads_nothing(path, one_epoch):
    good = one_epoch
    path.write_bytes(good)
    random = np.random.RandomState(0)
    flipped = [
        (i, bytes([good[i] ^ 1 << random.randint(8)])) for i in random.randint(len(good), size=40)
    ]
    damaged = [good[:i] + byte + good[i + 1 :] for i, byte in flipped]
    damaged += [good[:-1], good[: len(good) // 2], b"", good + b"more", b"another kind of file"]
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(ValueError, match="`path` must be a file that a Backup.*backup.weights"):
            km.training.Backup(path)
    backup = km.training.Backup(path.with_name("other.weights.h5"))
    backup.path, model = path, small_model()
    before = state(model)
    with pytest.raises(ValueError, match="its digest differs"):
        model.fit(np.ones((4, 2)), np.zeros(4), verbose=0, callbacks=[backup])
    for one, other in zip(before, state(model), strict=True):
        np.testing.assert_array_equal(one, other)
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match="it is not a regular file"):
        km.training.Backup(path)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        *(({"epoch": bad}, "its `epoch` must") for bad in (-1, 2.5, [1], None, True, 2**70)),
        ({"batch": -1}, "its `batch` must"),
        *(
            ({"history": bad}, "its `history` must")
            for bad in (None, [], {"loss": 1}, {"a": ["b"]})
        ),
        ({"more": 1}, "its progress must be a dict of epoch, batch, history"),
        ("[" * 100_000, "nested too deeply"),
        ("{", "Expecting property name"),
        ("[]", "its progress must be a dict"),
    ],
)
def test_backup_with_invalid_progress_raises(record, message, path, one_epoch):
    path.write_bytes(one_epoch)

    def change(file):
        valid = json.loads(file[backup_file.PROGRESS][()])
        del file[backup_file.PROGRESS]
        text = record if isinstance(record, str) else json.dumps({**valid, **record})
        file[backup_file.PROGRESS] = text

    rewrite(path, change)
    with pytest.raises(ValueError, match=f"(?s)`path` must.*backup.weights.h5.*{message}"):
        km.training.Backup(path)


def replace(name, value):
    def change(file):
        del file[name]
        file[name] = value

    return change


def huge(file):
    del file["layers/dense/vars/1"]
    file.create_dataset("layers/dense/vars/1", (2**40,), "float32", chunks=True, compression="gzip")


def link(file):
    file["layers/more"] = h5py.ExternalLink("/etc/passwd", "/")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replace("layers/dense/vars/1", np.full(3, np.nan, "float32")), "NaN or infinite values"),
        (replace("optimizer/vars/2", np.full((2, 3), np.inf, "float32")), "NaN or infinite values"),
        (replace("layers/dense/vars/1", np.zeros((1, 3), "float32")), "must be a backup of this"),
        (replace("layers/dense/vars/1", np.zeros(3, "float64")), "must be a backup of this"),
        (replace("layers/dense/vars/1", "text"), "text instead of numbers"),
        (huge, "must be stored in one piece"),
        (link, "is a link to another place"),
        (lambda file: file.move("layers/dense", "layers/other"), "must be a backup of this model"),
        (lambda file: file.__delitem__("optimizer"), "must be a backup of this model"),
    ],
)
def test_backup_with_other_arrays_raises_and_loads_nothing(change, message, path, one_epoch):
    path.write_bytes(one_epoch)
    rewrite(path, change)
    model = small_model()
    before = state(model)
    with pytest.raises(ValueError, match=message) as error:
        fit(model, path)
    assert str(path) in str(error.value)
    for one, other in zip(before, state(model), strict=True):
        np.testing.assert_array_equal(one, other)


def test_backup_keeps_seeds_of_keras_layers(path):
    def build():
        layers = [keras.Input((2,)), keras.layers.Dropout(0.5), keras.layers.Dense(3)]
        model = keras.Sequential(layers)
        km.Recipe(epochs=2).compile(model, 4)
        return model

    saved, loaded = build(), build()
    fit(saved, path)
    fit(loaded, path)
    for one, other in zip(state(saved), state(loaded), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_failed_load_is_undone(error, path, one_epoch, monkeypatch):
    path.write_bytes(one_epoch)
    model = small_model()
    before = state(model)

    def fails_once(self, store):
        monkeypatch.undo()
        raise error

    monkeypatch.setattr(km.training.LayerwiseAdamW, "load_own_variables", fails_once)
    with pytest.raises(error):
        fit(model, path)
    for one, other in zip(before, state(model), strict=True):
        np.testing.assert_array_equal(one, other)


def test_save_raises_on_nan_in_any_variable(path):
    def spoil(model):
        average = next(v for v in model.optimizer.variables if "average" in v.path)
        average.assign(average.value * np.nan)

    model = small_model()
    fit(model, path, epochs=1)
    good = path.read_bytes()
    poison = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: spoil(model))
    with pytest.raises(FloatingPointError, match=r"average has NaN or infinite.*\(epoch 2\)"):
        model.fit(
            *(np.ones((16, 2), "float32"), np.zeros(16)),
            epochs=2,
            initial_epoch=1,
            verbose=0,
            callbacks=[poison, km.training.Backup(path)],
        )
    assert path.read_bytes() == good


def test_fit_raises_for_backup_of_another_model(path, one_epoch):
    path.write_bytes(one_epoch)
    with pytest.raises(ValueError, match="`path` must be a backup of this model.*backup"):
        fit(small_model(units=4), path)


def test_every_raises_for_other_data(path, interrupted):
    """A resumed `fit` begins arrays at the start of an epoch, so the batches differ."""
    with pytest.raises(ValueError, match="`every` must be None for data that is not from"):
        fit(small_model(), path, every=2)
    assert not path.exists()
    path.write_bytes(interrupted)
    _, _, info = km.data.load("digits")
    model = linear(info)
    RECIPE.compile(model, 4)
    with pytest.raises(ValueError, match="end of an epoch for data that is not.*after batch 4"):
        model.fit(
            *(np.zeros((8, 8, 8, 1)), np.zeros(8)),
            verbose=0,
            callbacks=[km.training.Backup(path)],
        )


def test_signal_saves_whole_epochs_of_other_data(path, capsys):
    def stop():
        os.kill(os.getpid(), signal.SIGTERM)

    model, backup = small_model(), km.training.Backup(path)
    with pytest.raises(SystemExit):
        model.fit(
            *(np.ones((16, 2), "float32"), np.arange(16) % 3),
            epochs=2,
            batch_size=2,
            verbose=0,
            callbacks=[backup, AfterSteps(10, stop)],
        )
    assert "the last whole epoch is saved" in capsys.readouterr().err
    backup = km.training.Backup(path)
    assert (backup.epoch, backup.batch) == (1, 0)


def test_fit_raises_if_data_begins_elsewhere(path):
    with pytest.raises(Interrupted):
        train(km.training.Backup(path, every=5), AfterSteps(30, interrupt))
    backup = km.training.Backup(path)
    assert (backup.epoch, backup.batch) == (1, 5)
    batches, _, info = km.data.load("digits", start=(1, 0))
    quiet = {"shuffle": False, "verbose": 0}
    for data, message in (
        (batches, r"must begin at epoch 1, batch 5.*begins at epoch 1, batch 0"),
        (batches.map(lambda x, y: (x, y)), "must begin at epoch 1, batch 5"),
        (batches.take(9), "`path` must be a backup of the end of an epoch"),
        (batches.shuffle(9), "`path` must be a backup of the end of an epoch"),
        (batches.cache(), "`path` must be a backup of the end of an epoch"),
    ):
        model = linear(info)
        RECIPE.compile(model, BATCHES)
        before = state(model)
        with pytest.raises(ValueError, match=message):
            model.fit(data, epochs=3, initial_epoch=1, **quiet, callbacks=[backup])
        for one, other in zip(before, state(model), strict=True):
            np.testing.assert_array_equal(one, other)


def test_second_fit_continues_the_same_data(path):
    batches, _, info = km.data.load("digits")
    model = linear(info)
    RECIPE.compile(model, BATCHES)
    for epochs in (1, 2):
        backup = km.training.Backup(path, every=9)
        position = {"epochs": epochs, "initial_epoch": backup.epoch}
        model.fit(batches, **position, shuffle=False, verbose=0, callbacks=[backup])
    assert km.training.Backup(path).epoch == 2


def test_resume_within_epoch_needs_known_length(path, interrupted):
    path.write_bytes(interrupted)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    endless = ((np.zeros((1, 2)), np.zeros((1, 1))) for _ in iter(int, 1))
    with pytest.raises(ValueError, match="`path` must be a backup of the end of an epoch.*epoch 1"):
        model.fit(endless, shuffle=False, verbose=0, callbacks=[km.training.Backup(path)])
