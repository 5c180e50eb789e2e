"""Measure how fast a core reads, decodes and augments ImageNet, and how many cores a GPU needs.

    python examples/synthetic_imagenet.py DATA_DIR --fraction 0.006
    python examples/benchmark_imagenet.py DATA_DIR

Four tables:
- measured: each pipeline on each number of cores. `cpu_ms` is the CPU time of an image, which other
  processes on the machine hardly change, while they reduce `images_s`. `serial_ms` is the part that
  runs in one thread. `others_cores` counts the cores that other processes keep busy. `idle_MB`,
  `peak_MB` and `MB_per_1000` are the resident memory before the first batch, its maximum, and its
  growth per 1,000 images after the first epoch.
- stages: the CPU time of an image in each stage, as differences of pipelines.
- scaling: images per second on more cores, predicted from the measurement on one core: the number
  of cores over `cpu_ms`, and at most one over `serial_ms`. The largest measured number of cores
  checks the prediction for `free_cores`, those that other processes leave. `cpu_growth` is the
  growth of `cpu_ms` from one core to these, which would show a limit of the memory.
- gpu: the images per second that a GPU needs, and the cores that deliver them.

The dataset must be so large that keras_mixers does not keep it in memory: more than 7,133 images at
224 pixels. The scripts read Linux's /proc.
"""

import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import time

from benchmark import show
from benchmark_imagenet_stages import PIPELINES
from command_line import at_least

# What each stage is called, and the pipelines whose CPU times are added and subtracted.
STAGES = {
    "read": ("read",),
    "decode JPEG": ("read, decode", "-read"),
    "resize central crop": ("read, decode, resize", "-read, decode"),
    "shuffle, batch, normalize": ("central crop", "-read, decode, resize"),
    "random crop, resize, shuffle, batch, normalize": ("random crop", "-read, decode"),
    "flip": ("crop, flip", "-random crop"),
    "RandAugment, erasing, MixUp, CutMix": ("DeiT's", "-crop, flip"),
}
WHOLE = ("central crop", "crop, flip", "DeiT's")
VARIANTS = ("S/16", "B/16", "L/16")
GPU, GPU_FLOPS = "H100", 989e12  # dense bfloat16, NVIDIA's data sheet of the SXM form
UTILIZATIONS = (0.3, 0.4, 0.5)
MORE_CORES = (4, 8, 16, 32, 64)


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("data_dir", type=pathlib.Path, help="folder for TFDS datasets")
    parser.add_argument("--dataset", default="synthetic_imagenet", help="a TFDS name")
    parser.add_argument("--image-size", type=at_least(1), default=224, help="side in pixels")
    parser.add_argument("--batch", type=at_least(1), default=128, help="images per step")
    parser.add_argument(
        "--cores", type=at_least(1), nargs="+", default=[1, 2], help="numbers of cores; 1 is needed"
    )
    parser.add_argument(
        "--rounds", type=at_least(1), default=3, help="timed epochs, after an untimed one"
    )
    parser.add_argument(
        "--csv", type=pathlib.Path, help="folder for the tables, one file for each of them"
    )
    args = parser.parse_args()
    if 1 not in args.cores:
        parser.error("--cores: the model needs the measurement on 1 core")
    if max(args.cores) > len(os.sched_getaffinity(0)):
        parser.error(f"--cores: this process may use {len(os.sched_getaffinity(0))} cores")
    return args


def measure_all(args):
    """A row for each number of cores and pipeline; the larger numbers come last."""
    rows = []
    for cores in sorted(set(args.cores)):
        for pipeline in PIPELINES:
            spec = {
                "pipeline": pipeline,
                "dataset": args.dataset,
                "data_dir": str(args.data_dir),
                "image_size": args.image_size,
                "batch": args.batch,
                "rounds": args.rounds,
            }
            rows.append(in_process(spec, cores))
            print(f"{pipeline} measured on {cores}", file=sys.stderr, flush=True)
    return rows


def in_process(spec, cores):
    """The row that a process measures which may use so many cores."""
    script = pathlib.Path(__file__).with_name("benchmark_imagenet_stages.py")
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:cores])  # the child inherits it
    try:
        done = subprocess.run(
            [sys.executable, script, json.dumps(spec)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
    finally:
        os.sched_setaffinity(0, allowed)
    if done.returncode:
        raise SystemExit(f"benchmark_imagenet.py: {spec} failed: {done.stderr[-1000:]}")
    return json.loads(done.stdout)


def by_pipeline(rows, cores):
    return {row["pipeline"]: row for row in rows if row["cores"] == cores}


def stage_table(rows):
    """The CPU time of an image in each stage, and how many images one core would do in it."""
    table = []
    for stage, terms in STAGES.items():
        row = {"stage": stage}
        for cores in sorted({row["cores"] for row in rows}):
            measured = by_pipeline(rows, cores)
            milliseconds = sum(
                -measured[term[1:]]["cpu_ms"] if term[0] == "-" else measured[term]["cpu_ms"]
                for term in terms
            )
            row[f"cpu_ms_on_{cores}"] = round(milliseconds, 3)
        row["images_s_core"] = round(1000 / row["cpu_ms_on_1"]) if row["cpu_ms_on_1"] > 0 else ""
        table.append(row)
    return table


def images_per_second(row, cores):
    """The model: all cores share the work, except that one thread does the serial part."""
    return 1000 / max(row["cpu_ms"] / cores, row["serial_ms"])


def scaling_table(rows):
    """For each whole pipeline, the prediction from one core, checked on the most cores."""
    most = max(row["cores"] for row in rows)
    one, many = by_pipeline(rows, 1), by_pipeline(rows, most)
    table = []
    for name in WHOLE:
        free = max(0.01, min(most, os.cpu_count() - many[name]["others_cores"]))
        predicted, measured = images_per_second(one[name], free), many[name]["images_s"]
        row = {
            "pipeline": name,
            "images_s_on_1": round(1000 / one[name]["cpu_ms"]),
            "serial_limit": round(1000 / one[name]["serial_ms"]),
            "free_cores": round(free, 2),
            "predicted": round(predicted),
            f"measured_on_{most}": round(measured),
            "error": f"{predicted / measured - 1:+.0%}",
            "cpu_growth": round(many[name]["cpu_ms"] / one[name]["cpu_ms"], 2),
        }
        for cores in MORE_CORES:
            row[f"on_{cores}"] = round(images_per_second(one[name], cores))
        table.append(row)
    return table


def gpu_table(rows, flops):
    """The cores that feed one GPU; `flops` are the multiply-adds of each variant.

    It takes the CPU time on the most cores, because the cores of a large machine are all busy.
    "serial" means that the serial part is too slow for the GPU on any number of cores.
    """
    one = by_pipeline(rows, 1)
    most = by_pipeline(rows, max(row["cores"] for row in rows))
    table = []
    for variant, count in flops.items():
        for utilization in UTILIZATIONS:
            needed = GPU_FLOPS * utilization / (3 * 2 * count)  # backward costs two forward passes
            row = {
                "model": variant,
                "train_GFLOP": round(6 * count / 1e9, 1),
                "utilization": utilization,
                "images_s": round(needed),
            }
            for name in WHOLE:
                within = needed * one[name]["serial_ms"] <= 1000
                row[f"cores, {name}"] = (
                    math.ceil(needed * most[name]["cpu_ms"] / 1000) if within else "serial"
                )
            table.append(row)
    return table


def processor():
    """The processor's name, as Linux gives it, with the numbers that name its generation."""
    lines = [
        line.split(":", 1)
        for line in pathlib.Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0].splitlines()
    ]
    facts = {key.strip(): value.strip() for key, value in lines}
    generation = f"family {facts.get('cpu family')}, model {facts.get('model')}"
    return f"{facts.get('model name')} ({generation}), {os.cpu_count()} cores"


def count_multiply_adds(image_size):
    import keras_mixers as km

    shape = (image_size, image_size, 3)
    with km.abstract_weights():
        return {
            f"ViT-{variant}": km.count_flops(km.ViT(variant, input_shape=shape, num_classes=1000))
            for variant in VARIANTS
        }


def main():
    args = parse_arguments()
    if args.csv:
        args.csv.mkdir(parents=True, exist_ok=True)
    rows = measure_all(args)
    measured = [
        {key: round(v, 3) if isinstance(v, float) else v for key, v in row.items()} for row in rows
    ]
    load = ", ".join(f"{number:.1f}" for number in os.getloadavg())
    print(f"{processor()}; load {load}; {time.strftime('%Y-%m-%d')}; batch {args.batch}")
    print(f"{GPU}: {GPU_FLOPS / 1e12:.0f} TFLOP/s")
    for title, table in {
        "measured": measured,
        "stages": stage_table(rows),
        "scaling": scaling_table(rows),
        "gpu": gpu_table(rows, count_multiply_adds(args.image_size)),
    }.items():
        print(f"\n{title}")
        show(table, args.csv and args.csv / f"{title}.csv")


if __name__ == "__main__":
    main()
