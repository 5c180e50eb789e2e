"""How much attention does a dataset need? Search hybrids and their patterns within a budget.

    python examples/tune.py                             # on the bundled digits
    python examples/tune.py --letters C M               # without attention
    python examples/tune.py --max-params 50000 --max-latency-ms 2
    python examples/tune.py --dataset cifar10 --image-size 32 --tuner hyperband --epochs 30

After Ctrl-C or a kill, run the same command again to resume the search. The search evaluates on a
part of the training images. Then the script trains the best configuration and the space's default
configuration on all training images, and evaluates both on the test images.

The output folder contains accuracy against cost as table.csv and picture.png. It also contains the
best model as model.keras and model.onnx, and its recipe.json. On 2 CPU cores the digits take ten
minutes.
"""

import argparse
import functools
import json
import pathlib
import time

from benchmark import show
from command_line import (
    add_overwrite,
    at_least,
    describe_data,
    locked,
    print_content,
    refuse_to_overwrite,
    save_figure,
    save_model,
    start,
)

TUNERS = ("random", "bayesian", "hyperband")
VALIDATION_FRACTION = 0.2  # of the training images, for the evaluations of the search
ERROR_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 40, 60, 80)  # in %
SMALLEST_ERROR = 0.1  # in %, drawn instead of 0, because the axis is logarithmic


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

import keras_mixers as km
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
    changed = [name for name, value in flags.items() if value != saved.get(name)]
    if changed:
        old_flags = ", ".join(f"--{name.replace('_', '-')} {saved.get(name)}" for name in changed)
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
    start = time.perf_counter()

    def on_trial_end(trial):
        end_trial(trial)
        trial = tuner.oracle.get_trial(trial.trial_id)
        hp, score = trial.hyperparameters, trial.score
        pattern = space.arguments_of(hp)["pattern"]
        result = trial.message.strip().split("\n")[-1] if score is None else f"{score:.2%}"
        minutes = (time.perf_counter() - start) / 60
        print(f"Trial {trial.trial_id}: {pattern}, {result}; {minutes:.1f} minutes", flush=True)

    tuner.on_trial_end = on_trial_end


def front(tuner, space):
    """A row for each trained configuration, sorted by parameters.

    The column "front" has "*" if no cheaper configuration is as accurate. Hyperband trains some
    configurations in several trials; the row has the best of them.
    """
    best = {}
    for trial in tuner.oracle.trials.values():
        model = space.arguments_of(trial.hyperparameters)
        recipe = space.recipe_of(trial.hyperparameters, epochs=1)
        configuration = json.dumps([model, recipe.get_config()])
        if trial.status == "COMPLETED" and trial.score >= best.get(configuration, (0,))[0]:
            best[configuration] = trial.score, trial, model
    rows = []
    for score, trial, model in best.values():
        cost = space.cost_of(trial.hyperparameters)
        rows.append(
            {
                "trial": trial.trial_id,
                "pattern": model["pattern"],
                "patch": model["patch_size"],
                "width": model["hidden_dim"],
                "parameters": cost["params"],
                "MFLOPs": round(cost["flops"] / 1e6, 2),
                "accuracy": round(100 * score, 2),
            }
        )
    rows.sort(key=lambda row: (row["parameters"], -row["accuracy"]))
    highest = 0
    for row in rows:
        row["front"] = "*" if row["accuracy"] > highest else ""
        highest = max(highest, row["accuracy"])
    return rows


def find_best(tuner):
    """The configuration with the best accuracy, and of equal ones the lowest loss.

    Accuracies are often equal, because the search evaluates on few images.
    """
    completed = [trial for trial in tuner.oracle.trials.values() if trial.status == "COMPLETED"]
    best = max(completed, key=lambda t: (t.score, -t.metrics.get_best_value("val_loss")))
    return best.hyperparameters


def plot(rows, path, title):
    """Plot accuracy against parameters: a dot per configuration, darker with more attention.

    The accuracy axis is logarithmic in the error, because good configurations differ little.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    best = [row for row in rows if row["front"]]
    rest = [row for row in rows if not row["front"]]

    def coordinates(rows):
        errors = [max(100 - row["accuracy"], SMALLEST_ERROR) for row in rows]
        return [row["parameters"] for row in rows], errors

    xs, ys = coordinates(best)
    xs, ys = [*xs, max(row["parameters"] for row in rows)], [*ys, ys[-1]]
    axes.step(xs, ys, where="post", color="#999999", zorder=1, label="best at this cost")
    for part, size in ((rest, 35), (best, 90)):
        fractions = [row["pattern"].count("A") / len(row["pattern"]) for row in part]
        dots = axes.scatter(
            *coordinates(part),
            size,
            fractions,
            cmap="YlOrRd",
            vmin=0,
            vmax=1,
            edgecolors="#555555",
            linewidths=0.6,
            zorder=2,
        )
    for row, x, y in zip(best, *coordinates(best), strict=True):
        axes.annotate(
            row["pattern"], (x, y), (-6, 6), textcoords="offset points", ha="right", fontsize=9
        )
    figure.colorbar(dots, label="fraction of blocks with attention")
    axes.set(title=title, xlabel="parameters", ylabel="accuracy on validation images, %")
    axes.set(xscale="log", yscale="log")
    axes.margins(0.12)
    lowest, highest = axes.get_ylim()
    ticks = [error for error in ERROR_TICKS if lowest <= error <= highest]
    axes.set_yticks(ticks, [f"{100 - error:g}" for error in ticks])
    axes.set_yticks([], minor=True)
    axes.invert_yaxis()
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower right", frameon=False)
    save_figure(figure, path, dpi=120)


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
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"tune.py: {error}") from None


def search(args):
    """Search, train the best and the default configuration, and write the results."""
    load = functools.partial(
        km.data.load,
        args.dataset,
        image_size=args.image_size,
        validation_fraction=VALIDATION_FRACTION,
        seed=args.seed,
    )
    try:
        refuse_to_overwrite(args, "model.keras")
        _, _, info = load()
        space = make_space(args, info)
        check_search(args, info)
        tuner = make_tuner(args, space)
    except (ValueError, TypeError, OSError) as error:  # an invalid flag
        raise SystemExit(f"tune.py: {error}") from None
    print_trials(tuner, space)
    keras.utils.set_random_seed(args.seed)
    tuner.search(load=load, epochs=args.epochs, verbose=0)

    rows = front(tuner, space)
    print(f"{len(km.tuning.infeasible(tuner))} configurations were over budget")
    if not rows:
        raise SystemExit(
            "tune.py: the search found no configuration within the budget; raise the budget or"
            " --trials"
        )
    show(rows, args.output / "table.csv")
    plot(rows, args.output / "picture.png", f"{args.dataset}: hybrids of {' '.join(args.letters)}")

    model, recipe = train(args, space, find_best(tuner), "Best configuration")
    save_model(model, args.output / "model.keras")
    recipe.save(args.output / "recipe.json")
    print(km.export(model, args.output / "model.onnx", preprocessing=info.preprocessing))
    try:
        train(args, space, keras_tuner.HyperParameters(), "Default configuration")
    except keras_tuner.errors.FailedTrialError:
        print("The default configuration is over budget")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("\ntune.py: interrupted; run the same command again to resume") from None
