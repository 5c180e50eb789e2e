"""The record of a training run, so that only the same run is resumed."""

import contextlib
import json
import os
import re
import sys

from keras_mixers.commands.exits import INTERRUPTED, TRACEBACK
from keras_mixers.commands.folders import refuse_to_overwrite

BACKUP = "backup.weights.h5"
# These flags change neither the data nor the model nor the steps.
MAY_CHANGE = ("command", "output", "overwrite", "resume", "run", "save_every", "tensorboard")


def find_backup(args):
    """The backup in --output that --resume continues, or None if the run begins at the beginning.

    Raises:
        ValueError: if the flags do not say what to do with the files in --output.
    """
    path = args.output / BACKUP
    if path.exists() and not args.resume and not args.overwrite:
        raise ValueError(
            f"--output must be another folder, or --resume or --overwrite must be given: {path}"
            f" holds an unfinished training run. Received: --output {args.output}"
        )
    if args.resume and not path.exists() and (args.output / "model.keras").exists():
        raise ValueError(
            "--resume needs an unfinished training run in --output. Received: --output"
            f" {args.output}, where a run has finished and written model.keras"
        )
    if not path.exists():
        refuse_to_overwrite(args, "model.keras")
    return open_backup(args) if args.resume and path.exists() else None


def new_backup(args):
    """The backup of a run that begins; it deletes the one that --overwrite replaces."""
    (args.output / BACKUP).unlink(missing_ok=True)
    return open_backup(args)


def open_backup(args):
    """The `Backup` of the file in --output, at its position, or at the beginning without a file."""
    import keras_mixers as km

    return km.training.Backup(args.output / BACKUP, every=args.save_every)


def read_run(args):
    """What flags.json says about the unfinished run: its flags, recipe and data."""
    file = args.output / "flags.json"
    try:
        run = json.loads(file.read_text(encoding="utf-8"))
        return {"flags": dict(run["flags"]), "recipe": run["recipe"], "data": run["data"]}
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(
            f"--resume needs {file}, which the unfinished run wrote: {error!r}. Give another"
            " --output, or --overwrite"
        ) from None


def check_same_run(args, before, **now):
    """Raise a ValueError if the flags, the recipe or the data of the unfinished run were others."""
    for name in [name for name, value in now.items() if value != before[name]]:
        if name == "flags":
            flags = sorted(now[name] | before[name])
            changed = [flag for flag in flags if now[name].get(flag) != before[name].get(flag)]
            old = ", ".join(spelled(flag, before[name].get(flag)) for flag in changed)
            raise ValueError(f"--resume needs the flags of the unfinished run: {old}")
        raise ValueError(
            f"--resume needs the {name} of the unfinished run. Received: {name} that changed since"
            f" the run in {args.output} began; restore it, or give another --output, or --overwrite"
        )


def spelled(flag, value):
    """A flag as the user types it: `--seed 0`, or `without --recipe`."""
    if flag == "dataset":  # of some programs it is the first argument
        return f"the dataset {value}"
    option = f"--{flag.replace('_', '-')}"
    return f"without {option}" if value in ("None", "False") else f"{option} {value}"


def fixed_flags(args, *may_change):
    """The flags that must not change when training is resumed."""
    changing = {*MAY_CHANGE, *may_change}
    return {name: str(value) for name, value in vars(args).items() if name not in changing}


def unreadable_image(error):
    """The part of a TensorFlow error that names an image file and its problem, or None."""
    found = re.search(r"assertion failed: \[(.* is not a readable image.*)\]", str(error))
    return found and found[1]


@contextlib.contextmanager
def short_errors(program, backup):
    """A scope for `fit`: an expected error of a long run ends the program with one line.

    Raises:
        SystemExit: with a line that names the program and the reason, or with the code of Ctrl-C.
            An error keeps its traceback if the environment has `TRACEBACK`.
    """
    import tensorflow as tf

    try:
        yield
    except (FloatingPointError, OSError, tf.errors.OpError) as error:
        text = str(error)
        if isinstance(error, OSError):  # such as a full disk
            text += "; resume with --resume"
        elif isinstance(error, tf.errors.OpError):
            text = unreadable_image(error)
        if text is None or os.environ.get(TRACEBACK):
            raise
        raise SystemExit(f"{program}: {text}") from None
    except KeyboardInterrupt:
        epoch = backup.epoch + 1
        print(f"\n{program}: interrupted in epoch {epoch}; resume with --resume", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
