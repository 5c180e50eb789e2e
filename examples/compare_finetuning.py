"""Compare ways to fine-tune: a linear probe, LoRA, all weights, and training from scratch.

    python examples/compare_finetuning.py --output study        # on fashion_mnist of TFDS
    python examples/compare_finetuning.py --dataset digits --patch-size 2 --images 10 100

The script trains a small ViT on every second class. Then it fine-tunes this model on few images of
the other classes, the same number of each class. The learning rate of each way is the one
that is best on validation images with the first seed. The table shows the accuracy on the test
images of the new classes.

The study gave these accuracies in %: the mean of three seeds, and the lowest and highest.

    method         10 images            100 images           1,000 images         trained  optimizer
    linear probe   60.0 (57.7..62.3)    78.2 (76.7..79.9)    84.9 (84.4..85.3)      0.1 %    0.01 MB
    LoRA           56.1 (52.6..60.6)    78.0 (76.4..81.3)    89.3 (88.9..89.7)      4.5 %    0.3 MB
    full           60.3 (56.6..62.2)    80.8 (80.2..81.2)    89.7 (89.0..90.5)      100 %    6.4 MB
    from scratch   54.3 (54.0..54.7)    79.2 (77.9..79.9)    88.3 (88.0..88.9)      100 %    6.4 MB

So few images leave much to chance: the differences of 10 images are smaller than the spread. The
backbone has seen only 30,000 images, and helps little from 100 images on.

After Ctrl-C or a kill, run the same command again to resume the study. The output folder contains
each training run in results.json, and at the end table.csv, cost.csv and picture.png.
"""

import argparse
import functools
import json
import pathlib
import statistics
import time

from benchmark import show
from command_line import add_overwrite, at_least, start

BATCH_SIZE = 32
LEAST_STEPS = 300
EPOCHS = 8  # if they have more steps than LEAST_STEPS
STEPS_TO_TIME = 30
RESULTS = ("table.csv", "cost.csv", "picture.png")
PROGRESS = ("results.json", "pretrained.keras", "pretraining.weights.h5")
# Each way: the arguments of its recipe, and the learning rates to try.
METHODS = {
    "linear probe": ({"frozen_blocks": "all"}, (1e-2, 3e-2, 0.1)),
    "LoRA": ({"lora_rank": 4}, (3e-3, 1e-2, 3e-2)),
    "full": ({"layer_decay": 0.75}, (1e-3, 3e-3, 1e-2)),
    "from scratch": ({}, (1e-3, 3e-3)),
}


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--dataset", default="fashion_mnist", help="digits, a TFDS name, or a folder of images"
    )
    parser.add_argument("--image-size", type=at_least(1), help="side of the images, in pixels")
    parser.add_argument("--patch-size", type=at_least(1), default=7, help="side of the patches")
    parser.add_argument("--hidden-dim", type=at_least(32), default=128, help="width of the ViT")
    parser.add_argument("--depth", type=at_least(1), default=6, help="number of blocks")
    parser.add_argument(
        "--pretraining-epochs", type=at_least(1), default=5, help="epochs on the first classes"
    )
    parser.add_argument(
        "--images",
        nargs="+",
        type=at_least(1),
        default=[10, 100, 1000],
        help="numbers of images to fine-tune on, multiples of the number of new classes",
    )
    parser.add_argument("--seeds", type=at_least(1), default=3, help="training runs of each way")
    parser.add_argument("--output", type=pathlib.Path, default="finetuned", help="output folder")
    add_overwrite(parser)
    return parser.parse_args()


if __name__ == "__main__":
    start(parse_arguments)

import keras
import numpy as np

import keras_mixers as km
from keras_mixers.commands.folders import (
    locked,
    print_content,
    refuse_to_overwrite,
    save_figure,
    save_model,
)
from keras_mixers.files import write_text


class Data:
    """Arrays of the old and the new classes, whose class numbers both begin at 0."""

    def __init__(self, args):
        train, test, info = km.data.load(args.dataset, args.image_size, batch_size=500)
        self.input_shape = info.input_shape
        self.old_names, self.new_names = info.class_names[::2], info.class_names[1::2]
        images, labels = arrays_of(train)
        self.old, self.pool = of_classes(0, images, labels), of_classes(1, images, labels)
        self.test = of_classes(1, *arrays_of(test))
        each = min(100, int(np.bincount(self.pool[1]).min()) // 4)
        self.validation, self.pool = split(*self.pool, each, seed=0)

    def sample(self, number, seed):
        """A number of training images, the same number of each new class."""
        classes = len(self.new_names)
        if number % classes or number > classes * np.bincount(self.pool[1]).min():
            raise ValueError(
                f"--images must be multiples of the {classes} new classes, of which each has at"
                f" least as many images. Received: {number}"
            )
        return split(*self.pool, number // classes, seed)[0]


def of_classes(first, images, labels):
    """The images of every second class, and their new class numbers."""
    chosen = labels % 2 == first
    return images[chosen], labels[chosen] // 2


def arrays_of(batches):
    """(images, labels) of a dataset."""
    images, labels = zip(*batches.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def split(images, labels, each, seed):
    """((images, labels) with `each` images of each class, (images, labels) of the others)."""
    order = np.random.default_rng(seed).permutation(len(labels))
    chosen = np.concatenate([order[labels[order] == c][:each] for c in range(labels.max() + 1)])
    others = np.setdiff1d(order, chosen)
    return (images[chosen], labels[chosen]), (images[others], labels[others])


def build(args, data, num_classes):
    return km.ViT(
        "Ti/16",
        input_shape=data.input_shape,
        num_classes=num_classes,
        patch_size=args.patch_size,
        hidden_dim=args.hidden_dim,
        depth=args.depth,
        num_heads=args.hidden_dim // 32,
        mlp_dim=2 * args.hidden_dim,
        pool="gap",
    )


def pretrain(args, data):
    """Train a model on the old classes and write pretrained.keras."""
    path = args.output / "pretrained.keras"
    if path.exists():
        return path
    keras.utils.set_random_seed(0)
    model = build(args, data, len(data.old_names))
    epochs = args.pretraining_epochs
    recipe = km.Recipe(
        epochs=epochs, batch_size=128, warmup_epochs=0.1 * epochs, learning_rate=2e-3, clip_norm=1.0
    )
    recipe.compile(model, -(-len(data.old[1]) // recipe.batch_size))
    backup = km.training.Backup(args.output / "pretraining.weights.h5")
    options = {"initial_epoch": backup.epoch, "epochs": epochs, "callbacks": [backup]}
    model.fit(*data.old, batch_size=recipe.batch_size, verbose=2, **options)
    save_model(model, path)
    return path


def recipe_of(method, rate, images):
    arguments, _ = METHODS[method]
    steps = max(LEAST_STEPS, EPOCHS * images // BATCH_SIZE)
    size = {"batch_size": min(images, BATCH_SIZE), "steps": steps, "warmup_steps": steps // 10}
    return km.Recipe(learning_rate=rate, clip_norm=1.0, **size, **arguments)


def prepared(args, data, method, pretrained, rate, images):
    """(model, its compiled recipe) for one way to fine-tune."""
    model = build(args, data, len(data.new_names))
    if method != "from scratch":
        km.load_weights(model, pretrained, head="skip")
    recipe = recipe_of(method, rate, images)
    steps_per_epoch = -(-images // recipe.batch_size)
    (recipe,) = recipe.stages(steps_per_epoch)
    recipe.compile(model, steps_per_epoch)
    return model, recipe


def finetune(args, data, pretrained, method, images, rate, seed):
    """The accuracies of one training run in %."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    model, recipe = prepared(args, data, method, pretrained, rate, images)
    train = data.sample(images, seed + 1)
    model.fit(*train, batch_size=recipe.batch_size, epochs=recipe.epochs, verbose=0)
    parts = {"validation": data.validation, "test": data.test}
    logits = model.predict(
        np.concatenate([part[0] for part in parts.values()]), batch_size=500, verbose=0
    )
    correct = logits.argmax(-1) == np.concatenate([part[1] for part in parts.values()])
    of_validation, of_test = np.split(correct, [len(data.validation[1])])
    return {
        "validation": round(100 * float(of_validation.mean()), 2),
        "test": round(100 * float(of_test.mean()), 2),
    }


class Results:
    """The training runs so far, in a file that each run replaces by a longer one."""

    def __init__(self, args):
        self.path, self.done, self.total = args.output / PROGRESS[0], 0, 0
        may_change = ("output", "overwrite", "images", "seeds")
        flags = {n: str(value) for n, value in vars(args).items() if n not in may_change}
        self.content = {"flags": flags, "runs": {}}
        if self.path.exists():
            self.content = json.loads(self.path.read_text())
        if self.content["flags"] != flags:
            raise ValueError(
                "--output must be another folder, or the flags must be those of the study in it."
                f" Received: {flags}, but the study has {self.content['flags']}"
            )

    def run(self, args, data, pretrained, method, images, rate, seed):
        """The result of one training run, which is trained unless the file has it."""
        runs, name = self.content["runs"], f"{method}, {images} images, rate {rate:g}, seed {seed}"
        self.done += 1
        if name not in runs:
            begin = time.perf_counter()
            runs[name] = finetune(args, data, pretrained, method, images, rate, seed)
            write_text(self.path, json.dumps(self.content, indent=1))
            seconds = time.perf_counter() - begin
            print(f"{self.done}/{self.total} {name}: {runs[name]} in {seconds:.0f} s", flush=True)
        return runs[name]


def best(results):
    """The learning rate whose result is best on the validation images."""
    return max(results, key=lambda rate: results[rate]["validation"])


def compare(args, data, pretrained, results):
    """Yield one row for each way and number of images."""
    each = [len(rates) + args.seeds - 1 for _, rates in METHODS.values()]
    results.total = sum(each) * len(args.images)
    for images in args.images:
        for method, (_, rates) in METHODS.items():
            run = functools.partial(results.run, args, data, pretrained, method, images)
            first = {rate: run(rate, 0) for rate in rates}
            rate = best(first)
            chosen = [first[rate], *(run(rate, seed) for seed in range(1, args.seeds))]
            accuracies = [result["test"] for result in chosen]
            yield {
                "images": images,
                "method": method,
                "accuracy": round(statistics.mean(accuracies), 2),
                "lowest": min(accuracies),
                "highest": max(accuracies),
                "rate": rate,
            }


def costs(args, data, pretrained):
    """One row for each way: what it trains, and the time and the memory that it takes.

    The ways take turns at each step, so that other work on the machine slows all of them down. The
    processor's time of a step depends less on other work.
    """
    images, labels = data.sample(len(data.new_names), 0)
    images, labels = (np.resize(a, (BATCH_SIZE, *a.shape[1:])) for a in (images, labels))
    models = {}
    for method in METHODS:
        models[method], _ = prepared(args, data, method, pretrained, 1e-3, 10 * BATCH_SIZE)
    times = {method: [] for method in models}  # (seconds, seconds of the processor) of each step
    for _ in range(1 + STEPS_TO_TIME):  # the first step traces the model
        for method, model in models.items():
            begin = np.array([time.perf_counter(), time.process_time()])
            model.train_on_batch(images, labels)
            times[method].append([time.perf_counter(), time.process_time()] - begin)
    for method, model in models.items():
        trained = bytes_of(model.trainable_variables)
        step, processor = 1000 * np.median(times[method][1:], axis=0)
        yield {
            "method": method,
            "trained_%": round(100 * trained / bytes_of(model.variables), 2),
            "ms_per_step": round(float(step), 1),
            "cpu_ms_per_step": round(float(processor), 1),
            "weights_MB": round(bytes_of(model.variables) / 1e6, 2),
            "gradients_MB": round(trained / 1e6, 2),
            "optimizer_MB": round(bytes_of(model.optimizer.variables) / 1e6, 2),
        }


def bytes_of(variables):
    return sum(4 * int(np.prod(variable.shape)) for variable in variables)


def plot(rows, path, title):
    """Draw accuracy against the number of images, with a bar from the lowest to the highest."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for method in METHODS:
        mine = [row for row in rows if row["method"] == method]
        mean = [row["accuracy"] for row in mine]
        ends = [[row["accuracy"] - row["lowest"] for row in mine]]
        ends += [[row["highest"] - row["accuracy"] for row in mine]]
        axes.errorbar([row["images"] for row in mine], mean, ends, label=method, marker="o")
    axes.set(title=title, xscale="log", xlabel="images", ylabel="test accuracy, %")
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path, dpi=120)


def study(args):
    data = Data(args)
    for images in args.images:
        data.sample(images, 0)  # raises an error before the pretraining
    for name in (*RESULTS, *PROGRESS) if args.overwrite else ():
        (args.output / name).unlink(missing_ok=True)
    results = Results(args)
    pretrained = pretrain(args, data)
    rows = list(compare(args, data, pretrained, results))
    cost = list(costs(args, data, pretrained))
    show(rows, args.output / "table.csv")
    show(cost, args.output / "cost.csv")
    plot(
        rows, args.output / "picture.png", f"{args.dataset}: from every second class to the others"
    )


def main():
    args = parse_arguments()
    try:
        with locked(args.output):
            refuse_to_overwrite(args, *RESULTS)
            study(args)
            print_content(args.output)
    except (ValueError, TypeError, OSError) as error:  # an invalid flag
        raise SystemExit(f"compare_finetuning.py: {error}") from None


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(
            "\ncompare_finetuning.py: interrupted; resume by the same command"
        ) from None
