"""Fine-tune a published checkpoint: first a new head, then all layers, the early ones slower.

    python examples/finetune.py vit_tiny_patch16_224.augreg_in21k --dataset oxford_flowers102
    python examples/finetune.py weights.safetensors --family ViT --variant Ti/16 \\
        --set patch_size=4 depth=4 hidden_dim=64 num_heads=2 mlp_dim=128 --image-size 24

The first form takes a name in km.pretrained(), which also states how to prepare the images. The
second form takes any file that km.load_weights reads. --family and --variant name the builder and
its row; --set gives the arguments in which the file's architecture differs from this row. The
result is model.keras in the output folder.
"""

import argparse
import ast
import dataclasses
import pathlib

from command_line import (
    add_overwrite,
    at_least,
    locked,
    print_content,
    refuse_to_overwrite,
    save_model,
    start,
)

FAMILIES = ("ViT", "MLPMixer", "ConvMixer")


def fraction(text):
    number = float(text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, not {text}")
    return number


def setting(text):
    """`"depth=4"` as `("depth", 4)`; a value that is not a Python literal stays text."""
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
    parser.add_argument("--variant", help="for a file: the builder's row that is most similar")
    parser.add_argument(
        "--set",
        nargs="*",
        action="extend",
        type=setting,
        default=[],
        metavar="NAME=VALUE",
        help="for a file: the arguments that differ from the row, such as depth=4",
    )
    parser.add_argument("--dataset", default="digits", help="digits, a name in TFDS, or a folder")
    parser.add_argument(
        "--image-size",
        type=at_least(1),
        help="in pixels; without it, the size of the checkpoint if known",
    )
    parser.add_argument(
        "--head-epochs", type=at_least(0), default=5, help="epochs that train only the new head"
    )
    parser.add_argument(
        "--epochs", type=at_least(1), default=10, help="epochs that train all layers"
    )
    parser.add_argument("--batch-size", type=at_least(1), default=64, help="images per step")
    parser.add_argument(
        "--learning-rate", type=fraction, default=1e-3, help="learning rate of the head"
    )
    parser.add_argument(
        "--layer-decay",
        type=fraction,
        default=0.75,
        help="learning rate of a block divided by the rate of the block after it",
    )
    parser.add_argument(
        "--seed", type=at_least(0), default=0, help="seed of the new head and the order"
    )
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("out"), help="folder")
    add_overwrite(parser)
    return parser.parse_args()


if __name__ == "__main__":
    start(parse_arguments)

import keras

import keras_mixers as km


def find_checkpoint(args):
    """(family, variant, builder's arguments, preprocessing or None) of the checkpoint."""
    row = km.pretrained().get(args.checkpoint)
    if row and (args.family or args.variant or args.set):
        raise ValueError(
            "--family, --variant and --set must be left out for a name in km.pretrained(),"
            f" which states them. Received: {args.checkpoint!r} with one of these flags"
        )
    if row:
        return row.family, row.variant, row.arguments, row.preprocessing
    if not (args.family and args.variant):
        raise ValueError(
            "CHECKPOINT must be a name in km.pretrained(), or a file with --family and --variant."
            f" Received: {args.checkpoint!r}"
        )
    return args.family, args.variant, dict(args.set), None


def fit(recipe, model, train, test):
    """Compile and train the model, and return its accuracy on the test images."""
    recipe.compile(model, len(train))
    # `shuffle=False`, because the pipeline shuffles already.
    model.fit(train, validation_data=test, epochs=recipe.epochs, shuffle=False)
    return model.evaluate(test, verbose=0)[1]


def main():
    args = parse_arguments()
    try:
        with locked(args.output):
            finetune(args)
            print_content(args.output)
    except (ValueError, OSError) as error:
        raise SystemExit(f"finetune.py: {error}") from None


def finetune(args):
    """Train the head and then all layers, and write model.keras."""
    try:
        family, variant, settings, preprocessing = find_checkpoint(args)
        refuse_to_overwrite(args, "model.keras")
        if preprocessing and args.image_size:
            preprocessing = dataclasses.replace(preprocessing, size=args.image_size)
        train, test, info = km.data.load(
            args.dataset,
            image_size=args.image_size,
            batch_size=args.batch_size,
            preprocessing=preprocessing,
            seed=args.seed,
        )
        # After loading, because preparing a dataset uses random numbers.
        keras.utils.set_random_seed(args.seed)
        settings = {**settings, "input_shape": info.input_shape}
        builder = getattr(km, family)
        if preprocessing:  # a name in the catalog: the builder downloads the file
            features = builder(variant, num_classes=0, weights=args.checkpoint, **settings)
            head = keras.layers.Dense(info.num_classes, dtype="float32", name="head")
            model = keras.Model(features.input, head(features.output), name=features.name)
        else:
            model = builder(variant, num_classes=info.num_classes, **settings)
            print(km.load_weights(model, args.checkpoint, head="skip", adapt=True))
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise SystemExit(f"finetune.py: {error}") from None

    recipe = km.Recipe(
        epochs=args.epochs,
        head_epochs=args.head_epochs,
        learning_rate=args.learning_rate,
        layer_decay=args.layer_decay,
        clip_norm=1.0,
    )
    for stage in recipe.stages(len(train)):
        when = " after training the head" if stage.frozen_blocks == "all" else ""
        print(f"Test accuracy{when}: {fit(stage, model, train, test):.2%}")
    save_model(model, args.output / "model.keras")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("\nfinetune.py: interrupted; nothing more is written") from None
