"""How much attention does this need: search hybrids, pattern and all, within a budget.

    python examples/tune.py                             # on the bundled digits
    python examples/tune.py --letters C M               # without attention
    python examples/tune.py --max-params 50000 --max-latency-ms 2
    python examples/tune.py --dataset cifar10 --image-size 32 --tuner hyperband --epochs 30

Ctrl-C, or a kill, loses nothing: the same command goes on. The search judges by images held out of
the training images; then the best is trained on all of them, as is the space's default point, and
both are judged by the test images. The output folder gets table.csv and picture.png, of accuracy
against cost, model.keras, recipe.json and model.onnx. On 2 CPU cores the digits take ten minutes.
"""

import argparse
import contextlib
import functools
import io
import json
import pathlib
import time

import keras
import keras_tuner
from benchmark import show
from train import at_least

import keras_mixers as km

TUNERS = ("random", "bayesian", "hyperband")
HELD_OUT = 0.2  # of the training images, which the search judges by
ERRORS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 40, 60, 80)  # where the picture has its lines, in %
LEAST_ERROR = 0.1  # what is drawn for none


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--dataset", default="digits", help="digits, a name in TFDS, or a folder")
    parser.add_argument("--image-size", type=at_least(1), default=16, help="pixels to resize to")
    parser.add_argument("--letters", nargs="+", default=["C", "M", "A"], help="mixers to try")
    parser.add_argument("--depth", type=at_least(1), default=5, help="most blocks")
    parser.add_argument("--tuner", choices=TUNERS, default="random", help="of KerasTuner's")
    parser.add_argument("--trials", type=at_least(1), default=20, help="but for hyperband's")
    parser.add_argument("--epochs", type=at_least(1), default=12, help="of a trial")
    parser.add_argument("--final-epochs", type=at_least(1), default=40, help="of the best")
    parser.add_argument("--max-params", type=at_least(1), default=160_000, help="budget")
    parser.add_argument("--max-flops", type=at_least(1), help="budget, multiply-adds an image")
    parser.add_argument("--max-latency-ms", type=float, help="budget, one image on this machine")
    parser.add_argument("--seed", type=at_least(1), default=1, help="of the search and trainings")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("tuned"), help="folder")
    return parser.parse_args()


def find_space(args, info):
    """Small hybrids, which two cores train in seconds."""
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


def find_tuner(args, space):
    """The tuner, at its beginning or where it was broken off."""
    common = {
        "objective": "val_accuracy",
        "seed": 1000 * args.seed,  # KerasTuner's neighbouring seeds draw the same numbers
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
    if args.tuner != "hyperband":  # whose first trials are of a bracket
        begin_at_default(tuner)
    return tuner


def check_flags(args):
    """A search goes on with the flags it began with, or another begins in another folder."""
    free = ("output", "final_epochs")
    flags = {name: str(value) for name, value in vars(args).items() if name not in free}
    file = args.output / "flags.json"
    before = json.loads(file.read_text()) if file.exists() else flags
    changed = [name for name, value in flags.items() if value != before.get(name)]
    if changed:
        wanted = ", ".join(f"--{name.replace('_', '-')} {before.get(name)}" for name in changed)
        raise ValueError(
            f"--output must be another folder for another search; the one in {args.output} had"
            f" {wanted}"
        )
    args.output.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(flags, indent=2) + "\n")


def begin_at_default(tuner):
    """Try the space's default point first: what is found is no worse."""
    populate_space = tuner.oracle.populate_space

    def default_first(trial_id):
        if tuner.oracle.trials:
            return populate_space(trial_id)
        space = tuner.oracle.get_space()
        values = {hp.name: hp.default for hp in space.space if space.is_active(hp)}
        return {"status": "RUNNING", "values": values}

    tuner.oracle.populate_space = default_first


def announce(tuner, space):
    """Say in a line how each trial ended."""
    end_trial = tuner.on_trial_end
    begin = time.perf_counter()

    def on_trial_end(trial):
        end_trial(trial)
        trial = tuner.oracle.get_trial(trial.trial_id)
        hp, score = trial.hyperparameters, trial.score
        pattern = space.arguments_of(hp)["pattern"]
        how = trial.message.strip().split("\n")[-1] if score is None else f"{score:.2%}"
        minutes = (time.perf_counter() - begin) / 60
        print(f"Trial {trial.trial_id}: {pattern}, {how}; {minutes:.1f} minutes", flush=True)

    tuner.on_trial_end = on_trial_end


def front(tuner, space):
    """A row for each trained point, the cheapest first; "*" where none is both cheaper and better.

    Of Hyperband's trials, those that went on stand for those they went on from.
    """
    best = {}
    for trial in tuner.oracle.trials.values():
        model = space.arguments_of(trial.hyperparameters)
        recipe = space.recipe_of(trial.hyperparameters, epochs=1)
        point = json.dumps([model, recipe.get_config()])
        if trial.status == "COMPLETED" and trial.score >= best.get(point, (0,))[0]:
            best[point] = trial.score, trial, model
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
    """The point with the best accuracy; of several, few images being held out, the least loss."""
    done = [trial for trial in tuner.oracle.trials.values() if trial.status == "COMPLETED"]
    best = max(done, key=lambda t: (t.score, -t.metrics.get_best_value("val_loss")))
    return best.hyperparameters


def plot(rows, path, title):
    """Accuracy against parameters: a dot for each point, the darker the more attention it has.

    The scale of accuracy is that of the error's logarithm: the good ones lie apart.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    best = [row for row in rows if row["front"]]
    rest = [row for row in rows if not row["front"]]

    def places(found):
        errors = [max(100 - row["accuracy"], LEAST_ERROR) for row in found]
        return [row["parameters"] for row in found], errors

    xs, ys = places(best)
    xs, ys = [*xs, max(row["parameters"] for row in rows)], [*ys, ys[-1]]
    axes.step(xs, ys, where="post", color="#999999", zorder=1, label="best at the cost")
    for found, size in ((rest, 35), (best, 90)):
        shares = [row["pattern"].count("A") / len(row["pattern"]) for row in found]
        dots = axes.scatter(
            *places(found),
            size,
            shares,
            cmap="YlOrRd",
            vmin=0,
            vmax=1,
            edgecolors="#555555",
            linewidths=0.6,
            zorder=2,
        )
    for row, x, y in zip(best, *places(best), strict=True):
        axes.annotate(
            row["pattern"], (x, y), (-6, 6), textcoords="offset points", ha="right", fontsize=9
        )
    figure.colorbar(dots, label="share of blocks that are attention")
    axes.set(title=title, xlabel="parameters", ylabel="accuracy on held-out images, %")
    axes.set(xscale="log", yscale="log")
    axes.margins(0.12)
    lowest, highest = axes.get_ylim()
    ticks = [error for error in ERRORS if lowest <= error <= highest]
    axes.set_yticks(ticks, [f"{100 - error:g}" for error in ticks])
    axes.set_yticks([], minor=True)
    axes.invert_yaxis()
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower right", frameon=False)
    figure.savefig(path, dpi=120)


def train(args, space, hp, name):
    """A point trained on all training images, and judged by the test images: (model, recipe)."""
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
    what = f"{space.arguments_of(hp)['pattern']}, {model.count_params():,} parameters"
    print(f"{name} ({what}): {accuracy:.2%} of {info.num_validation} test images", flush=True)
    return model, recipe


def main():
    args = parse_arguments()
    load = functools.partial(
        km.data.load,
        args.dataset,
        image_size=args.image_size,
        validation_fraction=HELD_OUT,
        seed=args.seed,
    )
    try:
        _, _, info = load()
        space = find_space(args, info)
        check_flags(args)
        tuner = find_tuner(args, space)
    except (ValueError, TypeError, OSError) as error:  # a flag that will not do, and why
        raise SystemExit(f"tune.py: {error}") from None
    announce(tuner, space)
    keras.utils.set_random_seed(args.seed)
    # KerasTuner prints a traceback for each point over budget, which a line has told already.
    with contextlib.redirect_stderr(io.StringIO()):
        tuner.search(load=load, epochs=args.epochs, verbose=0)

    rows = front(tuner, space)
    print(f"{len(km.tuning.infeasible(tuner))} points were over budget")
    if not rows:
        raise SystemExit("tune.py: no point is within the budget; give more, or more --trials")
    show(rows, args.output / "table.csv")
    plot(rows, args.output / "picture.png", f"{args.dataset}: hybrids of {' '.join(args.letters)}")

    model, recipe = train(args, space, find_best(tuner), "The best point")
    model.save(args.output / "model.keras")
    recipe.save(args.output / "recipe.json")
    print(km.export(model, args.output / "model.onnx", preprocessing=info.preprocessing))
    try:
        train(args, space, keras_tuner.HyperParameters(), "The default point")
    except keras_tuner.errors.FailedTrialError:
        print("The default point is over budget")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("\ntune.py: interrupted; the same command goes on") from None
