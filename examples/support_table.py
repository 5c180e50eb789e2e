"""Run exported files in each runtime that is installed, and print where they run.

    python examples/support_table.py                         # what is installed for this Python
    python examples/support_table.py --npm PATH              # and onnxruntime for browsers and Node
    python examples/support_table.py --python opencv=PATH/bin/python onnxruntime-1.18=...

The script exports 18 small models with random weights, each with several options of `km.export`.
Each runtime runs the files in a separate process, which `support_table_runtime.py` describes. If a
file ends the process, another one runs the files after it. A name such as `onnxruntime-1.18` is
onnxruntime in another Python.

A cell is the largest difference from Keras's outputs, relative to the largest output; or a number
in brackets, which stands for the refusal below the table. A difference in bold is above the limit
of its option: 1e-4, 2e-2 with half precision, and 0.3 with int8 numbers. `--csv` writes one row for
each file and runtime. `--folder` keeps the files, and the next run uses them again.
"""

import argparse
import csv
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

import numpy as np

SIZE, CLASSES = (8, 12), 5
PICTURE_SIZE = (19, 26)  # before preprocessing
# As wide as the converter of TensorFlow Lite needs: in int8 it stores weights of 1,024 numbers.
VIT = {"patch_size": 4, "hidden_dim": 48, "depth": 2, "num_heads": 2, "mlp_dim": 64}
MIXER = {k: VIT[k] for k in ("patch_size", "hidden_dim", "depth")}
MIXER |= {"tokens_mlp_dim": 10, "channels_mlp_dim": 64}
CONV = {"patch_size": 2, "hidden_dim": 48, "depth": 2, "kernel_size": 3}
HYBRID = {k: VIT[k] for k in ("patch_size", "hidden_dim", "num_heads", "mlp_dim")}
HYBRID |= {"tokens_mlp_dim": 10, "kernel_size": 3}
# name: (builder, variant, arguments)
MODELS = {
    "ViT": ("ViT", "Ti/16", VIT),
    "ViT, mean of tokens": ("ViT", "Ti/16", {**VIT, "pool": "gap"}),
    "ViT, attention pooling": ("ViT", "Ti/16", {**VIT, "pool": "map", "activation": "gelu_tanh"}),
    "ViT, registers, norm of q and k": (
        "ViT",
        "Ti/16",
        {**VIT, "num_registers": 2, "qk_norm": True},
    ),
    "ViT, additive score": ("ViT", "Ti/16", {**VIT, "score": "additive"}),
    "ViT, bilinear score": ("ViT", "Ti/16", {**VIT, "score": "bilinear"}),
    "ViT, feature maps": ("ViT", "Ti/16", VIT),
    "ViT, features of a gray image": (
        "ViT",
        "Ti/16",
        {**VIT, "input_shape": (8, 12, 1), "num_classes": 0},
    ),
    "DeiT, distilled": ("ViT", "DeiT-Ti/16-distilled", VIT),
    "DeiT III, LayerScale": ("ViT", "DeiT3-S/16", VIT),
    "DINOv3, rotary, gated": ("ViT", "DINOv3-S+/16", {**VIT, "num_registers": 2}),
    "AIMv2, RMS norm": ("ViT", "AIMv2-L/14", VIT),
    "MLP-Mixer": ("MLPMixer", "S/16", MIXER),
    "ConvMixer, GELU": ("ConvMixer", "768/32", {**CONV, "activation": "gelu"}),
    "ConvMixer, ReLU": ("ConvMixer", "768/32", {**CONV, "activation": "relu"}),
    "Hybrid MMA": ("Hybrid", "MMA", HYBRID),
    "Hybrid CM": ("Hybrid", "CM", HYBRID),
    "Hybrid PGF": ("Hybrid", "PGF", HYBRID),
}
# option: (suffix of the file, arguments of km.export, largest difference)
OPTIONS = {
    "ONNX": (".onnx", {}, 1e-4),
    "ONNX, batch=2": (".onnx", {"batch": 2}, 1e-4),
    "ONNX, preprocessing": (".onnx", {"preprocessing": True}, 1e-4),
    "ONNX, float16": (".onnx", {"dtype": "float16"}, 2e-2),
    "ONNX, float16 weights": (".onnx", {"quantize": "float16"}, 2e-2),
    "ONNX, int8 dynamic": (".onnx", {"quantize": "int8"}, 0.3),
    "ONNX, int8 static": (".onnx", {"quantize": "int8", "calibration_data": True}, 0.3),
    "TensorFlow Lite": (".tflite", {}, 1e-4),
    "TensorFlow Lite, class names": (".tflite", {"class_names": True}, 1e-4),
    "TensorFlow Lite, preprocessing": (
        ".tflite",
        {"preprocessing": True, "picture_size": PICTURE_SIZE},
        1e-4,
    ),
    "TensorFlow Lite, float16": (".tflite", {"quantize": "float16"}, 2e-2),
    "TensorFlow Lite, int8": (".tflite", {"quantize": "int8"}, 0.3),
    "TensorFlow Lite, int8 static": (
        ".tflite",
        {"quantize": "int8", "calibration_data": True},
        0.3,
    ),
    "SavedModel": ("", {}, 1e-4),
    "SavedModel, preprocessing": ("", {"preprocessing": True}, 1e-4),
}
# runtime: suffixes of the files that it runs
RUNTIMES = {
    "onnxruntime": (".onnx",),
    "onnxruntime-web": (".onnx",),
    "onnxruntime-node": (".onnx",),
    "openvino": (".onnx",),
    "opencv": (".onnx",),
    "litert": (".tflite",),
    "tensorflow": (".tflite", ""),
}
LENGTH = 150
# Of error messages: places in sources, the names of nodes, and the longest of OpenCV's phrases.
NOISE = (
    r"\S*(?:/[\w.+-]+){2,}\S*",
    r"OpenCV\([\d.]+\) *(?:\S*:\d+: )?error: ",
    r"\(onnx_node![^)]*\)|\"onnx_node![^\"]*\"",
    r"\(-2:Unspecified error\) in function 'handleNode' > ",
)
SECONDS = 600  # for all files in one runtime


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--options", nargs="+", default=list(OPTIONS), choices=list(OPTIONS))
    parser.add_argument(
        "--runtimes", nargs="+", default=list(RUNTIMES), help="runtimes of this Python and of npm"
    )
    parser.add_argument(
        "--python",
        nargs="+",
        default=[],
        metavar="NAME=PATH",
        help="Python of a runtime in another environment, which is added to --runtimes",
    )
    parser.add_argument(
        "--npm", default=".", help="folder whose node_modules has onnxruntime-web and -node"
    )
    parser.add_argument("--folder", type=pathlib.Path, help="folder for the exported files")
    parser.add_argument("--csv", type=pathlib.Path, help="also write the table to this file")
    args = parser.parse_args()
    args.python = dict(pair.split("=", 1) for pair in args.python)
    args.runtimes = list(dict.fromkeys([*args.runtimes, *args.python]))
    unknown = [name for name in args.runtimes if kind_of(name) is None]
    if unknown:
        parser.error(f"unknown runtimes: {', '.join(unknown)}; known are {', '.join(RUNTIMES)}")
    return args


def kind_of(runtime):
    """The row of `RUNTIMES` that a name such as `onnxruntime-1.18` means, or None."""
    name = re.sub(r"-[\d.]+$", "", runtime)
    return name if name in RUNTIMES else None


def build(name):
    """The model with random weights, because ones and zeros hide mistakes."""
    import keras_mixers as km

    builder, variant, arguments = MODELS[name]
    arguments = {"input_shape": (*SIZE, 3), "num_classes": CLASSES, **arguments}
    model = getattr(km, builder)(variant, **arguments)
    generator = np.random.default_rng(5)
    for weight in model.weights:
        if "float" in weight.dtype:
            positive = weight.path.endswith(("gamma", "moving_variance"))
            values = generator.normal(0, 0.2, weight.shape)
            weight.assign(1 + np.abs(values) if positive else values)
    return km.feature_maps(model, blocks=(0, 1)) if "feature maps" in name else model


def export(model, option, path):
    """Export a model; return images and the outputs of Keras, `{name: array}`."""
    import keras

    import keras_mixers as km

    _, options, _ = OPTIONS[option]
    options = dict(options)
    generator, channels = np.random.default_rng(6), model.input_shape[-1]
    if options.get("preprocessing"):
        options["preprocessing"] = km.Preprocessing(SIZE, mean=0.5, std=0.5)
        images = generator.integers(0, 256, (2, *PICTURE_SIZE, channels), dtype="uint8")
    else:
        images = generator.uniform(-1, 1, (2, *SIZE, channels)).astype("float32")
    if "calibration_data" in options:
        options["calibration_data"] = images
    if "class_names" in options:
        options["class_names"] = [f"class {i}" for i in range(model.outputs[0].shape[-1])]
    km.export(model, path, **options)

    prepared = options["preprocessing"](images) if "preprocessing" in options else images
    outputs = keras.tree.flatten(model(prepared, training=False))
    if len(outputs) > 1:
        return images, dict(zip(model.output_names, map(np.asarray, outputs), strict=True))
    outputs = {"logits": np.asarray(outputs[0])}
    if "preprocessing" in options:
        outputs["probabilities"] = np.asarray(keras.ops.softmax(outputs["logits"]))
    return images, outputs


def exported(args, folder):
    """Export each model with each option; yield `{model, option, path, images, expected}`.

    A refused export has `error` instead of the last two.
    """
    for name in args.models:
        model = None  # because importing Keras takes seconds, which kept files do not need
        for option in args.options:
            suffix = OPTIONS[option][0]
            stem = re.sub(r"\W+", "_", f"{name} {option}")
            path, arrays = folder / f"{stem}{suffix}", folder / f"{stem}.npz"
            job = {"model": name, "option": option, "path": str(path), "arrays": str(arrays)}
            try:
                if not arrays.exists():
                    model = model or build(name)
                    images, outputs = export(model, option, path)
                    np.savez(arrays, images=images, **outputs)
                job["names"] = [key for key in np.load(arrays) if key != "images"]
            except (ValueError, RuntimeError) as error:
                job["error"] = f"export: {shortened(str(error))}"
            yield job


def run(runtime, jobs, args):
    """Run files in a runtime; return its version (None if it is not installed) and the answers.

    An answer is `{output: nested lists}`, or the refusal as a string.
    """
    answers, version = [], None
    while len(answers) < len(jobs):
        rest = jobs[len(answers) :]
        output, ending = process(runtime, rest, args)
        about, *lines = output.splitlines() or [""]
        if not about:
            return None, [ending]
        version = json.loads(about)
        answers += [json.loads(line) for line in lines]
        if len(lines) < len(rest):
            answers.append(ending)
    return version, answers


def process(runtime, jobs, args):
    """Run files in a process of a runtime; return what it prints, and why it ended."""
    script = pathlib.Path(__file__).with_name("support_table_runtime.py")
    python = args.python.get(runtime, sys.executable)
    try:
        ended = subprocess.run(
            [python, script, kind_of(runtime), args.npm],
            check=False,
            input=json.dumps(jobs),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
    except subprocess.TimeoutExpired as error:
        return (error.stdout or b"").decode(), f"it took more than {SECONDS} s"
    if ended.returncode < 0:
        return ended.stdout, f"the process ended by {signal.Signals(-ended.returncode).name}"
    return ended.stdout, "".join(ended.stderr.strip().splitlines()[-1:])


def shortened(message):
    """An error message in one line of at most `LENGTH` characters, without paths and places."""
    text = " ".join(message.split())
    for noise in NOISE:
        text = re.sub(noise, "", text)
    return text if len(text) <= LENGTH else f"{text[:LENGTH]}..."


def difference(answer, job):
    """The largest difference of an output relative to the output's largest number."""
    expected, largest = np.load(job["arrays"]), 0.0
    for name in job["names"]:
        output = np.asarray(answer[name], "float64")
        if output.shape != expected[name].shape:
            return float("inf")
        error = np.abs(output - expected[name]).max() / np.abs(expected[name]).max()
        largest = max(largest, np.nan_to_num(error, nan=np.inf))
    return float(largest)


def measure(args, folder):
    """One row for each file and each runtime that reads such files."""
    jobs = list(exported(args, folder))
    rows = []
    for runtime in args.runtimes:
        suffixes = RUNTIMES[kind_of(runtime)]
        own = [job for job in jobs if OPTIONS[job["option"]][0] in suffixes]
        todo = [job for job in own if "error" not in job]
        version, answers = run(runtime, todo, args) if todo else (None, [])
        if todo and version is None:
            print(f"{runtime} is not installed: {answers[0]}", file=sys.stderr, flush=True)
        answered = iter(answers)
        for job in own:
            row = {"option": job["option"], "model": job["model"], "runtime": runtime}
            row["version"] = version or "not installed"
            if "error" in job:
                row["refusal"] = job["error"]
            elif version:
                answer = next(answered)
                if isinstance(answer, str):
                    row["refusal"] = shortened(answer)
                else:
                    row["difference"] = f"{difference(answer, job):.1e}"
            rows.append(row)
        print(f"{runtime} {version or ''} measured", file=sys.stderr, flush=True)
    return rows


def show(rows):
    """Print one table for each option, in Markdown, and its refusals."""
    for option in dict.fromkeys(row["option"] for row in rows):
        own = [row for row in rows if row["option"] == option]
        runtimes = {row["runtime"]: row["version"] for row in own}
        refusals = list(dict.fromkeys(row["refusal"] for row in own if "refusal" in row))
        print(f"\n### {option}\n\n| model | " + " | ".join(map(titled, runtimes.items())) + " |")
        print("|---|" + "---|" * len(runtimes))
        cells = {(row["model"], row["runtime"]): cell(row, refusals) for row in own}
        for model in dict.fromkeys(row["model"] for row in own):
            print(f"| {model} | " + " | ".join(cells[model, name] for name in runtimes) + " |")
        print("".join(f"\n[{i}] {refusal}\n" for i, refusal in enumerate(refusals, 1)))


def titled(runtime):
    name, version = runtime
    return f"{re.sub(r'-[0-9.]+$', '', name)} {version}"


def cell(row, refusals):
    """What the table shows for one file in one runtime."""
    if "refusal" in row:
        return f"[{1 + refusals.index(row['refusal'])}]"
    if "difference" not in row:
        return "not installed"
    _, _, limit = OPTIONS[row["option"]]
    return row["difference"] if float(row["difference"]) <= limit else f"**{row['difference']}**"


def write_csv(rows, path):
    """Write the rows in one step, so that the file is always complete."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    with temporary.open("w", newline="") as file:
        columns = ("option", "model", "runtime", "version", "difference", "refusal")
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)


def main():
    args = parse_arguments()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        rows = measure(args, folder)
    show(rows)
    if args.csv:
        write_csv(rows, args.csv)


if __name__ == "__main__":
    main()
