"""A callback that saves the state of a training run to one file, and resumes from this file."""

import math
import os
import signal
import sys
import threading

import keras
from keras import ops

from keras_mixers import arguments
from keras_mixers.data.position import origin_of
from keras_mixers.training import backup_file, processes

# If an epoch has fewer batches left than this, nothing is saved before the epoch ends. On some
# backends Keras reads one or two batches ahead. If these are the last ones of an epoch, the data
# pipeline counts the epoch as finished although Keras has not trained on them.
NEAR_END = 4


class Backup(keras.callbacks.Callback):
    """Save model, optimizer, moving average, seeds and position to one file; resume from it.

    To resume, load the data by `km.data.load` or `km.data.prepare` with
    `start=(backup.epoch, backup.batch)`, and call `fit` with `initial_epoch=backup.epoch`. With the
    same model, recipe and data, a killed run that is resumed ends with the weights of an
    uninterrupted run. The file is replaced in one step, so it is always complete. The script
    `keras-mixers train --resume` does all of this.

    Only data from `km.data.load` and `km.data.prepare` can begin within an epoch, also after `map`
    or `prefetch`. Arrays and other datasets, also after `shuffle`, resume at the end of the last
    whole epoch, so `every` must be `None`. The order of their later batches is up to them: Keras
    shuffles arrays in another order after a resume.

    On the first Ctrl-C or SIGTERM, the callback lets the step finish, saves, and ends the process.
    The second one stops at once. If the loss becomes NaN or infinite, training stops with an error
    that names the step, and nothing is saved.

    Several processes on JAX (`keras.distribution`) train with one backup. Each has this callback,
    with the same path on a file system that all of them read. The first process writes the whole
    state, also of variables that are sharded. Later runs may have another number of processes or
    another distribution. A signal to one process saves and ends all of them after the same step,
    and an error of one process here ends all of them with an error.

    Put the callback first in the list of callbacks. `epoch` and `batch` are the position in the
    file, or 0 without a file. `history` covers all epochs; for a resumed epoch it covers only the
    batches after the resume. `fit` waits for each step, because the callback reads its loss. The
    state of other callbacks is not saved.

    Args:
        path: path of the file; ends in `.weights.h5`.
        every: number of steps between two saves within an epoch; `None` saves only at the end of
            each epoch.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it.
        ValueError: if the file is damaged, or was not written by a `Backup`.
        ValueError: in `fit`, if the file is from another model or optimizer, if `initial_epoch`
            differs from `epoch`, if the data begins elsewhere, or if the processes read different
            files. The model is unchanged.
        FloatingPointError: in `fit`, at the first step whose loss is NaN or infinite, or if a
            variable of the model or the optimizer is NaN or infinite at a save.
        OSError: in `fit`, if the file cannot be written. The previous file remains.

    Example:
        >>> backup = Backup("backup.weights.h5")
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("adam", "mse")
        >>> x, y = keras.ops.zeros((8, 2)), keras.ops.zeros((8, 1))
        >>> history = model.fit(
        ...     x, y, epochs=3, initial_epoch=backup.epoch, callbacks=[backup], verbose=0
        ... )
        >>> Backup("backup.weights.h5").epoch
        3
    """

    def __init__(self, path: str | os.PathLike[str], every: int | None = None):
        super().__init__()
        self.path = arguments.path("path", path)
        # Not `arguments.file_path`, because the folder need not exist before the first save.
        if not self.path.name.endswith(".weights.h5"):
            raise ValueError(f"`path` must end in '.weights.h5'. {arguments.received(path=path)}")
        self.every = None if every is None else arguments.integer("every", every)
        self.read()

    def read(self):
        """Take the position and the history from the file, and return its content."""
        progress, content = backup_file.read(self.path)
        self.epoch, self.batch, self.history = progress.epoch, progress.batch, progress.history
        return content

    def on_train_begin(self, logs=None):
        # For `handle_signal`: on JAX, Keras's `self.model` also copies weights to the model, which
        # would spoil them in the middle of a step.
        self.fitted = self.model
        fit = find_frame(sys._getframe(), self.fitted, "fit")
        content = processes.together(lambda: self.begin({} if fit is None else fit.f_locals))
        processes.check_equal(
            b"" if content is None else content.getbuffer(),
            "`path` must be the same file in all processes, on a file system that all of them read."
            f" {arguments.received(path=self.path)}",
        )
        if content is not None:
            # Keras creates the optimizer's variables in the first step, but the file needs them.
            if not self.model.optimizer.built:
                self.model.optimizer.build(self.model.trainable_variables)
            processes.together(lambda: backup_file.restore(self.path, content, self.model))
        self.previous_handlers = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.previous_handlers[number] = signal.signal(number, self.handle_signal)

    def begin(self, values):
        """Read the file, and check the variables in the frame of `fit`; return the content."""
        content = self.read()  # again, because an earlier `fit` or another process may have written
        # Keras counts the batches of a resumed epoch from 0 again.
        self.first_batch = self.last_saved_batch = self.batch
        self.stops_resumed_epoch, self.received_signal = False, 0
        self.check_initial_epoch(values.get("initial_epoch", self.epoch))
        self.check_data(values.get("x"))
        return content

    def check_initial_epoch(self, epoch):
        """Raise a ValueError if `fit` begins at another epoch than the file."""
        if epoch != self.epoch:
            raise ValueError(
                f"`initial_epoch` must be {self.epoch} in `fit`, because {self.path} is at that"
                f" epoch. {arguments.received(initial_epoch=epoch)}"
            )

    def check_data(self, data):
        """Raise a ValueError if the data of `fit` does not begin at the position in the file."""
        self.steps, self.saves_within_epochs = self.params.get("steps"), False
        if self.epoch >= self.params.get("epochs", math.inf):
            return  # because `fit` does not train
        origin, position = origin_of(data), (self.epoch, self.batch)
        if origin is not None and self.steps is None:
            # Keras has given each process its part of each batch, and does not count them.
            self.steps = int(origin.cardinality())
        same_epochs = origin is not None and self.steps == int(origin.cardinality())
        self.saves_within_epochs = same_epochs
        if self.every and not same_epochs:
            raise ValueError(
                "`every` must be None for data that is not from `km.data.load` or `prepare`, or"
                " whose epochs have another length, because this data cannot begin within an epoch."
                f" Received: every={self.every}"
            )
        if self.batch and not same_epochs:
            raise ValueError(
                "`path` must be a backup of the end of an epoch for data that is not from"
                " `km.data.load` or `prepare`, or whose epochs have another length. Received:"
                f" path={self.path}, saved within epoch {self.epoch + 1}, after batch {self.batch}"
            )
        if origin is not None and origin.keras_mixers_position() != position:
            epoch, batch = origin.keras_mixers_position()
            raise ValueError(
                f"The data must begin at epoch {self.epoch}, batch {self.batch}, as {self.path}"
                " does. Load it again with start=(backup.epoch, backup.batch). Received: data that"
                f" begins at epoch {epoch}, batch {batch}"
            )

    def handle_signal(self, number, frame):
        """Make the current step the last one; restore the previous handlers for later signals."""
        self.restore_signal_handlers()
        if find_frame(frame, self.fitted) is None:
            # An error has ended `fit`, and Keras then does not call `on_train_end`.
            signal.raise_signal(number)
            return
        self.received_signal = number
        end = "saving" if self.saves_within_epochs else "stopping; the last whole epoch is saved"
        print(f"\nFinishing this step, then {end}. A second signal stops at once.", file=sys.stderr)

    def restore_signal_handlers(self):
        """Give the signals back to their previous handlers."""
        for number, handler in self.previous_handlers.items():
            signal.signal(number, handler)
        self.previous_handlers = {}

    def signal_of_all(self):
        """The number of a signal that this or another process has received, or 0.

        The processes end only by this number: if a signal comes later, the others do not know it.
        """
        own = self.received_signal
        number = processes.highest(own)
        if number and not own:
            name = signal.Signals(number).name
            print(f"\nEnding this process too, because another received {name}.", file=sys.stderr)
        return number

    def exit(self, number):
        """End the process as the signal would have ended it."""
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    def on_epoch_begin(self, epoch, logs=None):
        if epoch != self.epoch:
            self.restore_signal_handlers()
            self.check_initial_epoch(epoch)

    def on_train_batch_end(self, batch, logs=None):
        loss = float((logs or {}).get("loss", 0.0))
        self.batch = self.first_batch + batch + 1
        if not math.isfinite(loss):
            self.sync()
            self.raise_not_finite(
                f"the loss is {loss} at step {int(self.model.optimizer.iterations)} (epoch"
                f" {self.epoch + 1}, batch {self.batch})"
            )
        batches_left = (self.steps or math.inf) - self.batch
        if batches_left <= 0 and self.first_batch:
            # Keras expects the batches of a whole epoch. It would request one batch too many, and
            # count a step without data.
            self.stops_resumed_epoch = self.model.stop_training = True
        if batches_left < NEAR_END:
            return  # `on_epoch_end` saves after the validation
        received = self.signal_of_all()
        is_due = self.every and self.batch - self.last_saved_batch >= self.every
        if self.saves_within_epochs and (received or is_due):
            self.save()
        if received:
            self.exit(received)

    def on_epoch_end(self, epoch, logs=None):
        self.epoch, self.batch, self.first_batch = epoch + 1, 0, 0
        if self.stops_resumed_epoch:
            # The later epochs are whole, and training continues with them.
            self.stops_resumed_epoch = self.model.stop_training = False
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        self.save()
        if received := self.signal_of_all():
            self.exit(received)

    def on_train_end(self, logs=None):
        self.restore_signal_handlers()
        if received := self.signal_of_all():
            self.exit(received)

    def sync(self):
        """Copy the current weights to the model, because JAX keeps them elsewhere in an epoch."""
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()

    def save(self):
        """Replace the file by one with the current state; only the first process writes."""
        self.sync()
        self.last_saved_batch = self.batch
        with processes.whole_values(backup_file.variables(self.model)):
            processes.first(self.check_and_write)

    def check_and_write(self):
        """Write the file, unless a variable is NaN or infinite."""
        # Check the variables too, because the loss shows NaN only in the next step.
        for variable in backup_file.variables(self.model):
            if not bool(ops.all(ops.isfinite(variable.value))):
                epoch = self.epoch + bool(self.batch)
                self.raise_not_finite(
                    f"{variable.path} has NaN or infinite values after step"
                    f" {int(self.model.optimizer.iterations)} (epoch {epoch})"
                )
        progress = backup_file.Progress(self.epoch, self.batch, self.history)
        backup_file.write(self.path, self.model, progress)

    def raise_not_finite(self, message):
        """Stop training with an error of this message, followed by advice."""
        self.restore_signal_handlers()
        raise FloatingPointError(
            f"{message}. A lower learning rate, a longer warm-up or clip_norm=1.0 may help. A class"
            f" number outside the model's outputs also has this effect. {self.path}, if it exists,"
            " holds the last state before this step"
        )


def find_frame(frame, model, name=None):
    """The innermost frame of a method of the model, or None; `name` is the method's name.

    Keras does not pass the arguments of `fit` to callbacks, but the frame of `fit` has them.
    """
    while frame is not None:
        if frame.f_locals.get("self") is model and name in (None, frame.f_code.co_name):
            return frame
        frame = frame.f_back
    return None
