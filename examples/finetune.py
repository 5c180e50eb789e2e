"""Fine-tune a published model on your own images: check, train, evaluate, look inside, export.

    python examples/finetune.py photos              # photos/cat/1.jpg, photos/dog/1.jpg, ...
    python examples/finetune.py photos.csv          # a CSV file of paths and labels
    python examples/finetune.py photos --resume     # resumes after Ctrl-C, a kill or a power cut
    python examples/finetune.py photos --checkpoint vit_small_patch14_dinov2 --image-size 224
    python examples/finetune.py digits --checkpoint weights.safetensors --family ViT \\
        --variant Ti/16 --set patch_size=4 depth=4 hidden_dim=64 num_heads=2 mlp_dim=128

The checkpoint is a name of km.list_models(), or a file that km.load_weights reads. For a file,
--family and --variant name the builder and its row, and --set gives the arguments in which the
file's architecture differs from this row. The script chooses the recipe by the model and the number
of images. The output folder then contains model.keras, recipe.json, flags.json, history.png,
evaluation.html (figures and the worst mistakes), explorer.html (attention, hidden units and
kernels), model.onnx and saved_model/.
"""

import argparse
import ast
import dataclasses
import json
import math
import pathlib

from command_line import at_least, positive_float, start

FAMILIES = ("ViT", "MLPMixer", "ConvMixer")
EXPLORED = 8  # validation images in explorer.html


def setting(text):
    """`"depth=4"` as `("depth", 4)`; a value that is not a Python literal stays text."""
    name, _, value = text.partition("=")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    settings = {"nargs": "*", "action": "extend", "type": setting, "default": []}
    parser.add_argument("dataset", help="a folder, a CSV file, digits, or a name in TFDS")
    parser.add_argument(
        "--checkpoint",
        default="vit_small_patch16_224.augreg_in21k_ft_in1k",
        help="a name of km.list_models(), or a file",
    )
    parser.add_argument("--family", choices=FAMILIES, help="for a file: its builder")
    parser.add_argument("--variant", help="for a file: the builder's row that is most similar")
    parser.add_argument(
        "--set",
        **settings,
        metavar="NAME=VALUE",
        help="for a file: the arguments that differ from the row, such as depth=4",
    )
    parser.add_argument(
        "--image-size", type=at_least(1), help="in pixels; by default the checkpoint's"
    )
    parser.add_argument("--recipe", help="a name in km.recipes() or a JSON file, not the script's")
    parser.add_argument("--epochs", type=at_least(1), help="replaces the recipe's length")
    parser.add_argument("--batch-size", type=at_least(1), help="replaces the recipe's value")
    parser.add_argument("--learning-rate", type=positive_float, help="replaces the recipe's value")
    parser.add_argument(
        "--augmentation",
        **settings,
        metavar="NAME=VALUE",
        help="replaces the recipe's: arguments of km.data.Augmentation, such as flip=True",
    )
    parser.add_argument("--seed", type=at_least(0), default=0, help="of the head and the order")
    parser.add_argument("--output", type=pathlib.Path, default="finetuned", help="folder")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="resume the run in --output")
    again.add_argument("--overwrite", action="store_true", help="replace the run in --output")
    return parser.parse_args()


if __name__ == "__main__":
    start(parse_arguments)

import keras

import keras_mixers as km
from keras_mixers.commands.build import named_recipe, replaced
from keras_mixers.commands.folders import (
    describe_data,
    locked,
    print_content,
    save_figure,
    save_model,
)
from keras_mixers.commands.record import check_same_run, fixed_flags, read_run, short_errors
from keras_mixers.files import write_text


def build(args, info):
    """The model of the checkpoint, with a new head for the classes of the data."""
    sizes = {"num_classes": info.num_classes}
    if not args.family:
        if args.image_size:
            sizes["input_shape"] = (args.image_size, args.image_size, 3)
        return km.create_model(args.checkpoint, **sizes)
    sizes["input_shape"] = info.input_shape
    model = getattr(km, args.family)(args.variant, **sizes, **dict(args.set))
    print(km.load_weights(model, args.checkpoint, head="skip", adapt=True))
    return model


def find_recipe(args, model, info):
    """The recipe of --recipe, or the one for this model and number of images; with other flags."""
    if args.recipe:
        recipe = named_recipe(args.recipe)
    else:
        recipe = km.Recipe.for_finetuning(model=model, num_images=info.num_train)
    recipe = replaced(recipe.for_epochs(args.epochs) if args.epochs else recipe, args)
    if args.augmentation:
        augmentation = km.data.Augmentation(**dict(args.augmentation))
        recipe = dataclasses.replace(recipe, augmentation=augmentation)
    if info.multi_label:
        recipe = dataclasses.replace(recipe, loss="sigmoid", multi_label=True)
    return recipe


def load(args, preprocessing, **stage):
    """`km.data.load` with the flags; files that are not readable images are left out."""
    size = {"image_size": args.image_size or 224} if preprocessing is None else {}
    return km.data.load(
        args.dataset, preprocessing=preprocessing, on_error="skip", seed=args.seed, **size, **stage
    )


def begin(args):
    """Check the flags, and refuse to mix two runs without --overwrite."""
    if pathlib.Path(args.checkpoint).is_file() and not (args.family and args.variant):
        raise ValueError(
            "--family and --variant must name the builder and its row for a file. Received:"
            f" --checkpoint {args.checkpoint}"
        )
    if args.recipe:
        named_recipe(args.recipe)
    km.data.Augmentation(**dict(args.augmentation))
    earlier = [args.output / "model.keras", args.output / "flags.json"]
    found = [path for path in earlier if path.exists()]
    if found and not args.resume and not args.overwrite:
        raise ValueError(
            "--output must be another folder, or --resume or --overwrite must be given. Received:"
            f" --output {args.output}, where a run has written {found[0].name}"
        )
    if found and args.resume:
        check_same_run(args, read_run(args), flags=fixed_flags(args))


def prepare(args):
    """The model with a new head, its recipe and the number of images; record the run.

    With --overwrite, the earlier run is deleted when all flags are valid.
    """
    # Only to count the images and the classes: the recipe and the head depend on them.
    _, _, info = load(args, None)
    keras.utils.set_random_seed(args.seed)  # after loading, because preparing data draws numbers
    model = build(args, info)
    recipe = find_recipe(args, model, info)
    run = {"flags": fixed_flags(args), "recipe": json.loads(str(recipe))}
    run["data"] = describe_data(args, info)
    if args.overwrite:
        for path in [args.output / "model.keras", *args.output.glob("stage_*.weights.h5")]:
            path.unlink(missing_ok=True)
    elif (args.output / "flags.json").exists():
        check_same_run(args, read_run(args), recipe=run["recipe"], data=run["data"])
    write_text(args.output / "flags.json", json.dumps(run, indent=2) + "\n")
    recipe.save(args.output / "recipe.json")
    print(f"Recipe: {recipe.source}")
    return model, recipe, info.num_train


def train(args, model, recipe, num_images):
    """Train each stage of the recipe from its backup, and write model.keras and history.png."""
    preprocessing, history = model.preprocessing, {}
    stages = recipe.stages(math.ceil(num_images / recipe.batch_size))
    for i, stage in enumerate(stages):
        backup = km.training.Backup(args.output / f"stage_{i}.weights.h5")
        batches, validation, info = load(
            args,
            preprocessing,
            batch_size=stage.batch_size,
            augmentation=stage.augmentation,
            start=(backup.epoch, backup.batch),
        )
        model.set_info(info)
        stage.compile(model, len(batches))
        trained = sum(math.prod(weight.shape) for weight in model.trainable_weights)
        print(
            f"Stage {i + 1} of {len(stages)}: {trained:,} of {model.count_params():,} weights train"
        )
        with short_errors("finetune.py", backup):
            model.fit(
                batches,
                validation_data=validation,
                epochs=stage.epochs,
                initial_epoch=backup.epoch,
                shuffle=False,  # because the pipeline shuffles
                callbacks=[backup],
            )
        history = {name: history.get(name, []) + values for name, values in backup.history.items()}
    save_figure(km.visualize.plot_history(history), args.output / "history.png", dpi=120)
    save_model(model, args.output / "model.keras")


def report(args, model):
    """Evaluate the model, and write the two pages and the exports."""
    _, validation, info = load(args, model.preprocessing)
    check_same_run(args, read_run(args), data=describe_data(args, info))
    evaluation = km.evaluate(model, validation, info)
    print(evaluation)
    km.visualize.evaluation_report(evaluation, args.output / "evaluation.html", info)
    images = next(iter(validation))[0][:EXPLORED]
    names = info.class_names
    km.visualize.attention_explorer(model, images, args.output / "explorer.html", class_names=names)
    print(km.export(model, args.output / "model.onnx"))
    print(km.export(model, args.output / "saved_model"))


def finetune(args):
    begin(args)
    if args.overwrite or not (args.output / "model.keras").exists():
        if pathlib.Path(args.dataset).exists():
            print(km.data.check(args.dataset))
        train(args, *prepare(args))
        for path in args.output.glob("stage_*.weights.h5"):
            path.unlink()
    # Without the optimizer, which counts LoRA matrices that the file has added to their kernels.
    report(args, keras.models.load_model(args.output / "model.keras", compile=False))
    print_content(args.output)


def main():
    args = parse_arguments()
    if keras.backend.backend() != "tensorflow":  # checked before the training, not after it
        raise SystemExit("finetune.py: the export needs TensorFlow: set KERAS_BACKEND=tensorflow")
    try:
        with locked(args.output):
            finetune(args)
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise SystemExit(f"finetune.py: {error}") from None


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("\nfinetune.py: interrupted; resume with --resume") from None
