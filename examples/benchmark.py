"""Training and inference of these models, timed in turn with the same models elsewhere.

    python examples/benchmark.py                                # three small models on 32 x 32
    python examples/benchmark.py --python timm=PATH/bin/python  # timm in its own environment
    python examples/benchmark.py --models ViT-B/16 --dtype mixed_bfloat16 --batch 128
    python examples/benchmark.py --scaling                      # by tokens, width, depth, batch
    python examples/benchmark.py --contestants keras_mixers checkpointed    # gradient checkpointing

Each contestant is a process of its own, the others idle while it runs: keras_mixers, Keras's own
layers put together as tutorials do, keras-hub, and timm on PyTorch, where they are installed.
KERAS_BACKEND chooses Keras's backend. A figure is the median of the rounds, a ratio the median of
the ratios within each round, for machines that are slower at times.
"""

import argparse
import csv
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

SMALL = {"input_shape": (32, 32, 3), "num_classes": 10}
MODELS = {
    "ViT-192/6": ("ViT", "Ti/16", {"patch_size": 4, "depth": 6, **SMALL}),
    "MLPMixer-192/6": (
        "MLPMixer",
        "S/16",
        {
            "patch_size": 4,
            "hidden_dim": 192,
            "depth": 6,
            "tokens_mlp_dim": 96,
            "channels_mlp_dim": 768,
            **SMALL,
        },
    ),
    "ConvMixer-128/8": ("ConvMixer", "256/8-k5-p2", {"hidden_dim": 128, **SMALL}),
}
# What each contestant needs to import.
CONTESTANTS = {
    "keras_mixers": "keras_mixers",
    "checkpointed": "keras_mixers",
    "plain Keras": "keras",
    "keras-hub": "keras_hub",
    "timm": "timm",
}
TASKS = ("train", "predict", "call")
PAUSE = 0.05  # seconds: threads spin for a while after they have worked
MATMUL_SIDE = 2048  # of the square matrices whose product is called the machine's peak


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--models", nargs="+", default=list(MODELS), help="of the small ones, or as ViT-S/16"
    )
    parser.add_argument("--image-size", type=int, default=224, help="of a model named as ViT-S/16")
    parser.add_argument("--batch", type=int, default=64, help="images a step")
    parser.add_argument("--rounds", type=int, default=7, help="of timing, each of every contestant")
    parser.add_argument("--steps", type=int, default=3, help="timed in each round")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--dtype", default="float32", choices=("float32", "mixed_bfloat16"))
    others = [name for name in CONTESTANTS if name != "checkpointed"]
    parser.add_argument("--contestants", nargs="+", default=others, choices=CONTESTANTS)
    parser.add_argument(
        "--python", nargs="+", default=[], metavar="NAME=PATH", help="a contestant's own Python"
    )
    parser.add_argument("--scaling", action="store_true", help="how cost grows")
    parser.add_argument("--csv", type=pathlib.Path, help="file for the table")
    args = parser.parse_args()
    args.python = dict(pair.split("=", 1) for pair in args.python)
    if args.csv and not args.csv.absolute().parent.is_dir():
        parser.error(f"--csv: there is no folder {args.csv.absolute().parent}")
    return args


def specification(name, args, changed=None):
    """All that any contestant must know to build a model, with some arguments changed."""
    import keras_mixers as km

    if name in MODELS:
        family, variant, arguments = MODELS[name]
    else:
        family, _, variant = name.partition("-")
        arguments = {"input_shape": (args.image_size, args.image_size, 3), "num_classes": 1000}
    arguments = {**arguments, **(changed or {})}
    if changed and "hidden_dim" in changed:  # what is in proportion to it grows too
        width = changed["hidden_dim"]
        arguments |= {
            "ViT": {"num_heads": width // 64, "mlp_dim": 4 * width},
            "MLPMixer": {"channels_mlp_dim": 4 * width},
            "ConvMixer": {},
        }[family]
    sizes = {**km.variants(family)[variant], **arguments}
    sizes["mlp_dim"] = sizes.get("mlp_dim", sizes.get("channels_mlp_dim"))
    named = {"family": family, "variant": variant, "arguments": arguments}
    # timm's ConvMixer is faster with the channels last, its ViT and Mixer are not.
    return {**sizes, **named, "dtype": args.dtype, "channels_last": family == "ConvMixer"}


class Contestant:
    """A process that holds one model of one framework and does as it is asked."""

    def __init__(self, name, spec, python):
        self.name = name
        script = pathlib.Path(__file__).with_name("benchmark_contestant.py")
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [python, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        self.about = self.ask({**spec, "contestant": name})
        self.at_rest, _ = self.ask(["memory"])

    def ask(self, request):
        print(json.dumps(request), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            self.errors.seek(0)
            why = self.errors.read()[-1000:]
            self.close()
            raise SystemExit(f"benchmark.py: {self.name} ended at {request}: {why}")
        return json.loads(answer)

    def memory(self):
        """The most bytes held since this was last asked, beyond those of the model at rest."""
        _, peak = self.ask(["memory"])
        return peak - self.at_rest

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()
        self.errors.close()


def starters(args):
    """Each contestant that is installed, with its Python."""
    found = {}
    for name in args.contestants:
        python = args.python.get(name, sys.executable)
        search = "import importlib.util, sys; sys.exit(not importlib.util.find_spec(sys.argv[1]))"
        if subprocess.run([python, "-c", search, CONTESTANTS[name]], check=False).returncode:
            print(f"{name} is not installed for {python}", file=sys.stderr)
        else:
            found[name] = python
    return found


def measure(model, spec, args, pythons):
    """The table's rows for one model: one for each contestant."""
    entrants = [
        Contestant(name, spec, python)
        for name, python in pythons.items()
        if name != "keras-hub" or spec["family"] == "ViT"
    ]
    sizes = {entrant.name: entrant.about["parameters"] for entrant in entrants}
    if len(set(sizes.values())) > 1:
        raise SystemExit(f"benchmark.py: {model} is not the same model everywhere: {sizes} weights")
    same = {"model": model, "batch": args.batch, "dtype": args.dtype}
    rows = [{**same, "contestant": entrant.name} for entrant in entrants]
    for entrant, row in zip(entrants, rows, strict=True):
        row["first_step_s"] = round(entrant.ask(["first_step", args.batch]), 1)
        if "train" in args.tasks:
            measure_memory(entrant, row, args)
    for task in args.tasks:
        batch = 1 if task == "call" else args.batch
        times = in_turn(entrants, [task, args.steps, batch], args.rounds)
        add_speeds(rows, times, task, batch)
    peak = max(
        2 * MATMUL_SIDE**3 / statistics.median(times)
        for times in in_turn(entrants, ["matmul", args.steps, MATMUL_SIDE], args.rounds)
    )
    add_shares(rows, entrants, args, peak)
    for row, entrant in zip(rows, entrants, strict=True):
        row.update(entrant.about, date=time.strftime("%Y-%m-%d"))
        entrant.close()
    return rows


def measure_memory(entrant, row, args):
    """What training holds beyond the model at rest, and how much of it each image adds."""
    peaks = []
    for batch in (args.batch, 2 * args.batch):
        entrant.ask(["train", 1, batch])
        entrant.memory()  # tracing and compiling are over
        entrant.ask(["train", 2, batch])
        peaks.append(entrant.memory())
    row["train_MB"] = round(peaks[0] / 1e6)
    row["train_MB_an_image"] = round((peaks[1] - peaks[0]) / args.batch / 1e6, 2)


def in_turn(entrants, request, rounds):
    """Each contestant's seconds a step in each round, after one round that does not count."""
    times = [[] for _ in entrants]
    pairs = list(zip(entrants, times, strict=True))
    for number in range(rounds + 1):
        for entrant, own in pairs[:: 1 if number % 2 else -1]:
            time.sleep(PAUSE)
            median = statistics.median(entrant.ask(request))
            if number:
                own.append(median)
    return times


def add_speeds(rows, times, task, batch):
    """Images a second, and over timm's: the median of the ratios of all rounds."""
    rivals = [own for row, own in zip(rows, times, strict=True) if row["contestant"] == "timm"]
    for row, own in zip(rows, times, strict=True):
        row[f"{task}_img_s"] = round(batch / statistics.median(own), 1)
        for rival in rivals:
            ratios = [theirs / ours for theirs, ours in zip(rival, own, strict=True)]
            row[f"{task}_of_timm"] = round(statistics.median(ratios), 2)


def add_shares(rows, entrants, args, peak):
    """Multiply-adds of an image, and the share of the machine's peak that each task reaches."""
    counts = [e.ask(["count_flops"]) for e in entrants if e.name == "keras_mixers"]
    for row in rows if counts else []:
        row["GMACs"] = round(counts[0] / 1e9, 3)
        for task, passes in {"train": 3, "predict": 1}.items():  # forward; and twice that back
            if task in args.tasks:
                share = row[f"{task}_img_s"] * passes * 2 * counts[0] / peak
                row[f"{task}_of_peak"] = round(share, 2)


def scaling(args, python):
    """Rows of what an image costs, and by which power of the size since the row before."""
    rows = []
    for what, by, points in series(args):
        before = None
        for size, contestant, spec, batch in points:
            entrant = Contestant(contestant, {**spec, "dtype": args.dtype}, python)
            row, now = {"what": what, "by": by, "size": size}, {"size": size}
            for task in ("train", "predict"):
                (times,) = in_turn([entrant], [task, args.steps, batch], args.rounds)
                now[task] = statistics.median(times) / batch
                row[f"{task}_ms"] = round(1000 * now[task], 3)
                if before and by != "batch":
                    growth = math.log(now[task] / before[task])
                    row[f"{task}_power"] = round(growth / math.log(size / before["size"]), 2)
            entrant.close()
            rows.append(row)
            before = now
            print(f"{what} at {size} {by} measured", file=sys.stderr, flush=True)
    return rows


def series(args):
    """What grows: pairs of layers by tokens, models by width, depth and images a batch."""
    for layer in ("attention", "token MLP", "channel MLP", "ConvMixer block"):
        sides = (8, 16, 24, 32, 48)
        specs = [{"input_shape": (s * s, 192), "num_classes": 10, "layer": layer} for s in sides]
        points = [(spec["input_shape"][0], "layer", spec, 4) for spec in specs]
        yield layer, "tokens", points
    grown = {"width": ("hidden_dim", (64, 128, 256, 512)), "depth": ("depth", (2, 4, 8, 16))}
    for name in MODELS:
        for by, (argument, sizes) in grown.items():
            specs = [specification(name, args, {argument: size}) for size in sizes]
            points = zip(sizes, specs, strict=True)
            yield name, by, [(size, "keras_mixers", spec, args.batch) for size, spec in points]
        spec = specification(name, args)
        yield name, "batch", [(size, "keras_mixers", spec, size) for size in (1, 8, 32, 128)]


def show(rows, path):
    """Print the table, and write it if a file is named."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    widths = [max(len(c), *(len(str(row.get(c, ""))) for row in rows)) for c in columns]
    for row in [dict(zip(columns, columns, strict=True)), *rows]:
        cells = (str(row.get(c, "")).rjust(w) for c, w in zip(columns, widths, strict=True))
        print("  ".join(cells))
    if path:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)


def main():
    args = parse_arguments()
    if args.scaling:
        rows = scaling(args, args.python.get("keras_mixers", sys.executable))
    else:
        rows, pythons = [], starters(args)
        for name in args.models:
            rows += measure(name, specification(name, args), args, pythons)
            print(f"{name} measured", file=sys.stderr, flush=True)
    show(rows, args.csv)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("\nbenchmark.py: interrupted") from None
