"""From a dataset's name to a deployed file: train a model, save it, export it, run the exports.

    python examples/train.py                        # a small ViT on the bundled digits
    python examples/train.py --model mlp_mixer      # or conv_mixer, or a hybrid's pattern: MMA, CM
    python examples/train.py --dataset cifar10 --recipe "small natural" --image-size 32 \\
        --hidden-dim 192 --depth 6                  # any TFDS name; this one is downloaded
    python examples/train.py --resume               # goes on after a Ctrl-C, a kill, a power cut

The output folder gets model.keras, history.png, recipe.json, model.onnx and saved_model/. On 2 CPU
cores the digits take a minute and a half and reach 98 % test accuracy.
"""

import argparse
import contextlib
import dataclasses
import json
import pathlib
import re

import keras
import numpy as np

import keras_mixers as km

FAMILIES = ("vit", "mlp_mixer", "conv_mixer")


def at_least(lowest):
    def parse(text):
        number = int(text)
        if number < lowest:
            raise argparse.ArgumentTypeError(f"must be {lowest} or more, not {number}")
        return number

    parse.__name__ = "int"  # what argparse calls a value that is none
    return parse


def positive_float(text):
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a finite number above 0, not {text}")
    return number


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--dataset", default="digits", help="digits, a name in TFDS, or a folder")
    parser.add_argument(
        "--model",
        default="vit",
        help=f"a family ({', '.join(FAMILIES)}), or a hybrid's pattern such as MMA or CM",
    )
    parser.add_argument("--image-size", type=int, default=16, help="pixels to resize to")
    parser.add_argument("--patch-size", type=int, default=4, help="pixels")
    parser.add_argument("--hidden-dim", type=int, default=64, help="width of a token")
    parser.add_argument("--depth", type=int, default=4, help="blocks; a pattern spells its own")
    parser.add_argument("--recipe", default="small", help="a name in km.recipes(), or a JSON file")
    parser.add_argument("--epochs", type=at_least(1), help="instead of the recipe's")
    parser.add_argument("--batch-size", type=at_least(1), help="instead of the recipe's")
    parser.add_argument("--learning-rate", type=positive_float, help="instead of the recipe's")
    parser.add_argument("--seed", type=at_least(0), default=0, help="of weights, order and draws")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("out"), help="folder")
    long = parser.add_argument_group("long trainings")
    long.add_argument("--resume", action="store_true", help="go on where --output's backup stands")
    long.add_argument("--save-every", type=at_least(1), metavar="STEPS", help="also in an epoch")
    long.add_argument("--deterministic", action="store_true", help="the same bits in every run")
    long.add_argument("--mirrored", action="store_true", help="on all GPUs of this machine")
    long.add_argument(
        "--gradient-checkpointing", action="store_true", help="less memory, more computing"
    )
    long.add_argument("--tensorboard", action="store_true", help="write logs/ for it")
    return parser.parse_args()


def find_recipe(args):
    """The recipe that is asked for, with what the flags change in it."""
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
    """The backup to go on from, or that of a beginning; one that is there is never lost."""
    backup = km.training.Backup(args.output / "backup.weights.h5", every=args.save_every)
    flags = args.output / "flags.json"
    if backup.path.exists() and not args.resume:
        raise ValueError(
            f"--output must be another folder, or --resume given: {backup.path} holds a training"
            f" that did not end. Received: --output {args.output}"
        )
    if args.resume and not backup.path.exists() and (args.output / "model.keras").exists():
        raise ValueError(
            f"--resume must find a training that did not end. Received: --output {args.output},"
            " where one has ended and left model.keras"
        )
    if backup.path.exists():
        before = json.loads(flags.read_text())
        changed = [name for name, value in described(args).items() if value != before.get(name)]
        if changed:
            wanted = ", ".join(f"--{name.replace('_', '-')} {before.get(name)}" for name in changed)
            raise ValueError(f"--resume must come with the flags of the training: {wanted}")
    return backup


def described(args):
    """What must be the same when a training goes on."""
    free = ("resume", "output", "save_every", "tensorboard")
    return {name: str(value) for name, value in vars(args).items() if name not in free}


def build(args, recipe, info):
    """A family at the asked-for size, or the hybrid that a pattern spells."""
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


def largest_difference(model, images, folder):
    """Run both exports in their own runtimes, and compare with the model."""
    import onnxruntime
    import tensorflow as tf

    expected = np.asarray(model(images, training=False))
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    loaded = tf.saved_model.load(str(folder / "saved_model"))
    answers = {
        "onnxruntime": session.run(["logits"], {"images": images})[0],
        "SavedModel": loaded.signatures["serving_default"](images=tf.constant(images))["logits"],
    }
    return {name: np.abs(np.asarray(answer) - expected).max() for name, answer in answers.items()}


def fit(args, recipe, model, train, test, backup):
    """Train from where the backup stands; losses and accuracies of all epochs."""
    callbacks = [backup]
    if recipe.ema_decay is not None:
        callbacks.append(keras.callbacks.SwapEMAWeights())
    if args.tensorboard:
        callbacks.append(keras.callbacks.TensorBoard(args.output / "logs"))
    # The pipeline shuffles; `shuffle=False` says that fit need not.
    model.fit(
        train,
        validation_data=test,
        epochs=recipe.epochs,
        initial_epoch=backup.epoch,
        shuffle=False,
        callbacks=callbacks,
    )
    return backup.history


def main():
    args = parse_arguments()
    if keras.backend.backend() != "tensorflow":  # known now, rather than once it has trained
        raise SystemExit(
            "train.py: it exports, which TensorFlow does: set KERAS_BACKEND=tensorflow"
        )
    import tensorflow as tf

    if args.deterministic:
        tf.config.experimental.enable_op_determinism()
    devices = tf.distribute.MirroredStrategy().scope if args.mirrored else contextlib.nullcontext
    try:
        recipe = find_recipe(args)
        backup = find_backup(args)
        train, test, info = km.data.load(
            args.dataset,
            image_size=args.image_size,
            batch_size=recipe.batch_size,
            augmentation=recipe.augmentation,
            drop_remainder=args.mirrored,  # batches that can be shared out evenly
            seed=args.seed,
            start=(backup.epoch, backup.batch),
        )
        keras.utils.set_random_seed(args.seed)  # after loading: preparing data draws numbers too
        with devices():
            model = build(args, recipe, info)
            recipe.compile(model, len(train))
        args.output.mkdir(parents=True, exist_ok=True)
        (args.output / "flags.json").write_text(json.dumps(described(args), indent=2) + "\n")
        recipe.save(args.output / "recipe.json")
    except (ValueError, TypeError, OSError) as error:  # a flag that will not do, and why
        raise SystemExit(f"train.py: {error}") from None
    model.summary()
    try:
        history = fit(args, recipe, model, train, test, backup)
    except FloatingPointError as error:
        raise SystemExit(f"train.py: {error}") from None
    except tf.errors.OpError as error:  # in it, deep down, the name of a file that is no image
        named = re.search(r"ValueError: (.* is not a readable image.*)", str(error))
        if not named:
            raise
        raise SystemExit(f"train.py: {named[1]}") from None
    except KeyboardInterrupt:
        raise SystemExit(
            f"\ntrain.py: interrupted in epoch {backup.epoch + 1}; --resume goes on from there"
        ) from None
    _, accuracy = model.evaluate(test, verbose=0)
    print(f"Test accuracy: {accuracy:.2%}")

    model.save(args.output / "model.keras")
    km.visualize.plot_history(history).savefig(args.output / "history.png", dpi=120)
    print(km.export(model, args.output / "model.onnx"))
    print(km.export(model, args.output / "saved_model"))
    images = next(iter(test))[0].numpy()
    for runtime, difference in largest_difference(model, images, args.output).items():
        print(f"Largest difference in {runtime}, on {len(images)} test images: {difference:.1e}")
    backup.path.unlink()  # this training has ended


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("\ntrain.py: interrupted; nothing more is written") from None
