"""Train a new model on a dataset; resume it after Ctrl-C, a kill or a power cut.

The output folder then contains model.keras, with the preprocessing and the class names,
history.png, recipe.json and flags.json. The default, a small ViT on the digits, takes about a
minute on 2 CPU cores, and reaches a test accuracy of 99 %. To fine-tune published weights, see
examples/finetune.py of the repository.

Examples:
  keras-mixers train digits
  keras-mixers train digits --model MMA --resume
  keras-mixers train cifar10 --recipe "small natural" --image-size 32 --hidden-dim 192 --depth 6
"""

import contextlib
import json
import pathlib

from keras_mixers.commands.build import FAMILIES, build, find_recipe
from keras_mixers.commands.exits import NAME
from keras_mixers.commands.flags import DATASET, at_least, positive_float
from keras_mixers.commands.folders import (
    describe_data,
    locked,
    print_content,
    save_figure,
    save_model,
)
from keras_mixers.commands.record import (
    check_same_run,
    find_backup,
    fixed_flags,
    new_backup,
    read_run,
    short_errors,
)

PROGRAM = f"{NAME} train"


def add_flags(parser):
    """Add the flags of this command."""
    parser.add_argument("dataset", help=DATASET)
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
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
        help="dtype policy of the model; the mixed ones keep float32 weights",
    )
    parser.add_argument("--seed", type=at_least(0), default=0, help="seed of all random numbers")
    parser.add_argument("--output", type=pathlib.Path, default="out", help="output folder")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="resume from the backup in --output")
    again.add_argument("--overwrite", action="store_true", help="replace the run in --output")
    add_long_flags(parser.add_argument_group("long training runs"))


def add_long_flags(group):
    """Add the flags that matter to large models and to runs of hours."""
    group.add_argument(
        "--save-every",
        type=at_least(1),
        metavar="STEPS",
        help="save a backup every STEPS steps, and not only at the end of each epoch",
    )
    group.add_argument(
        "--gradient-checkpointing",
        action="store_true",
        help="recompute activations in the backward pass: less memory, more time",
    )
    group.add_argument(
        "--deterministic", action="store_true", help="compute equal results in each run"
    )
    group.add_argument("--mirrored", action="store_true", help="use all GPUs of this machine")
    group.add_argument("--tensorboard", action="store_true", help="write TensorBoard logs to logs/")


def run(args):
    """Train in the output folder, which other processes cannot use meanwhile."""
    with locked(args.output):
        devices = devices_of(args)
        model, batches, test, backup, recipe = prepare(args, devices)
        model.summary()
        with short_errors(PROGRAM, backup):
            fit(args, recipe, model, batches, test, backup)
        finish(args, recipe, model, test, backup)


def devices_of(args):
    """The scope in which the model is built and compiled: that of one device, or of all GPUs.

    Raises:
        ValueError: if a flag needs TensorFlow, and Keras has another backend.
    """
    import keras

    if not args.deterministic and not args.mirrored:
        return contextlib.nullcontext()
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "--deterministic and --mirrored need KERAS_BACKEND=tensorflow. Received:"
            f" KERAS_BACKEND={keras.backend.backend()}"
        )
    import tensorflow as tf

    if args.deterministic:
        tf.config.experimental.enable_op_determinism()
    if args.mirrored:
        return tf.distribute.MirroredStrategy().scope()
    return contextlib.nullcontext()


def prepare(args, devices):
    """`(model, batches, test, backup, recipe)`, from the beginning or the position of the backup.

    When all flags are valid, it deletes the backup that --overwrite replaces, and writes flags.json
    and recipe.json.
    """
    import keras

    import keras_mixers as km
    from keras_mixers.files import write_text

    recipe = find_recipe(args)
    backup = find_backup(args)
    run = {"flags": fixed_flags(args), "recipe": json.loads(str(recipe))}
    before = read_run(args) if backup else None
    if before:
        check_same_run(args, before, **run)
    batches, test, info = km.data.load(
        args.dataset,
        image_size=args.image_size,
        batch_size=recipe.batch_size,
        augmentation=recipe.augmentation,
        drop_remainder=args.mirrored,  # because each device needs an equal part of a batch
        seed=args.seed,
        start=(backup.epoch, backup.batch) if backup else (0, 0),
    )
    if info.multi_label != recipe.multi_label:
        raise ValueError(
            "--recipe must have the `multi_label` of the images; a JSON file can have"
            f' `"loss": "sigmoid", "multi_label": true`. Received: --recipe {args.recipe!r} with'
            f" multi_label={recipe.multi_label}, and images with multi_label={info.multi_label}"
        )
    run["data"] = describe_data(args, info)
    if before:
        check_same_run(args, before, data=run["data"])
    # Set the seed after loading, because preparing the data also uses random numbers.
    keras.utils.set_random_seed(args.seed)
    with devices:
        model = build(args, recipe, info)
        model.set_info(info)  # the file of the model then has the preprocessing and the names
        recipe.compile(model, len(batches))
    backup = backup or new_backup(args)
    write_text(args.output / "flags.json", json.dumps(run, indent=2) + "\n")
    recipe.save(args.output / "recipe.json")
    return model, batches, test, backup, recipe


def fit(args, recipe, model, batches, test, backup):
    """Train from the position of the backup."""
    import keras

    callbacks = [backup]
    if recipe.ema_decay is not None:
        callbacks.append(keras.callbacks.SwapEMAWeights())
    if args.tensorboard:
        callbacks.append(keras.callbacks.TensorBoard(args.output / "logs"))
    model.fit(
        batches,
        validation_data=test,
        epochs=recipe.epochs,
        initial_epoch=backup.epoch,
        shuffle=False,  # because the pipeline shuffles
        callbacks=callbacks,
    )


def finish(args, recipe, model, test, backup):
    """Print the metric, write the model and its history, and delete the backup."""
    import keras_mixers as km

    _, value = model.evaluate(test, verbose=0)
    print(f"Test {'average precision' if recipe.multi_label else 'accuracy'}: {value:.2%}")
    save_model(model, args.output / "model.keras")
    figure = km.visualize.plot_history(backup.history)
    save_figure(figure, args.output / "history.png", dpi=120)
    backup.path.unlink(missing_ok=True)  # because this run is finished
    print_content(args.output)
