"""Compare token mixers under one recipe on one dataset, in a table and a figure.

    python examples/compare_mixers.py                       # the study on CIFAR-10
    python examples/compare_mixers.py --dataset digits      # the same study without a download
    python examples/compare_mixers.py --dataset digits --models ViT MLP-Mixer ConvMixer MMA CM \\
        --seeds 3 --without-augmentation    # five small models, with and without augmentation

The study repeats one from an introduction to these models. Its published accuracies on CIFAR-10,
with a plain recipe, are: Mixer x2 68.92 %, attention x2 64.68 %, Mixer + attention 64.51 %,
2 Mixer + attention 65.03 %, Mixer x1 49.39 %, ConvMixer-16/1 49.36 %, ConvMixer + Mixer 51.91 %,
one-layer ViT with 4 heads on 12 x 12 patches 69.35 %.

The third command gave these accuracies in % on one CPU core: the mean of three seeds, and in
parentheses the worst.

    model       with augmentation   without          parameters   minutes
    ViT         99.35 (99.17)       97.41 (96.94)    136,906      1.0
    MLP-Mixer   99.54 (99.44)       98.61 (98.33)     77,706      0.7
    ConvMixer   99.81 (99.72)       99.54 (98.89)     27,338      0.5
    MMA         99.44 (98.89)       98.15 (97.50)     72,170      0.6
    CM          99.54 (99.44)       98.80 (98.33)     26,362      0.4

The script writes table.csv and picture.png into the output folder, with one row per model. The
accuracy is measured with the last epoch's weights on the test images, averaged over the seeds.
"""

import argparse
import dataclasses
import pathlib
import statistics
import time

from benchmark import show
from command_line import add_dtype, add_overwrite, at_least, start

PREDICTED = 1024  # images per measurement of speed


@dataclasses.dataclass(frozen=True)
class Contender:
    """A model of the study: its builder, its arguments, and the size of its images."""

    builder: str
    variant: str
    image_size: int
    patch_size: int
    hidden_dim: int
    arguments: dict = dataclasses.field(default_factory=dict)

    def build(self, info, dtype):
        return getattr(km, self.builder)(
            self.variant,
            input_shape=info.input_shape,
            num_classes=info.num_classes,
            patch_size=self.patch_size,
            hidden_dim=self.hidden_dim,
            dtype=dtype,
            **self.arguments,
        )


HYBRID = {"num_heads": 4, "mlp_dim": 256, "tokens_mlp_dim": 64}
VIT = {"depth": 4, "num_heads": 2, "mlp_dim": 128}
MIXER = {"depth": 4, "tokens_mlp_dim": 64, "channels_mlp_dim": 128}
MODELS = {
    "Mixer x2": Contender("Hybrid", "MM", 64, 8, 128, HYBRID),
    "attention x2": Contender("Hybrid", "AA", 64, 8, 128, HYBRID),
    "Mixer + attention": Contender("Hybrid", "MA", 64, 8, 128, HYBRID),
    "2 Mixer + attention": Contender("Hybrid", "MMA", 64, 8, 128, HYBRID),
    "Mixer x1": Contender("Hybrid", "M", 32, 4, 16),
    "ConvMixer-16/1": Contender("ConvMixer", "256/8-k5-p2", 32, 2, 16, {"depth": 1}),
    "ConvMixer + Mixer": Contender("Hybrid", "CM", 32, 2, 16),
    "one-layer ViT": Contender(
        "ViT", "Ti/16", 72, 6, 64, {"depth": 1, "num_heads": 4, "mlp_dim": 128}
    ),
    # The models that examples/train.py trains on the digits.
    "ViT": Contender("ViT", "Ti/16", 16, 4, 64, VIT),
    "MLP-Mixer": Contender("MLPMixer", "S/16", 16, 4, 64, MIXER),
    "ConvMixer": Contender("ConvMixer", "256/8-k5-p2", 16, 4, 64, {"depth": 4}),
    "MMA": Contender("Hybrid", "MMA", 16, 4, 64, {"mlp_dim": 128}),
    "CM": Contender("Hybrid", "CM", 16, 4, 64, {"mlp_dim": 128}),
}
STUDY = list(MODELS)[:8]


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--dataset", default="cifar10", help="digits, a TFDS name, or a folder")
    parser.add_argument(
        "--models",
        nargs="+",
        choices=MODELS,
        default=STUDY,
        metavar="NAME",
        help=f"models to compare, of {', '.join(MODELS)}",
    )
    parser.add_argument("--recipe", default="small", help="a name in km.recipes()")
    parser.add_argument("--epochs", type=at_least(1), help="replaces the recipe's value")
    add_dtype(parser)
    parser.add_argument("--seeds", type=at_least(1), default=1, help="training runs per model")
    parser.add_argument(
        "--without-augmentation",
        action="store_true",
        help="also train each model without augmentation",
    )
    parser.add_argument(
        "--logs",
        nargs="*",
        choices=("csv", "tensorboard"),
        default=[],
        help="logs to write for each epoch",
    )
    parser.add_argument("--output", type=pathlib.Path, default="compared", help="output folder")
    add_overwrite(parser)
    return parser.parse_args()


if __name__ == "__main__":
    start(parse_arguments)

import keras

import keras_mixers as km
from keras_mixers import arguments
from keras_mixers.commands.folders import locked, refuse_to_overwrite, save_figure


def train(name, recipe, args, seed, log):
    """Train one model: (model, test images, test accuracy, seconds per epoch)."""
    contender = MODELS[name]
    batches, test, info = km.data.load(
        args.dataset,
        image_size=contender.image_size,
        batch_size=recipe.batch_size,
        augmentation=recipe.augmentation,
        seed=seed,
    )
    keras.utils.set_random_seed(seed)
    model = contender.build(info, args.dtype)
    recipe.compile(model, len(batches))
    callbacks = []
    if "csv" in args.logs:
        callbacks.append(keras.callbacks.CSVLogger(f"{log}.csv"))
    if "tensorboard" in args.logs:
        callbacks.append(keras.callbacks.TensorBoard(log))
    begin = time.perf_counter()
    model.fit(
        batches,
        validation_data=test if args.logs else None,
        epochs=recipe.epochs,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    )
    seconds = (time.perf_counter() - begin) / recipe.epochs
    return model, test, model.evaluate(test, verbose=0)[1], seconds


def images_per_second(model, test):
    """The speed of `model.predict`, the best of three rounds."""
    images = test.unbatch().map(lambda image, _: image).repeat().take(PREDICTED).batch(64).cache()
    model.predict(images, verbose=0)
    rounds = []
    for _ in range(3):
        begin = time.perf_counter()
        model.predict(images, verbose=0)
        rounds.append(PREDICTED / (time.perf_counter() - begin))
    return max(rounds)


def compare(args):
    """Yield one row per model, and with --without-augmentation a second one."""
    in_epochs = {name: recipe for name, recipe in km.recipes().items() if recipe.epochs}
    recipe = in_epochs[arguments.choice("--recipe", args.recipe, in_epochs)]
    recipe = recipe.for_epochs(args.epochs or recipe.epochs)
    plain = dataclasses.replace(recipe, augmentation=km.data.Augmentation())
    recipes = {"": recipe, **({"without": plain} if args.without_augmentation else {})}
    for name in args.models:
        for augmentation, each in recipes.items():
            accuracies, seconds = [], []
            for seed in range(args.seeds):
                keras.utils.clear_session()
                log = args.output / f"{name} {augmentation} {seed}".replace(" ", "-")
                model, test, accuracy, duration = train(name, each, args, seed, log)
                accuracies.append(accuracy)
                seconds.append(duration)
                print(f"{name} {augmentation} seed {seed}: {accuracy:.2%}", flush=True)
            yield {
                "model": name,
                **({"augmentation": augmentation or "with"} if len(recipes) > 1 else {}),
                "parameters": model.count_params(),
                "s_per_epoch": round(statistics.median(seconds), 2),
                "minutes": round(statistics.median(seconds) * each.epochs / 60, 1),
                "accuracy": round(100 * statistics.mean(accuracies), 2),
                "worst": round(100 * min(accuracies), 2),
                "images_s": round(images_per_second(model, test)),
            }


def plot(rows, path, title):
    """Draw the accuracy of each model as a dot, hollow for training without augmentation."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row["model"] for row in rows))
    figure = Figure(figsize=(8, 1.2 + 0.45 * len(names)), layout="constrained")
    axes = figure.subplots()
    for kind, face in (("with", "#4477aa"), ("without", "white")):
        selected = [row for row in rows if row.get("augmentation", "with") == kind]
        accuracies = [row["accuracy"] for row in selected]
        heights = [names.index(row["model"]) for row in selected]
        label = f"{kind} augmentation"
        axes.scatter(accuracies, heights, 70, face, edgecolors="#4477aa", label=label, zorder=3)
        for accuracy, height in zip(accuracies, heights, strict=True):
            axes.annotate(f"{accuracy:.2f}", (accuracy, height - 0.2), ha="center", fontsize=8)
    axes.set(title=title, xlabel="test accuracy, %", yticks=range(len(names)), yticklabels=names)
    axes.set_ylim(len(names) - 0.5, -0.7)
    axes.margins(x=0.08)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if "augmentation" in rows[0]:
        figure.legend(loc="outside lower right", ncols=2, frameon=False)
    save_figure(figure, path, dpi=120)


def main():
    args = parse_arguments()
    try:
        with locked(args.output):
            refuse_to_overwrite(args, "table.csv", "picture.png")
            rows = list(compare(args))
            show(rows, args.output / "table.csv")
            plot(rows, args.output / "picture.png", f"{args.dataset}, recipe {args.recipe!r}")
    except (ValueError, TypeError, OSError) as error:  # an invalid flag
        raise SystemExit(f"compare_mixers.py: {error}") from None


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("\ncompare_mixers.py: interrupted; no more files are written") from None
