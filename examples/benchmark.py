"""Compare training and inference speed with the same models in other libraries.

    python examples/benchmark.py                                # three small models on 32 x 32
    python examples/benchmark.py --python timm=PATH/bin/python  # timm in another environment
    python examples/benchmark.py --models ViT-B/16 --dtype mixed_bfloat16 --batch 128
    python examples/benchmark.py --dtype float32 mixed_bfloat16 # both in one run: 10 minutes
    python examples/benchmark.py --scaling                      # by tokens, width, depth, batch
    python examples/benchmark.py --contestants keras_mixers checkpointed    # gradient checkpointing

The contestants are keras_mixers, the layers of Keras assembled as in tutorials, keras-hub, and timm
on PyTorch. Those that are not installed are skipped. Each contestant runs in a separate process,
and the others are idle meanwhile. The variable KERAS_BACKEND chooses the backend of Keras.

Each time is the median of all rounds. Each ratio is the median of the ratios within a round,
because the speed of a machine varies from round to round. A column `..._of_timm` compares with timm
in the same dtype: in bfloat16, timm computes under PyTorch's autocast. A column `..._of_float32`
compares a contestant with itself in float32, and `..._best_dtype` names its fastest dtype. The task
`call` is one image per compiled call. GMACs are the 10^9 multiply-adds of an image; a column
`..._of_peak` is the fraction of the speed of a product of two large matrices. Ratios of a single
round say little.

With gradient checkpointing, 2 cores and batch 64, training needs 497 MB in addition to the model
instead of 679 MB for the small ViT, 470 instead of 579 for the MLP-Mixer, and 466 instead of 749
for the ConvMixer.
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
# The module that each contestant imports.
CONTESTANTS = {
    "keras_mixers": "keras_mixers",
    "checkpointed": "keras_mixers",
    "plain Keras": "keras",
    "keras-hub": "keras_hub",
    "timm": "timm",
}
TASKS = ("train", "predict", "call")
PAUSE = 0.05  # seconds, because the threads of an idle contestant spin for a while
MATMUL_SIDE = 2048  # of the square matrices whose product measures the machine's peak speed


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--models",
        nargs="+",
        default=list(MODELS),
        help="small models, or published variants such as ViT-S/16",
    )
    parser.add_argument(
        "--image-size", type=int, default=224, help="image side of a published variant, in pixels"
    )
    parser.add_argument("--batch", type=int, default=64, help="images per step")
    parser.add_argument(
        "--rounds", type=int, default=7, help="timing rounds; each one times all contestants"
    )
    parser.add_argument("--steps", type=int, default=3, help="steps per round")
    parser.add_argument(
        "--tasks",
        nargs="+",
        default=list(TASKS),
        choices=TASKS,
        help="what to time; call is one image per compiled call",
    )
    parser.add_argument(
        "--dtype",
        nargs="+",
        default=["float32"],
        choices=("float32", "mixed_bfloat16"),
        help="dtype policies of the models; two are compared in one run",
    )
    others = [name for name in CONTESTANTS if name != "checkpointed"]
    parser.add_argument(
        "--contestants",
        nargs="+",
        default=others,
        choices=CONTESTANTS,
        help="libraries to compare; checkpointed is keras_mixers with gradient checkpointing",
    )
    parser.add_argument(
        "--python",
        nargs="+",
        default=[],
        metavar="NAME=PATH",
        help="Python of a contestant in another environment",
    )
    parser.add_argument(
        "--scaling", action="store_true", help="measure how time grows with the size instead"
    )
    parser.add_argument("--csv", type=pathlib.Path, help="also write the table to this file")
    args = parser.parse_args()
    args.python = dict(pair.split("=", 1) for pair in args.python)
    args.dtype = list(dict.fromkeys(args.dtype))
    if args.scaling and len(args.dtype) > 1:
        parser.error(f"--scaling takes one --dtype. Received: {' '.join(args.dtype)}")
    if args.csv and not args.csv.absolute().parent.is_dir():
        parser.error(f"--csv: the folder {args.csv.absolute().parent} does not exist")
    return args


def specification(name, args, changed=None):
    """The arguments from which every contestant can build the model, with some changed."""
    import keras_mixers as km

    if name in MODELS:
        family, variant, arguments = MODELS[name]
    else:
        family, _, variant = name.partition("-")
        arguments = {"input_shape": (args.image_size, args.image_size, 3), "num_classes": 1000}
    arguments = {**arguments, **(changed or {})}
    if changed and "hidden_dim" in changed:  # heads and MLP grow in proportion
        width = changed["hidden_dim"]
        arguments |= {
            "ViT": {"num_heads": width // 64, "mlp_dim": 4 * width},
            "MLPMixer": {"channels_mlp_dim": 4 * width},
            "ConvMixer": {},
        }[family]
    sizes = {**km.variants(family)[variant], **arguments}
    sizes["mlp_dim"] = sizes.get("mlp_dim", sizes.get("channels_mlp_dim"))
    named = {"family": family, "variant": variant, "arguments": arguments}
    # Because only the ConvMixer of timm is faster with the channels last.
    return {**sizes, **named, "channels_last": family == "ConvMixer"}


class Contestant:
    """A process with one model of one framework, which answers requests."""

    def __init__(self, name, spec, python):
        self.name, self.dtype = name, spec["dtype"]
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
        self.idle_bytes, _ = self.ask(["memory"])

    def ask(self, request):
        print(json.dumps(request), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            self.errors.seek(0)
            errors = self.errors.read()[-1000:]
            self.close()
            raise SystemExit(f"benchmark.py: {self.name} ended at {request}: {errors}")
        return json.loads(answer)

    def memory(self):
        """Peak memory in bytes since the last call, minus the memory of the idle model."""
        _, peak = self.ask(["memory"])
        return peak - self.idle_bytes

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()
        self.errors.close()


def find_pythons(args):
    """`{contestant: path of its Python}` of the contestants that are installed."""
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
    """Measure one model: a row for each contestant in each dtype."""
    contestants = [
        Contestant(name, {**spec, "dtype": dtype}, python)
        for dtype in args.dtype
        for name, python in pythons.items()
        if name != "keras-hub" or spec["family"] == "ViT"
    ]
    sizes = {contestant.name: contestant.about["parameters"] for contestant in contestants}
    if len(set(sizes.values())) > 1:
        raise SystemExit(
            f"benchmark.py: contestants build different models for {model}: {sizes} parameters"
        )
    same = {"model": model, "batch": args.batch}
    rows = [{**same, "dtype": each.dtype, "contestant": each.name} for each in contestants]
    for contestant, row in zip(contestants, rows, strict=True):
        row["first_step_s"] = round(contestant.ask(["first_step", args.batch]), 1)
        if "train" in args.tasks:
            measure_memory(contestant, row, args)
    for task in args.tasks:
        batch = 1 if task == "call" else args.batch
        times = in_turn(contestants, [task, args.steps, batch], args.rounds)
        add_speeds(rows, times, task, batch)
    add_fractions_of_peak(rows, contestants, args)
    for row, contestant in zip(rows, contestants, strict=True):
        row.update(contestant.about, date=time.strftime("%Y-%m-%d"))
        contestant.close()
    return rows


def measure_memory(contestant, row, args):
    """Measure how much memory training adds to the idle model's, in total and per image."""
    peaks = []
    for batch in (args.batch, 2 * args.batch):
        contestant.ask(["train", 1, batch])
        contestant.memory()  # resets the peak, which tracing and compilation have raised
        contestant.ask(["train", 2, batch])
        peaks.append(contestant.memory())
    row["train_MB"] = round(peaks[0] / 1e6)
    row["train_MB_an_image"] = round((peaks[1] - peaks[0]) / args.batch / 1e6, 2)


def in_turn(contestants, request, rounds):
    """Seconds per step of each contestant in each round, after one warm-up round."""
    times = [[] for _ in contestants]
    pairs = list(zip(contestants, times, strict=True))
    for number in range(rounds + 1):
        # In alternating order, so that no contestant always runs after the same one.
        for contestant, medians in pairs[:: 1 if number % 2 else -1]:
            time.sleep(PAUSE)
            median = statistics.median(contestant.ask(request))
            if number:
                medians.append(median)
    return times


def add_speeds(rows, times, task, batch):
    """Add images per second, their ratios to timm's and to float32's, and the fastest dtype."""
    seconds = {(row["contestant"], row["dtype"]): t for row, t in zip(rows, times, strict=True)}
    for row, own in zip(rows, times, strict=True):
        name, dtype = row["contestant"], row["dtype"]
        row[f"{task}_img_s"] = round(batch / statistics.median(own), 1)
        if ("timm", dtype) in seconds:
            row[f"{task}_of_timm"] = ratio(seconds["timm", dtype], own)
        dtypes = [other for contestant, other in seconds if contestant == name]
        if len(dtypes) > 1:
            row[f"{task}_of_float32"] = ratio(seconds[name, "float32"], own)
            fastest = min(dtypes, key=lambda other: statistics.median(seconds[name, other]))
            row[f"{task}_best_dtype"] = fastest


def ratio(reference, own):
    """The median over all rounds of a reference's time divided by the own time."""
    return round(statistics.median(a / b for a, b in zip(reference, own, strict=True)), 2)


def add_fractions_of_peak(rows, contestants, args):
    """Add the multiply-adds of an image, and the fraction of the peak speed of each task."""
    counts = [each.ask(["count_flops"]) for each in contestants if each.name == "keras_mixers"]
    if not counts:
        return
    products = in_turn(contestants, ["matmul", args.steps, MATMUL_SIDE], args.rounds)
    for row in rows:
        row["GMACs"] = round(counts[0] / 1e9, 3)
        same_dtype = [
            statistics.median(times)
            for other, times in zip(rows, products, strict=True)
            if other["dtype"] == row["dtype"]
        ]
        peak = 2 * MATMUL_SIDE**3 / min(same_dtype)
        for task, passes in {"train": 3, "predict": 1}.items():  # a backward pass costs two forward
            if task in args.tasks:
                fraction = row[f"{task}_img_s"] * passes * 2 * counts[0] / peak
                row[f"{task}_of_peak"] = round(fraction, 2)


def scaling(args, python):
    """Measure the time of an image at growing sizes.

    The power of a row is the exponent by which the time grows with the size since the last row.
    """
    rows = []
    for what, by, runs in series(args):
        last = None
        for size, name, spec, batch in runs:
            contestant = Contestant(name, {**spec, "dtype": args.dtype[0]}, python)
            row, now = {"what": what, "by": by, "size": size}, {"size": size}
            for task in ("train", "predict"):
                (times,) = in_turn([contestant], [task, args.steps, batch], args.rounds)
                now[task] = statistics.median(times) / batch
                row[f"{task}_ms"] = round(1000 * now[task], 3)
                if last and by != "batch":
                    growth = math.log(now[task] / last[task])
                    row[f"{task}_power"] = round(growth / math.log(size / last["size"]), 2)
            contestant.close()
            rows.append(row)
            last = now
            print(f"{what} measured at {by} {size}", file=sys.stderr, flush=True)
    return rows


def series(args):
    """The measurements: pairs of layers by tokens, and models by width, depth and batch size.

    Yields (name, what grows, runs); a run is (size, contestant, specification, batch size).
    """
    for layer in ("attention", "token MLP", "channel MLP", "ConvMixer block"):
        sides = (8, 16, 24, 32, 48)
        specs = [{"input_shape": (s * s, 192), "num_classes": 10, "layer": layer} for s in sides]
        yield layer, "tokens", [(spec["input_shape"][0], "layer", spec, 4) for spec in specs]
    grown = {"width": ("hidden_dim", (64, 128, 256, 512)), "depth": ("depth", (2, 4, 8, 16))}
    for name in MODELS:
        for by, (argument, sizes) in grown.items():
            specs = [specification(name, args, {argument: size}) for size in sizes]
            pairs = zip(sizes, specs, strict=True)
            yield name, by, [(size, "keras_mixers", spec, args.batch) for size, spec in pairs]
        spec = specification(name, args)
        yield name, "batch", [(size, "keras_mixers", spec, size) for size in (1, 8, 32, 128)]


def show(rows, path):
    """Print the table, and write it to `path` as CSV unless `path` is None."""
    columns = columns_of(rows)
    widths = [max(len(c), *(len(str(row.get(c, ""))) for row in rows)) for c in columns]
    for row in [dict(zip(columns, columns, strict=True)), *rows]:
        cells = (str(row.get(c, "")).rjust(w) for c, w in zip(columns, widths, strict=True))
        print("  ".join(cells))
    if path:
        write_csv(rows, path)


def columns_of(rows):
    return list(dict.fromkeys(key for row in rows for key in row))


def write_csv(rows, path):
    """Write the table as a CSV file."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns_of(rows))
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)  # in one step, so that the file is always complete


def main():
    args = parse_arguments()
    if args.scaling:
        rows = scaling(args, args.python.get("keras_mixers", sys.executable))
    else:
        rows, pythons = [], find_pythons(args)
        for name in args.models:
            print(f"measuring {name}", file=sys.stderr, flush=True)
            rows += measure(name, specification(name, args), args, pythons)
    show(rows, args.csv)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("\nbenchmark.py: interrupted") from None
