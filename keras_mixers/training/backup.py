"""A callback that saves the state of a training run to one file, and resumes from this file."""

import glob
import json
import math
import os
import pathlib
import shutil
import signal
import sys
import threading

import keras
from keras import ops

from keras_mixers import arguments
from keras_mixers.files import replacing

# If an epoch has fewer batches left than this, nothing is saved before the epoch ends. On some
# backends Keras reads one or two batches ahead. If these are the last ones of an epoch, the data
# pipeline counts the epoch as finished although Keras has not trained on them.
NEAR_END = 4
PROGRESS = "keras_mixers_progress"  # the dataset in the HDF5 file that holds the progress as JSON


class Backup(keras.callbacks.Callback):
    """Save model, optimizer, moving average, seeds and position to one file; resume from it.

    To resume, load the data with `start=(backup.epoch, backup.batch)` and call `fit` with
    `initial_epoch=backup.epoch`. With the same model, recipe and data, a killed run that is resumed
    ends with the weights of an uninterrupted run. The file is replaced in one step, so it is always
    complete. The script `examples/train.py --resume` shows all of this.

    On the first Ctrl-C or SIGTERM, the callback lets the step finish, saves, and ends the process.
    The second one stops at once. If the loss becomes NaN or infinite, training stops with an error
    that names the step, and nothing is saved.

    Put the callback first in the list of callbacks, and let only one process write the file.
    `epoch` and `batch` are the position in the file, or 0 without a file. `history` covers all
    epochs; for a resumed epoch it covers only the batches after the resume. `fit` waits for each
    step, because the callback reads its loss. The state of other callbacks is not saved.

    Args:
        path: path of the file; ends in `.weights.h5`.
        every: number of steps between two saves within an epoch; `None` saves only at the end of
            each epoch.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it.
        ValueError: if the file was not written by a `Backup`.
        ValueError: in `fit`, if the file is from another model or optimizer, or if `initial_epoch`
            differs from `epoch`.
        FloatingPointError: in `fit`, at the first step whose loss is NaN or infinite.

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
        self.path = pathlib.Path(path)
        # Not `arguments.file_path`, because the folder need not exist before the first save.
        if not self.path.name.endswith(".weights.h5"):
            raise ValueError(f"`path` must end in '.weights.h5'. Received: path={path}")
        self.every = None if every is None else arguments.integer("every", every)
        # A process that was killed while it saved leaves a temporary folder.
        for folder in self.path.parent.glob(f".{glob.escape(self.path.name)}-*"):
            shutil.rmtree(folder, ignore_errors=True)
        self.epoch, self.batch, self.history, self.shapes = self.read_progress()

    def read_progress(self):
        """(epoch, batch, history, shapes) in the file, or the initial values without a file."""
        import h5py

        if not self.path.exists():
            return 0, 0, {}, None
        try:
            with h5py.File(self.path, "r") as file:
                progress = json.loads(file[PROGRESS][()])
            return progress["epoch"], progress["batch"], progress["history"], progress["shapes"]
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(
                "`path` must be a file that a Backup wrote, or must not exist. Received:"
                f" path={self.path}: {error}"
            ) from None

    def on_train_begin(self, logs=None):
        # Keras counts the batches of a resumed epoch from 0 again.
        self.first_batch = self.batch
        self.stops_resumed_epoch, self.received_signal = False, None
        if self.first_batch and not self.params["steps"]:
            raise ValueError(
                "`path` must be a backup of the end of an epoch if the data has no known number of"
                f" batches. Received: path={self.path}, saved within epoch {self.epoch + 1}"
            )
        if self.path.exists():
            self.load()
        self.last_saved_batch = self.batch
        self.previous_handlers = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.previous_handlers[number] = signal.signal(number, self.handle_signal)

    def load(self):
        """Load the file into the model and the optimizer."""
        # Keras creates the optimizer's variables in the first step, but the file needs them now.
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        # Compare first, because Keras would load the variables that fit and only warn.
        if self.shapes != self.current_shapes():
            raise ValueError(
                "`path` must be a backup of this model and this optimizer. Received:"
                f" path={self.path}, whose {len(self.shapes)} variables differ in shape from the"
                f" {len(self.current_shapes())} variables here"
            )
        self.model.load_weights(self.path)

    def current_shapes(self):
        """The shapes of all variables that the file holds, in order."""
        variables = [*self.model.variables, *self.model.optimizer.variables]
        return [list(variable.shape) for variable in variables]

    def handle_signal(self, number, frame):
        """Make the current step the last one; restore the previous handlers for later signals."""
        self.restore_signal_handlers()
        while frame is not None and frame.f_locals.get("self") is not self.model:
            frame = frame.f_back
        if frame is None:
            # An error has ended `fit`, and Keras then does not call `on_train_end`.
            signal.raise_signal(number)
            return
        self.received_signal = number
        print("\nFinishing this step, then saving. A second signal stops at once.", file=sys.stderr)

    def restore_signal_handlers(self):
        """Give the signals back to their previous handlers."""
        for number, handler in self.previous_handlers.items():
            signal.signal(number, handler)
        self.previous_handlers = {}

    def exit(self):
        """End the process as the signal would have ended it."""
        if self.received_signal == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + self.received_signal)

    def on_epoch_begin(self, epoch, logs=None):
        if epoch != self.epoch:
            self.restore_signal_handlers()
            raise ValueError(
                f"`initial_epoch` must be {self.epoch} in `fit`, because {self.path} is at that"
                f" epoch. Received: initial_epoch={epoch}"
            )

    def on_train_batch_end(self, batch, logs=None):
        loss = float((logs or {}).get("loss", 0.0))
        self.batch = self.first_batch + batch + 1
        if not math.isfinite(loss):
            self.sync()
            self.raise_not_finite(
                f"the loss is {loss} at step {int(self.model.optimizer.iterations)} (epoch"
                f" {self.epoch + 1}, batch {self.batch})"
            )
        batches_left = (self.params["steps"] or math.inf) - self.batch
        if batches_left <= 0 and self.first_batch:
            # Keras expects the batches of a whole epoch. It would request one batch too many, and
            # count a step without data.
            self.stops_resumed_epoch = self.model.stop_training = True
        if batches_left < NEAR_END:
            return  # `on_epoch_end` saves after the validation
        is_due = self.every and self.batch - self.last_saved_batch >= self.every
        if self.received_signal or is_due:
            self.save()
            if self.received_signal:
                self.exit()

    def on_epoch_end(self, epoch, logs=None):
        self.epoch, self.batch, self.first_batch = epoch + 1, 0, 0
        if self.stops_resumed_epoch:
            # The later epochs are whole, and training continues with them.
            self.stops_resumed_epoch = self.model.stop_training = False
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        self.save()
        if self.received_signal:
            self.exit()

    def on_train_end(self, logs=None):
        self.restore_signal_handlers()

    def sync(self):
        """Copy the current weights to the model, because JAX keeps them elsewhere in an epoch."""
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()

    def save(self):
        """Replace the file by one with the current state."""
        import h5py

        self.sync()
        self.last_saved_batch = self.batch
        # Check the weights too, because the loss shows NaN only in the next step.
        for weight in self.model.trainable_variables:
            if not bool(ops.all(ops.isfinite(weight.value))):
                self.raise_not_finite(
                    f"{weight.path} has NaN or infinite values after step"
                    f" {int(self.model.optimizer.iterations)} (epoch {self.epoch + 1})"
                )
        self.shapes = self.current_shapes()
        progress = {
            "epoch": self.epoch,
            "batch": self.batch,
            "history": self.history,
            "shapes": self.shapes,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as temporary:
            self.model.save_weights(temporary)
            with h5py.File(temporary, "r+") as file:
                file[PROGRESS] = json.dumps(progress)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())  # on the disk before it replaces the old file

    def raise_not_finite(self, message):
        """Stop training with an error of this message, followed by advice."""
        self.restore_signal_handlers()
        raise FloatingPointError(
            f"{message}. A lower learning rate, a longer warm-up or clip_norm=1.0 may help."
            f" {self.path}, if it exists, holds the last state before this step"
        )
