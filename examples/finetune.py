"""Fine-tune a published checkpoint: new head alone first, then everything, early layers slower.

    python examples/finetune.py vit_tiny_patch16_224.augreg_in21k --dataset oxford_flowers102
    python examples/finetune.py weights.safetensors --family ViT --variant Ti/16 \\
        --set patch_size=4 depth=4 hidden_dim=64 num_heads=2 mlp_dim=128 --image-size 24

The first form takes a name in km.pretrained(), which also says what the images must look like; the
second any file that km.load_weights reads, with what its architecture differs in from the variant.
The output folder gets model.keras.
"""

import argparse
import ast
import dataclasses
import pathlib

import keras
from train import at_least

import keras_mixers as km

FAMILIES = ("ViT", "MLPMixer", "ConvMixer")


def share(text):
    number = float(text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, not {text}")
    return number


def setting(text):
    name, _, value = text.partition("=")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("checkpoint", help="a name in km.pretrained(), or a file")
    parser.add_argument("--family", choices=FAMILIES, help="for a file: its builder")
    parser.add_argument("--variant", help="for a file: the builder's row nearest to it")
    parser.add_argument(
        "--set",
        nargs="*",
        action="extend",
        type=setting,
        default=[],
        metavar="NAME=VALUE",
        help="for a file: the builder's arguments that differ from the row, such as depth=4",
    )
    parser.add_argument("--dataset", default="digits", help="digits, a name in TFDS, or a folder")
    parser.add_argument(
        "--image-size", type=at_least(1), help="pixels; a checkpoint's own if known"
    )
    parser.add_argument("--head-epochs", type=at_least(0), default=5, help="with all else frozen")
    parser.add_argument("--epochs", type=at_least(1), default=10, help="of everything, after that")
    parser.add_argument("--batch-size", type=at_least(1), default=64, help="images a step")
    parser.add_argument("--learning-rate", type=share, default=1e-3, help="of the head")
    parser.add_argument(
        "--layer-decay", type=share, default=0.75, help="each block's rate over the next one's"
    )
    parser.add_argument("--seed", type=at_least(0), default=0, help="of the new head and order")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("out"), help="folder")
    return parser.parse_args()


def find_checkpoint(args):
    """(family, variant, builder's arguments, preprocessing or None) of what was asked for."""
    for family in FAMILIES:
        row = km.pretrained(family).get(args.checkpoint)
        if row and (args.family or args.variant or args.set):
            raise ValueError(
                "--family, --variant and --set must be left out for a name in km.pretrained(),"
                f" which says what they are. Received: {args.checkpoint!r} with them"
            )
        if row:
            return family, row.variant, row.arguments, row.preprocessing
    if not (args.family and args.variant):
        raise ValueError(
            "CHECKPOINT must be a name in km.pretrained(), or a file with --family and --variant."
            f" Received: {args.checkpoint!r}"
        )
    return args.family, args.variant, dict(args.set), None


def fit(recipe, model, train, test):
    """Compile and train; the accuracy on the test images."""
    recipe.compile(model, len(train))
    # The pipeline shuffles; `shuffle=False` says that fit need not.
    model.fit(train, validation_data=test, epochs=recipe.epochs, shuffle=False)
    return model.evaluate(test, verbose=0)[1]


def main():
    args = parse_arguments()
    try:
        family, variant, settings, preprocessing = find_checkpoint(args)
        if preprocessing and args.image_size:
            preprocessing = dataclasses.replace(preprocessing, size=args.image_size)
        train, test, info = km.data.load(
            args.dataset,
            image_size=args.image_size,
            batch_size=args.batch_size,
            preprocessing=preprocessing,
            seed=args.seed,
        )
        keras.utils.set_random_seed(args.seed)  # after loading: preparing data draws numbers too
        settings = {**settings, "input_shape": info.input_shape}
        builder = getattr(km, family)
        if preprocessing:  # its builder fetches the file
            features = builder(variant, num_classes=0, weights=args.checkpoint, **settings)
            head = keras.layers.Dense(info.num_classes, dtype="float32", name="head")
            model = keras.Model(features.input, head(features.output), name=features.name)
        else:
            model = builder(variant, num_classes=info.num_classes, **settings)
            print(km.load_weights(model, args.checkpoint, head="skip", adapt=True))
        args.output.mkdir(parents=True, exist_ok=True)
    except (ValueError, TypeError, OSError, ImportError) as error:  # what will not do, and why
        raise SystemExit(f"finetune.py: {error}") from None

    body = [layer for layer in model.layers if not layer.name.startswith("head")]
    same = {"learning_rate": args.learning_rate, "clip_norm": 1.0}
    if args.head_epochs:
        for layer in body:
            layer.trainable = False
        accuracy = fit(km.Recipe(epochs=args.head_epochs, **same), model, train, test)
        print(f"Test accuracy with the head alone: {accuracy:.2%}")

    for layer in body:
        layer.trainable = True
    recipe = km.Recipe(epochs=args.epochs, layer_decay=args.layer_decay, **same)
    print(f"Test accuracy: {fit(recipe, model, train, test):.2%}")
    model.save(args.output / "model.keras")
    print(f"Saved: {args.output / 'model.keras'}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("\nfinetune.py: interrupted; nothing more is written") from None
