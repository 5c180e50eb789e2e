"""Measure exports: time, memory and nodes of an export, and the file's time in onnxruntime.

    python examples/benchmark_export.py                       # our exports, each in its own process
    python examples/benchmark_export.py --write-peers peers   # needs timm, torch and onnxscript
    python examples/benchmark_export.py --peers peers         # compares ours with timm's exports

Peers are timm's models of the same architectures. torch.onnx exports them at opset 18 by both of
PyTorch's exporters. This script times all files in one process, in turn, with the same number of
threads. It pauses before each file, so that the threads of other onnxruntime sessions stop. A
column `over_...` is a file's median time divided by the peer's. `--csv` also writes the table to a
file.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from benchmark import show

# name: (builder, variant, arguments, timm's name or None)
MODELS = {
    "ViT-Ti/16": ("ViT", "Ti/16", {}, "vit_tiny_patch16_224"),
    "ViT-S/16": ("ViT", "S/16", {}, "vit_small_patch16_224"),
    "ViT-B/16": ("ViT", "B/16", {}, None),
    "MLPMixer-S/16": ("MLPMixer", "S/16", {}, "mixer_s16_224"),
    "ConvMixer-768/32": ("ConvMixer", "768/32", {}, "convmixer_768_32"),
    "Hybrid-MMA": ("Hybrid", "MMA", {}, None),
    "Hybrid-CM": ("Hybrid", "CM", {}, None),
    "DeiT-Ti/16-distilled": ("ViT", "DeiT-Ti/16-distilled", {}, None),
    "ViT-Ti/16-registers": ("ViT", "Ti/16", {"num_registers": 4}, None),
    "ViT-Ti/16-map": ("ViT", "Ti/16", {"pool": "map"}, None),
}
# name: arguments of km.export
FORMS = {
    "onnx": {},
    "onnxruntime": {"target": "onnxruntime"},
    "int8": {"target": "onnxruntime", "quantize": "int8"},
}
UNTRACED_BATCH = 5  # a batch size that the export did not use
PAUSE = 0.05  # seconds, because onnxruntime's threads spin for a while after each call


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=list(FORMS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8], help="images per call")
    parser.add_argument(
        "--rounds", type=int, default=9, help="number of times to measure each file"
    )
    parser.add_argument("--threads", type=int, default=2, help="number of threads of onnxruntime")
    parser.add_argument("--peers", type=pathlib.Path, help="folder that --write-peers wrote")
    parser.add_argument(
        "--write-peers", type=pathlib.Path, help="write timm's exports to this folder and exit"
    )
    parser.add_argument("--csv", type=pathlib.Path, help="file for the table")
    parser.add_argument("--export-one", nargs=3, help=argparse.SUPPRESS)  # for child processes
    return parser.parse_args()


def write_peers(folder, names):
    """Write timm's models as ONNX files, by PyTorch's current exporter and by its previous one."""
    import timm
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    for peer in [MODELS[name][3] for name in names if MODELS[name][3]]:
        model = timm.create_model(peer, exportable=True).eval()
        images = torch.randn(2, *model.default_cfg["input_size"])
        options = {"opset_version": 18, "input_names": ["images"], "output_names": ["logits"]}
        torch.onnx.export(
            model,
            (images,),
            folder / f"{peer}.dynamo.onnx",
            dynamo=True,
            external_data=False,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            **options,
        )
        torch.onnx.export(
            model,
            (images,),
            folder / f"{peer}.torchscript.onnx",
            dynamo=False,
            dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}},
            **options,
        )


def export_one(name, form, path):
    """Export one model in this process, and print the measurements as JSON."""
    import numpy as np
    import onnxruntime

    import keras_mixers as km

    builder, variant, arguments, _ = MODELS[name]
    model = getattr(km, builder)(variant, **arguments)
    before, peak, done = resident(), [0], threading.Event()

    def watch():
        while not done.wait(0.002):
            peak[0] = max(peak[0], resident())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    start = time.perf_counter()
    report = km.export(model, path, **FORMS[form])
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()

    shape = (UNTRACED_BATCH, *model.input_shape[1:])
    images = np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")
    logits = onnxruntime.InferenceSession(path).run(["logits"], {"images": images})[0]
    difference = np.abs(logits - np.asarray(model(images, training=False))).max()
    measured = {
        "nodes": report.nodes,
        "megabytes": round(report.size / 1e6, 1),
        "export_seconds": round(seconds, 1),
        "memory_over_weights": round((peak[0] - before) / (4 * model.count_params()), 1),
        "difference": f"{difference:.1e}",
    }
    print(json.dumps(measured))


def resident():
    """Bytes of this process's memory that are resident (Linux)."""
    import resource

    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def timed(paths, batch, rounds, threads):
    """Milliseconds per image for each file: the median of the rounds, files in turn."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    calls, times = [], [[] for _ in paths]
    for path in paths:
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        image = session.get_inputs()[0]
        images = np.random.default_rng(0).uniform(-1, 1, (batch, *image.shape[1:]))
        calls.append((session, {image.name: images.astype("float32")}))
    for _ in range(rounds):
        for (session, feed), passed in zip(calls, times, strict=True):
            time.sleep(PAUSE)
            session.run(None, feed)
            start = time.perf_counter()
            session.run(None, feed)
            passed.append(1000 * (time.perf_counter() - start) / batch)
    return [statistics.median(passed) for passed in times]


def measure(name, args, folder):
    """The rows of the table for one model: one for each of our files, one for each peer."""
    rows = []
    for form in args.forms:
        path = folder / f"{name.replace('/', '-')}.{form}.onnx"
        command = [sys.executable, __file__, "--export-one", name, form, str(path)]
        ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        measured = json.loads(ended.stdout.splitlines()[-1])
        rows.append({"model": name, "file": form, "path": path, **measured})
    peer = MODELS[name][3]
    if args.peers and peer:
        import onnx

        for path in sorted(args.peers.glob(f"{peer}.*.onnx")):
            nodes = len(onnx.load(path).graph.node)
            rows.append({"model": name, "file": f"timm {path.suffixes[0][1:]}", "path": path})
            rows[-1]["nodes"] = nodes
    for batch in args.batches:
        medians = timed([row["path"] for row in rows], batch, args.rounds, args.threads)
        for row, median in zip(rows, medians, strict=True):
            row[f"ms_at_{batch}"] = round(median, 2)
        for kind in ("dynamo", "torchscript"):
            against = [row[f"ms_at_{batch}"] for row in rows if row["file"] == f"timm {kind}"]
            for row in rows if against else []:
                ratio = row[f"ms_at_{batch}"] / against[0]
                row[f"over_{kind}_at_{batch}"] = round(ratio, 3)
    return [{key: value for key, value in row.items() if key != "path"} for row in rows]


def main():
    args = parse_arguments()
    if args.export_one:
        export_one(*args.export_one)
    elif args.write_peers:
        write_peers(args.write_peers, args.models)
    else:
        for place in (args.peers, args.csv and args.csv.absolute().parent):
            if place and not place.is_dir():
                raise SystemExit(f"benchmark_export.py: folder not found: {place}")
        with tempfile.TemporaryDirectory() as folder:
            rows = []
            for name in args.models:
                rows += measure(name, args, pathlib.Path(folder))
                print(f"{name} measured", file=sys.stderr, flush=True)
        show(rows, args.csv)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("\nbenchmark_export.py: interrupted") from None
