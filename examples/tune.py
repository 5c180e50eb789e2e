"""How much attention does a dataset need? Search hybrids and their patterns within a budget.

    python examples/tune.py                             # on the bundled digits
    python examples/tune.py --letters C M               # without attention
    python examples/tune.py --max-params 50000 --max-latency-ms 2
    python examples/tune.py --dataset cifar10 --image-size 32 --tuner hyperband --epochs 30
    python examples/tune.py --dataset fashion_mnist --image-size 28 --images 10000 \\
        --max-flops 2000000 --tuner hyperband --epochs 9 --final-epochs 6

After Ctrl-C or a kill, run the same command again to resume the search. The search evaluates on a
part of the training images. With --images it uses only so many of them, drawn at random. Then the
script trains the best configuration and the space's default configuration on all training images,
and evaluates both on the test images.

The output folder contains accuracy against cost as table.csv and picture.png. It also contains the
best model as model.keras and model.onnx, and its recipe.json. On 2 CPU cores the digits take ten
minutes.
"""

import argparse
import functools
import json
import pathlib
import time

from command_line import add_overwrite, at_least, start

TUNERS = ("random", "bayesian", "hyperband")
VALIDATION_FRACTION = 0.2  # of the training images, for the evaluations of the search
COLUMNS = ["pattern", "patch_size", "hidden_dim", "learning_rate"]  # of the printed table


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--dataset", default="digits", help="digits, a TFDS name, or a folder of images"
    )
    parser.add_argument(
        "--image-size", type=at_least(1), default=16, help="side of the resized images, in pixels"
    )
    parser.add_argument(
        "--images",
        type=at_least(10),
        help="number of training images that the search uses; without it, all",
    )
    parser.add_argument(
        "--letters", nargs="+", default=["C", "M", "A"], help="mixers to search, one letter each"
    )
    parser.add_argument("--depth", type=at_least(1), default=5, help="largest number of blocks")
    parser.add_argument("--tuner", choices=TUNERS, default="random", help="KerasTuner's tuner")
    parser.add_argument(
        "--trials", type=at_least(1), default=20, help="number of trials; hyperband ignores it"
    )
    parser.add_argument("--epochs", type=at_least(1), default=12, help="epochs of a trial")
    parser.add_argument(
        "--final-epochs", type=at_least(1), default=40, help="epochs of the final trainings"
    )
    parser.add_argument(
        "--max-params", type=at_least(1), default=160_000, help="budget: parameters of a model"
    )
    parser.add_argument("--max-flops", type=at_least(1), help="budget: multiply-adds for one image")
    parser.add_argument(
        "--max-latency-ms", type=float, help="budget: milliseconds for one image on this machine"
    )
    parser.add_argument(
        "--seed", type=at_least(1), default=1, help="seed of the search and the trainings"
    )
    parser.add_argument(
        "--output", type=pathlib.Path, default=pathlib.Path("tuned"), help="output folder"
    )
    add_overwrite(parser)
    return parser.parse_args()


if __name__ == "__main__":
    start(parse_arguments)

import keras
import keras_tuner
import numpy as np
import tensorflow as tf

import keras_mixers as km
from keras_mixers.commands.folders import (
    describe_data,
    locked,
    print_content,
    refuse_to_overwrite,
    save_figure,
    save_model,
)
from keras_mixers.files import write_text


def make_space(args, info):
    """Small hybrids, which two CPU cores train in seconds."""
    return km.tuning.HyperHybrid(
        info.input_shape,
        info.num_classes,
        letters=args.letters,
        patch_size=(2, max(4, args.image_size // 4)),
        hidden_dim=[32, 48, 64, 96],
        depth=(1, args.depth) if args.depth > 1 else 1,
        head_dim=[8, 16],
        mlp_dim=[64, 128, 192],
        tokens_mlp_dim=[32, 64],
        kernel_size=(3, 7),
        augmentation=[km.data.Augmentation(translation=0.1), km.data.Augmentation()],
        max_params=args.max_params,
        max_flops=args.max_flops,
        max_latency_ms=args.max_latency_ms,
    )


def make_load(args):
    """The function that loads the images of the search, for a batch size and an augmentation."""
    options = {
        "image_size": args.image_size,
        "validation_fraction": VALIDATION_FRACTION,
        "seed": args.seed,
    }
    if args.images is None:
        return functools.partial(km.data.load, args.dataset, **options)
    _, _, info = km.data.load(args.dataset, **options)
    images = km.data.images(args.dataset, "train")
    chosen = np.random.RandomState(args.seed).permutation(len(images)) < args.images
    few = images.enumerate().filter(lambda index, _: tf.gather(chosen, index))
    few = few.map(lambda _, example: example).cache()  # because each trial loads them
    return functools.partial(km.data.prepare, few, class_names=info.class_names, **options)


def make_tuner(args, space):
    """A tuner in the output folder. If the folder has a search, KerasTuner reloads it."""
    common = {
        "objective": "val_accuracy",
        # Because KerasTuner's neighbouring seeds sample the same numbers.
        "seed": 1000 * args.seed,
        "directory": args.output,
        "project_name": "search",
    }
    if args.tuner == "hyperband":
        tuner = keras_tuner.Hyperband(space, max_epochs=args.epochs, **common)
    elif args.tuner == "bayesian":
        tuner = keras_tuner.BayesianOptimization(
            space, max_trials=args.trials, num_initial_points=max(3, args.trials // 3), **common
        )
    else:
        tuner = keras_tuner.RandomSearch(space, max_trials=args.trials, **common)
    tuner = km.tuning.within_budget(tuner, keep=3)
    if args.tuner != "hyperband":  # because each Hyperband trial must belong to a bracket
        start_with_default(tuner)
    return tuner


def check_search(args, info):
    """Raise if the output folder has a search with other flags or data; else save the flags."""
    may_change = ("output", "final_epochs", "overwrite")
    flags = {name: str(value) for name, value in vars(args).items() if name not in may_change}
    file, data = args.output / "flags.json", describe_data(args, info)
    saved = read_search(file) if file.exists() else {"data": data, **flags}
    if saved.get("data") != data:
        raise ValueError(
            "--output must be a new folder, or the images must be those of the search in it."
            f" Received: {args.output}, whose search began before --dataset {args.dataset} changed"
        )
    # A search of an earlier version lacks flags that were added later.
    saved = {**dict.fromkeys(flags, "None"), **saved}
    changed = [name for name, value in flags.items() if value != saved[name]]
    if changed:
        old_flags = ", ".join(f"--{name.replace('_', '-')} {saved[name]}" for name in changed)
        raise ValueError(
            "--output must be a new folder, or the flags must be those of the search in it."
            f" Received: {args.output}, whose search had {old_flags}"
        )
    write_text(file, json.dumps({"data": data, **flags}, indent=2) + "\n")


def read_search(file):
    """The dict in flags.json, which describes the search in the output folder."""
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"--output must be a new folder, or hold a search. Received: {file}, which is damaged:"
            f" {error}"
        ) from None


def start_with_default(tuner):
    """Try the default configuration first, so that the best one is at least as good."""
    populate_space = tuner.oracle.populate_space

    def default_first(trial_id):
        if tuner.oracle.trials:
            return populate_space(trial_id)
        space = tuner.oracle.get_space()
        values = {hp.name: hp.default for hp in space.space if space.is_active(hp)}
        return {"status": "RUNNING", "values": values}

    tuner.oracle.populate_space = default_first


def print_trials(tuner, space):
    """Print a line at the end of each trial."""
    end_trial = tuner.on_trial_end
    begin = time.perf_counter()

    def on_trial_end(trial):
        end_trial(trial)
        trial = tuner.oracle.get_trial(trial.trial_id)
        hp, score = trial.hyperparameters, trial.score
        pattern = space.arguments_of(hp)["pattern"]
        result = trial.message.strip().split("\n")[-1] if score is None else f"{score:.2%}"
        minutes = (time.perf_counter() - begin) / 60
        print(f"Trial {trial.trial_id}: {pattern}, {result}; {minutes:.1f} minutes", flush=True)

    tuner.on_trial_end = on_trial_end


def train_default(args, space):
    """Train and evaluate the default configuration, unless it is over budget."""
    default = keras_tuner.HyperParameters()
    try:
        space.check_size(default)
    except keras_tuner.errors.FailedTrialError as error:
        print(f"The default configuration is over budget: {error}")
    else:
        train(args, space, default, "Default configuration")


def train(args, space, hp, name):
    """Train a configuration on all training images and evaluate it: (model, recipe)."""
    recipe = space.recipe_of(hp, args.final_epochs)
    batches, test, info = km.data.load(
        args.dataset,
        image_size=args.image_size,
        batch_size=recipe.batch_size,
        augmentation=recipe.augmentation,
        seed=args.seed,
    )
    keras.utils.set_random_seed(args.seed)
    model = space.build(hp)
    model.set_info(info)  # its files then have the preprocessing and the class names
    recipe.compile(model, len(batches))
    model.fit(batches, epochs=recipe.epochs, shuffle=False, verbose=0)
    accuracy = model.evaluate(test, verbose=0)[1]
    details = f"{space.arguments_of(hp)['pattern']}, {model.count_params():,} parameters"
    print(f"{name} ({details}): {accuracy:.2%} of {info.num_validation} test images", flush=True)
    return model, recipe


def main():
    args = parse_arguments()
    try:
        with locked(args.output):
            search(args)
            print_content(args.output)
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        raise SystemExit(f"tune.py: {error}") from None


def search(args):
    """Search, train the best and the default configuration, and write the results."""
    refuse_to_overwrite(args, "model.keras")
    load = make_load(args)
    _, _, info = load()
    space = make_space(args, info)
    check_search(args, info)
    tuner = make_tuner(args, space)
    print_trials(tuner, space)
    keras.utils.set_random_seed(args.seed)
    tuner.search(load=load, epochs=args.epochs, verbose=0)

    results = km.tuning.results(tuner)
    failed = len(km.tuning.infeasible(tuner))
    print(f"{failed} trials were over budget; configurations of too large models were skipped")
    if not results.completed:
        raise SystemExit(
            "tune.py: the search found no configuration within the budget; raise the budget or"
            " --trials"
        )
    print(results.table(COLUMNS))
    results.save(args.output / "table.csv")
    figure = km.visualize.plot_search(results, color="hidden_dim", label="pattern")
    save_figure(figure, args.output / "picture.png", dpi=120)

    model, recipe = train(args, space, results.trials[0].hyperparameters, "Best configuration")
    train_default(args, space)
    recipe.save(args.output / "recipe.json")
    print(km.export(model, args.output / "model.onnx"))
    # At the end, because the same command resumes only what has not written this file.
    save_model(model, args.output / "model.keras")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("\ntune.py: interrupted; run the same command again to resume") from None
