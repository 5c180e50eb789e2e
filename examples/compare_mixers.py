"""Compare token mixers under one recipe on one dataset, in a table and a figure.

    python examples/compare_mixers.py                       # the study on CIFAR-10
    python examples/compare_mixers.py --dataset digits      # the same study without a download
    python examples/compare_mixers.py --dataset fashion_mnist --models all --epochs 6 --seeds 3 \\
        --dtype mixed_bfloat16
    python examples/compare_mixers.py --dataset digits --models ViT MLP-Mixer ConvMixer MMA CM \\
        --seeds 3 --without-augmentation    # five small models, with and without augmentation

After Ctrl-C or a kill, the same command with --resume trains the models that are missing. It
trains all models with one seed before the next seed.

The study repeats one from an introduction to these models. Its published accuracies on CIFAR-10,
with a plain recipe, are: Mixer x2 68.92 %, attention x2 64.68 %, Mixer + attention 64.51 %,
2 Mixer + attention 65.03 %, Mixer x1 49.39 %, ConvMixer-16/1 49.36 %, ConvMixer + Mixer 51.91 %,
one-layer ViT with 4 heads on 12 x 12 patches 69.35 %.

The last command gave these accuracies in % on one CPU core: the mean of three seeds, and in
parentheses the worst.

    model       with augmentation   without          parameters   minutes
    ViT         99.35 (99.17)       97.41 (96.94)    136,906      1.0
    MLP-Mixer   99.54 (99.44)       98.61 (98.33)     77,706      0.7
    ConvMixer   99.81 (99.72)       99.54 (98.89)     27,338      0.5
    MMA         99.44 (98.89)       98.15 (97.50)     72,170      0.6
    CM          99.54 (99.44)       98.80 (98.33)     26,362      0.4

The images of CIFAR-10 are enlarged to up to 72 x 72 pixels, as in the introduction; the five small
models get 16 x 16 pixels. All models get images of 28 x 28 pixels, such as those of fashion_mnist,
in their own size, because enlarging adds cost and no information. They then cut 7 x 7 patches
instead of 8 x 8, or of 4 x 4 for the five small models. The models with small patches cut 14 x 14
instead of 16 x 16, or of 12 x 12 for the one-layer ViT.

The output folder has a file of each training run and its model in runs/. After each run, the script
writes table.csv and picture.png of the finished runs that the flags name, with one row per model.
--overwrite replaces an earlier study when the first run has finished.

The accuracy is measured with the last epoch's weights on the test images, averaged over the seeds.
The column cpu_s has the seconds of one epoch that all cores spent together. It says more than
s_per_epoch if other programs run. With --logs, both include the validation after each epoch.
"""

import argparse
import dataclasses
import pathlib
import re
import shutil
import statistics
import time

from benchmark import show, write_csv
from command_line import add_dtype, add_overwrite, at_least, start
from study_runs import Run, in_words, seconds_left

PREDICTED = 1024  # images per measurement of speed
OF_28_PIXELS = ("emnist", "fashion_mnist", "kmnist", "mnist")


@dataclasses.dataclass(frozen=True)
class Contender:
    """A model of the study: its builder, its arguments, and the size of its images.

    `patch_of_28` is the patch size on images of 28 x 28 pixels.
    """

    builder: str
    variant: str
    image_size: int
    patch_size: int
    hidden_dim: int
    arguments: dict = dataclasses.field(default_factory=dict)
    patch_of_28: int = 4

    def on(self, dataset):
        """The model for the size of the dataset's images."""
        if re.split("[/:]", dataset)[0] not in OF_28_PIXELS:
            return self
        return dataclasses.replace(self, image_size=28, patch_size=self.patch_of_28)

    def build(self, info, dtype, **arguments):
        return getattr(km, self.builder)(
            self.variant,
            input_shape=info.input_shape,
            num_classes=info.num_classes,
            patch_size=self.patch_size,
            hidden_dim=self.hidden_dim,
            dtype=dtype,
            **self.arguments,
            **arguments,
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
    "ConvMixer-16/1": Contender("ConvMixer", "256/8-k5-p2", 32, 2, 16, {"depth": 1}, 2),
    "ConvMixer + Mixer": Contender("Hybrid", "CM", 32, 2, 16, patch_of_28=2),
    "one-layer ViT": Contender(
        "ViT", "Ti/16", 72, 6, 64, {"depth": 1, "num_heads": 4, "mlp_dim": 128}, 2
    ),
    # The models that `keras-mixers train --model` trains on the digits.
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
        choices=(*MODELS, "all"),
        default=STUDY,
        metavar="NAME",
        help=f"models to compare, of {', '.join(MODELS)}, or all",
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
    again = parser.add_mutually_exclusive_group()
    again.add_argument(
        "--resume", action="store_true", help="keep the finished runs of the study in --output"
    )
    add_overwrite(again)
    args = parser.parse_args()
    if "all" in args.models:
        args.models = list(MODELS)
    return args


if __name__ == "__main__":
    start(parse_arguments)

import keras

import keras_mixers as km
from keras_mixers import arguments
from keras_mixers.commands.build import check_trains_all
from keras_mixers.commands.folders import digest_of, locked, save_figure, save_model
from keras_mixers.files import new_parents


def plan(args):
    """All runs of the study with their recipes, in the order of training: `{run: recipe}`."""
    in_epochs = {name: recipe for name, recipe in km.recipes().items() if recipe.epochs}
    recipe = in_epochs[arguments.choice("--recipe", args.recipe, in_epochs)]
    check_trains_all(recipe, args.recipe)
    recipe = recipe.for_epochs(args.epochs or recipe.epochs)
    recipes = {"with": recipe}
    if args.without_augmentation:
        recipes["without"] = dataclasses.replace(recipe, augmentation=km.data.Augmentation())
    folder = pathlib.Path(args.dataset)
    data = digest_of(folder) if folder.exists() else None
    return {
        Run(model, augmentation, seed, settings_of(args, data, model, each)): each
        for seed in range(args.seeds)
        for model in args.models
        for augmentation, each in recipes.items()
    }


def settings_of(args, data, model, recipe):
    """What must not change when the study is resumed, as a flat dict.

    `data` is a digest of a dataset in files.
    """
    values = {key: value for key, value in recipe.get_config().items() if key != "source"}
    contender = dataclasses.asdict(MODELS[model].on(args.dataset))
    return {
        "dataset": args.dataset,
        "data": data,
        "dtype": args.dtype,
        "recipe": args.recipe,
        "epochs": values.pop("epochs"),
        **{f"recipe.{key}": value for key, value in values.items()},
        **{f"model.{key}": value for key, value in contender.items()},
    }


def find_rows(args, runs):
    """The results of the finished runs in the output folder, without those to be overwritten."""
    if args.overwrite:
        return {}
    folder = args.output / "runs"
    results = (*folder.glob("*.json"), args.output / "table.csv")
    found = [path for path in results if path.exists()]
    if found and not args.resume:
        raise ValueError(
            "--output must be another folder, or --resume or --overwrite must be given:"
            f" {found[0]} is of an earlier study. Received: --output {args.output}"
        )
    rows = {run: run.read(folder) for run in runs}
    return {run: row for run, row in rows.items() if row is not None}


def train(run, recipe, args):
    """Train and evaluate one model: `(model, the numbers of its row)`."""
    contender = MODELS[run.model].on(args.dataset)
    batches, test, info = km.data.load(
        args.dataset,
        image_size=contender.image_size,
        batch_size=recipe.batch_size,
        augmentation=recipe.augmentation,
        seed=run.seed,
    )
    keras.utils.set_random_seed(run.seed)
    model = contender.build(info, args.dtype, **recipe.model_arguments)
    model.set_info(info)
    recipe.compile(model, len(batches))
    log, callbacks = args.output / run.name, []
    if "csv" in args.logs:
        callbacks.append(keras.callbacks.CSVLogger(f"{log}.csv"))
    if "tensorboard" in args.logs:
        callbacks.append(keras.callbacks.TensorBoard(log))
    begin, begin_cpu = time.perf_counter(), time.process_time()
    model.fit(
        batches,
        validation_data=test if args.logs else None,
        epochs=recipe.epochs,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    )
    seconds, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    return model, {
        "accuracy": model.evaluate(test, verbose=0)[1],
        "parameters": model.count_params(),
        "seconds": seconds,
        "s_per_epoch": seconds / recipe.epochs,
        "cpu_s_per_epoch": cpu / recipe.epochs,
        "images_s": images_per_second(model, test),
    }


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


def compare(args, runs):
    """Train the models of the runs that are not finished; yield the table after each run."""
    rows = find_rows(args, runs)
    if rows:
        yield summarize(runs, rows)
    for number, (run, recipe) in enumerate(runs.items(), 1):
        if run in rows:
            continue
        left = in_words(seconds_left(runs, rows))
        print(f"{number} of {len(runs)}: {run}; {left} left for the study", flush=True)
        keras.utils.clear_session()
        folder = args.output / "runs"
        model, numbers = train(run, recipe, args)
        if args.overwrite and not rows and folder.exists():
            shutil.rmtree(folder)  # now, because an invalid flag must not cost earlier results
        with new_parents(folder / run.name):
            save_model(model, folder / f"{run.name}.keras")
            run.write(folder, numbers)
        rows[run] = run.read(folder)
        print(f"{rows[run]['accuracy']:.2%} after {in_words(rows[run]['seconds'])}", flush=True)
        yield summarize(runs, rows)


def summarize(runs, rows):
    """One row for each model, and each augmentation if there are two, that has a finished run."""
    seeds = {}
    for run in runs:
        if run in rows:
            seeds.setdefault((run.model, run.augmentation), []).append(rows[run])
    two = len({run.augmentation for run in runs}) > 1
    return [
        {"model": model, **({"augmentation": augmentation} if two else {}), **mean_of(group)}
        for (model, augmentation), group in seeds.items()
    ]


def mean_of(rows):
    """The columns of the table for the seeds of one model."""
    values = {key: [row[key] for row in rows] for key in rows[0]}
    return {
        "parameters": values["parameters"][0],
        "s_per_epoch": round(statistics.median(values["s_per_epoch"]), 2),
        "cpu_s": round(statistics.median(values["cpu_s_per_epoch"]), 2),
        "minutes": round(statistics.median(values["seconds"]) / 60, 1),
        "seeds": len(rows),
        "accuracy": round(100 * statistics.mean(values["accuracy"]), 2),
        "worst": round(100 * min(values["accuracy"]), 2),
        "images_s": round(max(values["images_s"])),
    }


def report(args, table):
    """Write the table and the picture of the finished runs."""
    write_csv(table, args.output / "table.csv")
    plot(table, args.output / "picture.png", f"{args.dataset}, recipe {args.recipe!r}")


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
            for table in compare(args, plan(args)):
                report(args, table)
            show(table, None)
    except (ValueError, TypeError, OSError) as error:  # an invalid flag
        raise SystemExit(f"compare_mixers.py: {error}") from None


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(
            "\ncompare_mixers.py: interrupted; add --resume to train the models that are missing"
        ) from None
