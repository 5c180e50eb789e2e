"""A training that survives: what it needs to go on is in one file, whole at any moment."""

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

# Where so few batches are left no place is saved: on some backends Keras reads one or two of a pass
# before it trains, and a pass that ends with them counts as handed out.
NEAR_END = 4
PROGRESS = "keras_mixers_progress"  # of the text beside the weights


class Backup(keras.callbacks.Callback):
    """Saves model, optimizer, moving average and place in one file, and goes on from it.

    With `train` begun at `start` and `initial_epoch` as below, a training that was killed ends with
    the weights it would have had. The file is replaced in one step: it is the old or the new, never
    half. A first Ctrl-C (or SIGTERM) lets the step end and saves; the second stops at once. A loss
    that is no number stops the training before it reaches the file.

    Put it first among the callbacks, and have one process write a file. `epoch` and `batch` are
    where the file's training stood, or 0; `history` has the figures of all epochs, of which one
    that was gone on with counts its rest alone. It reads the loss after each step, for which `fit`
    waits; what other callbacks remember is not kept.

    Args:
        path: of the file; ends in `.weights.h5`.
        every: steps between two savings within an epoch; `None` saves at each epoch's end alone.

    Raises:
        ValueError: `path` ends otherwise; the file is no backup, or another model's.
        FloatingPointError: in `fit`, at the first step whose loss is no number.
        ValueError: in `fit`, another `initial_epoch` than `epoch`.

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

    def __init__(self, path: str | os.PathLike, every: int | None = None):
        super().__init__()
        self.path = pathlib.Path(path)
        if not self.path.name.endswith(".weights.h5"):
            raise ValueError(f"`path` must end in '.weights.h5'. Received: path={path}")
        self.every = None if every is None else arguments.integer("every", every)
        for cut in self.path.parent.glob(
            f".{glob.escape(self.path.name)}-*"
        ):  # by a kill while it was saving
            shutil.rmtree(cut, ignore_errors=True)
        self.epoch, self.batch, self.history, self.shapes = self.read()

    def read(self):
        """(epoch, batch, history, shapes) of the file, or of a beginning where there is none."""
        import h5py

        if not self.path.exists():
            return 0, 0, {}, None
        try:
            with h5py.File(self.path, "r") as file:
                progress = json.loads(file[PROGRESS][()])
            return progress["epoch"], progress["batch"], progress["history"], progress["shapes"]
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(
                f"`path` must be a file that a Backup wrote, or none. Received: path={self.path}:"
                f" {error}"
            ) from None

    def on_train_begin(self, logs=None):
        self.skipped = self.batch  # an epoch that goes on counts its batches from 0 again
        self.cut_short, self.asked_to_stop = False, None
        if self.skipped and not self.params["steps"]:
            raise ValueError(
                "`path` must hold the end of an epoch where the data do not say how many batches"
                f" they have. Received: path={self.path}, in epoch {self.epoch + 1}"
            )
        if self.path.exists():
            # The optimizer's weights are made at its first step; the file's need them now.
            if not self.model.optimizer.built:
                self.model.optimizer.build(self.model.trainable_variables)
            if self.shapes != self.shapes_now():  # Keras would load what fits, and warn
                raise ValueError(
                    "`path` must be a backup of this model and this optimizer. Received:"
                    f" path={self.path}, whose {len(self.shapes)} weights have other shapes than"
                    f" the {len(self.shapes_now())} here"
                )
            self.model.load_weights(self.path)
        self.saved_at = self.batch
        self.before = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.before[number] = signal.signal(number, self.ask)

    def shapes_now(self):
        """The shapes of all that is in the file, in order."""
        variables = [*self.model.variables, *self.model.optimizer.variables]
        return [list(variable.shape) for variable in variables]

    def ask(self, number, frame):
        """The step in work will be the last one; from now on the signal does what it did before."""
        self.listen_no_more()
        while frame is not None and frame.f_locals.get("self") is not self.model:
            frame = frame.f_back
        if frame is None:  # an error ended that training, and nobody told this callback
            signal.raise_signal(number)
            return
        self.asked_to_stop = number
        print("\nEnding this step, then saving; again to stop at once.", file=sys.stderr)

    def listen_no_more(self):
        """Give the signals back to whom they belonged."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}

    def stop(self):
        """End the process as the signal would have done, everything being saved."""
        if self.asked_to_stop == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + self.asked_to_stop)

    def on_epoch_begin(self, epoch, logs=None):
        if epoch != self.epoch:
            self.listen_no_more()
            raise ValueError(
                f"`initial_epoch` must be {self.epoch} in `fit`, where {self.path} stands."
                f" Received: initial_epoch={epoch}"
            )

    def on_train_batch_end(self, batch, logs=None):
        loss = float((logs or {}).get("loss", 0.0))
        self.batch = self.skipped + batch + 1
        if not math.isfinite(loss):
            self.listen_no_more()
            self.sync()
            raise FloatingPointError(
                f"the loss is {loss} at step {int(self.model.optimizer.iterations)} (epoch"
                f" {self.epoch + 1}, batch {self.batch}). A lower learning rate, a longer warm-up"
                f" or clip_norm=1.0 may help. {self.path} holds the last state before it, if any"
            )
        left = (self.params["steps"] or math.inf) - self.batch
        if left <= 0 and self.skipped:  # it would ask for a batch more, and count a step without
            self.cut_short = self.model.stop_training = True
        if left < NEAR_END:
            return  # the epoch's end is saved, when the model has been judged
        if self.asked_to_stop or (self.every and self.batch - self.saved_at >= self.every):
            self.save()
            if self.asked_to_stop:
                self.stop()

    def on_epoch_end(self, epoch, logs=None):
        self.epoch, self.batch, self.skipped = epoch + 1, 0, 0
        if self.cut_short:  # that epoch alone
            self.cut_short = self.model.stop_training = False
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        self.save()
        if self.asked_to_stop:
            self.stop()

    def on_train_end(self, logs=None):
        self.listen_no_more()

    def sync(self):
        """Have the model hold its weights: within an epoch JAX's step keeps them to itself."""
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()

    def save(self):
        """Write the file, and put it in place of the old one."""
        import h5py

        self.sync()
        self.saved_at = self.batch
        weights = self.model.trainable_variables
        broken = [w.path for w in weights if not bool(ops.all(ops.isfinite(w.value)))]
        if broken:  # the loss will only show it at the next step
            self.listen_no_more()
            raise FloatingPointError(
                f"{broken[0]} is no number any more after step"
                f" {int(self.model.optimizer.iterations)} (epoch {self.epoch + 1}). A lower"
                f" learning rate or clip_norm=1.0 may help. {self.path} holds the last state"
                " before it, if any"
            )
        progress = {"epoch": self.epoch, "batch": self.batch, "history": self.history}
        progress["shapes"] = self.shapes = self.shapes_now()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as temporary:
            self.model.save_weights(temporary)
            with h5py.File(temporary, "r+") as file:
                file[PROGRESS] = json.dumps(progress)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())  # on the disk before it takes the old one's place
