"""What train.py and train_distributed.py share: flags, the record of a run, recipe and model.

It imports Keras and keras_mixers late, so that `--help` and wrong flags are answered at once.
"""

import argparse
import contextlib
import dataclasses
import json
import pathlib
import re

from command_line import add_dtype, at_least, positive_float, refuse_to_overwrite

FAMILIES = ("vit", "mlp_mixer", "conv_mixer")
BACKUP = "backup.weights.h5"
# These flags change neither the data nor the model nor the steps.
MAY_CHANGE = {
    "coordinator",
    "export",
    "fully_sharded",
    "model_parallel",
    "output",
    "overwrite",
    "process_id",
    "processes",
    "resume",
    "save_every",
    "tensorboard",
    "wait",
}


def training_parser(description):
    """A parser with the flags of both scripts, and its group of flags for long training runs."""
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--dataset", default="digits", help="digits, a TFDS name, or a folder")
    parser.add_argument(
        "--model",
        default="vit",
        help=f"a family ({', '.join(FAMILIES)}), or the pattern of a hybrid, such as MMA or CM",
    )
    parser.add_argument("--image-size", type=int, default=16, help="height and width in pixels")
    parser.add_argument("--patch-size", type=int, default=4, help="height and width in pixels")
    parser.add_argument("--hidden-dim", type=int, default=64, help="width of a token")
    parser.add_argument(
        "--depth", type=int, default=4, help="number of blocks; a pattern ignores it"
    )
    parser.add_argument("--recipe", default="small", help="a name in km.recipes(), or a JSON file")
    parser.add_argument("--epochs", type=at_least(1), help="replaces the recipe's value")
    parser.add_argument("--batch-size", type=at_least(1), help="replaces the recipe's value")
    parser.add_argument("--learning-rate", type=positive_float, help="replaces the recipe's value")
    add_dtype(parser)
    parser.add_argument("--seed", type=at_least(0), default=0, help="seed of all random numbers")
    parser.add_argument("--output", type=pathlib.Path, default="out", help="output folder")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="resume from the backup in --output")
    again.add_argument("--overwrite", action="store_true", help="replace the run in --output")
    long = parser.add_argument_group("long training runs")
    long.add_argument(
        "--save-every",
        type=at_least(1),
        metavar="STEPS",
        help="save a backup every STEPS steps, and not only at the end of each epoch",
    )
    long.add_argument(
        "--gradient-checkpointing",
        action="store_true",
        help="recompute activations in the backward pass: less memory, more time",
    )
    return parser, long


def named_recipe(name):
    """The recipe with this name in `km.recipes()`, or in this JSON file."""
    import keras_mixers as km

    named = km.recipes()
    if name in named:
        return named[name]
    if pathlib.Path(name).is_file():
        return km.Recipe.load(name)
    raise ValueError(
        f"--recipe must be a JSON file or one of {', '.join(map(repr, named))}. Received: {name!r}"
    )


def replaced(recipe, args):
    """The recipe with the values of --batch-size and --learning-rate, if they are given."""
    flags = {name: getattr(args, name) for name in ("batch_size", "learning_rate")}
    given = {name: value for name, value in flags.items() if value is not None}
    return dataclasses.replace(recipe, **given)


def find_recipe(args):
    """The recipe of --recipe, with the values that other flags replace."""
    recipe = named_recipe(args.recipe)
    if recipe.epochs is None and args.epochs is None:
        raise ValueError(
            "--epochs must be given for a recipe whose length is in steps. Received: --recipe"
            f" {args.recipe!r}, of {recipe.steps} steps"
        )
    return replaced(recipe.for_epochs(args.epochs or recipe.epochs), args)


def find_backup(args):
    """The backup in --output; only --resume continues it, and only --overwrite deletes it."""
    import keras_mixers as km

    path = args.output / BACKUP
    if args.overwrite:
        path.unlink(missing_ok=True)
    if path.exists() and not args.resume:
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
    return km.training.Backup(path, every=args.save_every)


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
    option = f"--{flag.replace('_', '-')}"
    return f"without {option}" if value in ("None", "False") else f"{option} {value}"


def fixed_flags(args):
    """The flags that must not change when training is resumed."""
    return {name: str(value) for name, value in vars(args).items() if name not in MAY_CHANGE}


def build(args, recipe, info):
    """A model of the family in --model, or a hybrid with the pattern in --model."""
    import keras_mixers as km

    size = {
        "input_shape": info.input_shape,
        "num_classes": info.num_classes,
        "patch_size": args.patch_size,
        "hidden_dim": args.hidden_dim,
        "dtype": args.dtype,
        "gradient_checkpointing": args.gradient_checkpointing,
        **recipe.model_arguments,
    }
    if args.model == "vit":
        most = max(1, args.hidden_dim // 32)
        heads = next(h for h in range(most, 0, -1) if args.hidden_dim % h == 0)
        return km.ViT(
            "Ti/16", depth=args.depth, num_heads=heads, mlp_dim=2 * args.hidden_dim, **size
        )
    if args.model == "mlp_mixer":
        return km.MLPMixer(
            "S/16",
            depth=args.depth,
            tokens_mlp_dim=args.hidden_dim,
            channels_mlp_dim=2 * args.hidden_dim,
            **size,
        )
    if args.model == "conv_mixer":
        return km.ConvMixer("256/8-k5-p2", depth=args.depth, **size)
    if not set(args.model) <= set(km.models.LETTERS):
        raise ValueError(
            f"--model must be {', '.join(FAMILIES)}, or a pattern of the letters"
            f" {', '.join(km.models.LETTERS)}."
            f" Received: {args.model!r}"
        )
    return km.Hybrid(args.model, mlp_dim=2 * args.hidden_dim, **size)


def unreadable_image(error):
    """The part of a TensorFlow error that names an image file and its problem, or None."""
    found = re.search(r"assertion failed: \[(.* is not a readable image.*)\]", str(error))
    return found and found[1]


@contextlib.contextmanager
def short_errors(script, backup):
    """A scope for `fit`: what may happen in a long run ends the script with one line.

    Raises:
        SystemExit: with a line that names the script and the reason.
    """
    import tensorflow as tf

    try:
        yield
    except FloatingPointError as error:
        raise SystemExit(f"{script}: {error}") from None
    except OSError as error:  # such as a full disk
        raise SystemExit(f"{script}: {error}; resume with --resume") from None
    except tf.errors.OpError as error:
        unreadable = unreadable_image(error)
        if not unreadable:
            raise
        raise SystemExit(f"{script}: {unreadable}") from None
    except KeyboardInterrupt:
        raise SystemExit(
            f"\n{script}: interrupted in epoch {backup.epoch + 1}; resume with --resume"
        ) from None
