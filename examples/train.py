"""Train a model on a dataset, save it, export it, and run the exported files.

    python examples/train.py                        # a small ViT on the bundled digits
    python examples/train.py --model mlp_mixer      # or conv_mixer, or a hybrid pattern: MMA, CM
    python examples/train.py --dataset cifar10 --recipe "small natural" --image-size 32 \\
        --hidden-dim 192 --depth 6                  # any TFDS name; TFDS downloads this dataset
    python examples/train.py --resume               # resumes after Ctrl-C, a kill or a power cut

The script writes model.keras, history.png, recipe.json, flags.json, model.onnx and saved_model/
into the output folder. The two exports contain the preprocessing and the class names, so they take
images as bytes and return probabilities. On 2 CPU cores, training on the digits takes a minute and
a half and reaches 98 % test accuracy.
"""

import argparse
import contextlib
import dataclasses
import json
import pathlib
import re

from command_line import (
    at_least,
    describe_data,
    locked,
    positive_float,
    print_content,
    refuse_to_overwrite,
    save_figure,
    save_model,
    start,
)

FAMILIES = ("vit", "mlp_mixer", "conv_mixer")
COMPARED = 16  # test images on which the exported files are compared with the model


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
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
        "--deterministic", action="store_true", help="compute equal results in each run"
    )
    long.add_argument("--mirrored", action="store_true", help="use all GPUs of this machine")
    long.add_argument(
        "--gradient-checkpointing",
        action="store_true",
        help="recompute activations in the backward pass: less memory, more time",
    )
    long.add_argument("--tensorboard", action="store_true", help="write TensorBoard logs to logs/")
    return parser.parse_args()


if __name__ == "__main__":
    start(parse_arguments)

import keras
import numpy as np

import keras_mixers as km
from keras_mixers.files import write_text


def find_recipe(args):
    """The recipe of --recipe, with the values that other flags replace."""
    named = km.recipes()
    if args.recipe in named:
        recipe = named[args.recipe]
    elif pathlib.Path(args.recipe).is_file():
        recipe = km.Recipe.load(args.recipe)
    else:
        raise ValueError(
            f"--recipe must be a JSON file or one of {', '.join(map(repr, named))}. Received:"
            f" {args.recipe!r}"
        )
    flags = {name: getattr(args, name) for name in ("epochs", "batch_size", "learning_rate")}
    changed = {name: value for name, value in flags.items() if value is not None}
    epochs = changed.get("epochs", recipe.epochs)
    changed["warmup_epochs"] = recipe.warmup_epochs * epochs / recipe.epochs
    return dataclasses.replace(recipe, **changed)


def find_backup(args):
    """The backup in --output; only --resume continues it, and only --overwrite deletes it."""
    path = args.output / "backup.weights.h5"
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
            changed = [flag for flag in now[name] if now[name][flag] != before[name].get(flag)]
            old = " ".join(
                f"--{flag.replace('_', '-')} {before[name].get(flag)}" for flag in changed
            )
            raise ValueError(f"--resume needs the flags of the unfinished run: {old}")
        raise ValueError(
            f"--resume needs the {name} of the unfinished run. Received: {name} that changed since"
            f" the run in {args.output} began; restore it, or give another --output, or --overwrite"
        )


def fixed_flags(args):
    """The flags that must not change when training is resumed."""
    may_change = ("resume", "overwrite", "output", "save_every", "tensorboard")
    return {name: str(value) for name, value in vars(args).items() if name not in may_change}


def build(args, recipe, info):
    """A model of the family in --model, or a hybrid with the pattern in --model."""
    size = {
        "input_shape": info.input_shape,
        "num_classes": info.num_classes,
        "patch_size": args.patch_size,
        "hidden_dim": args.hidden_dim,
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


def largest_difference(model, info, images, folder):
    """Run both exported files in their runtimes, and compare the results with the model.

    The images are bytes, as a camera or a file gives them.
    """
    import onnxruntime
    import tensorflow as tf

    session = onnxruntime.InferenceSession(folder / "model.onnx")
    loaded = tf.saved_model.load(str(folder / "saved_model"))
    serve = loaded.signatures["serving_default"]
    largest = {"onnxruntime": 0.0, "SavedModel": 0.0}
    for image in images:
        batch = image[None]
        expected = np.asarray(model(info.preprocessing(batch), training=False))
        results = {
            "onnxruntime": session.run(["logits"], {"images": batch})[0],
            "SavedModel": serve(images=tf.constant(batch))["logits"],
        }
        for runtime, result in results.items():
            difference = np.abs(np.asarray(result) - expected).max()
            largest[runtime] = max(largest[runtime], difference)
    return largest


def fit(args, recipe, model, train, test, backup):
    """Train from the position of the backup; return losses and accuracies of all epochs."""
    callbacks = [backup]
    if recipe.ema_decay is not None:
        callbacks.append(keras.callbacks.SwapEMAWeights())
    if args.tensorboard:
        callbacks.append(keras.callbacks.TensorBoard(args.output / "logs"))
    # `shuffle=False`, because the pipeline shuffles.
    model.fit(
        train,
        validation_data=test,
        epochs=recipe.epochs,
        initial_epoch=backup.epoch,
        shuffle=False,
        callbacks=callbacks,
    )
    return backup.history


def unreadable_image(error):
    """The part of a TensorFlow error that names an image file and its problem, or None."""
    found = re.search(r"assertion failed: \[(.* is not a readable image.*)\]", str(error))
    return found and found[1]


def train(args, devices):
    """Train from the beginning or from the backup: `(model, info, backup)`."""
    import tensorflow as tf

    try:
        recipe = find_recipe(args)
        backup = find_backup(args)
        run = {"flags": fixed_flags(args), "recipe": json.loads(str(recipe))}
        before = read_run(args) if backup.path.exists() else None
        if before:
            check_same_run(args, before, **run)
        batches, test, info = km.data.load(
            args.dataset,
            image_size=args.image_size,
            batch_size=recipe.batch_size,
            augmentation=recipe.augmentation,
            drop_remainder=args.mirrored,  # because each device needs an equal part of a batch
            seed=args.seed,
            start=(backup.epoch, backup.batch),
        )
        run["data"] = describe_data(args, info)
        if before:
            check_same_run(args, before, data=run["data"])
        # Set the seed after loading, because preparing the data also uses random numbers.
        keras.utils.set_random_seed(args.seed)
        with devices():
            model = build(args, recipe, info)
            recipe.compile(model, len(batches))
        write_text(args.output / "flags.json", json.dumps(run, indent=2) + "\n")
        recipe.save(args.output / "recipe.json")
    except (ValueError, TypeError, OSError) as error:  # an invalid flag
        raise SystemExit(f"train.py: {error}") from None
    model.summary()
    try:
        history = fit(args, recipe, model, batches, test, backup)
    except FloatingPointError as error:
        raise SystemExit(f"train.py: {error}") from None
    except OSError as error:  # such as a full disk
        raise SystemExit(f"train.py: {error}; resume with --resume") from None
    except tf.errors.OpError as error:
        unreadable = unreadable_image(error)
        if not unreadable:
            raise
        raise SystemExit(f"train.py: {unreadable}") from None
    except KeyboardInterrupt:
        raise SystemExit(
            f"\ntrain.py: interrupted in epoch {backup.epoch + 1}; resume with --resume"
        ) from None
    _, accuracy = model.evaluate(test, verbose=0)
    print(f"Test accuracy: {accuracy:.2%}")
    save_model(model, args.output / "model.keras")
    save_figure(km.visualize.plot_history(history), args.output / "history.png", dpi=120)
    return model, info, backup


def export(args, model, info):
    """Write the files that a server needs, and run them on a few images."""
    serving = {"preprocessing": info.preprocessing, "class_names": info.class_names}
    print(km.export(model, args.output / "model.onnx", **serving))
    print(km.export(model, args.output / "saved_model", **serving))
    images = [image.numpy() for image, _ in km.data.images(args.dataset).take(COMPARED)]
    for runtime, difference in largest_difference(model, info, images, args.output).items():
        print(f"Largest difference in {runtime}, on {len(images)} test images: {difference:.1e}")


def main():
    args = parse_arguments()
    if keras.backend.backend() != "tensorflow":  # checked before the training, not after it
        raise SystemExit("train.py: the export needs TensorFlow: set KERAS_BACKEND=tensorflow")
    import tensorflow as tf

    if args.deterministic:
        tf.config.experimental.enable_op_determinism()
    devices = tf.distribute.MirroredStrategy().scope if args.mirrored else contextlib.nullcontext
    try:
        with locked(args.output):
            model, info, backup = train(args, devices)
            export(args, model, info)
            backup.path.unlink(missing_ok=True)  # because this run is finished
            print_content(args.output)
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"train.py: {error}") from None


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("\ntrain.py: interrupted; no more files are written") from None
