"""Compare the time of attention with rotary positions to the same attention without them.

    python examples/benchmark_rotary.py                     # 4 layers of DINOv3-S/16's attention
    python examples/benchmark_rotary.py --hidden-dim 768 --heads 12 --batch 4 --rounds 15

The model embeds the patches of images of 224 x 224 pixels and has only attention layers after that.
Each row of the table is one task: a training step, inference in Keras, and inference of the ONNX
file in onnxruntime, for both targets of km.export. The columns are the time without rotary
positions, and the ratios of the times with them: for pairs of channels half a head apart (DINOv3)
and for neighbouring ones (EVA-02). Each round times the three models in turn. A ratio is the median
of the ratios within a round.
"""

import argparse
import pathlib
import tempfile

from benchmark import show
from command_line import start


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--hidden-dim", type=int, default=384, help="width of a token")
    parser.add_argument("--heads", type=int, default=6, help="number of heads")
    parser.add_argument("--depth", type=int, default=4, help="number of attention layers")
    parser.add_argument("--batch", type=int, default=8, help="images in a batch")
    parser.add_argument("--rounds", type=int, default=11, help="timed rounds, after two untimed")
    parser.add_argument("--csv", type=pathlib.Path, help="path of a CSV file to write")
    return parser.parse_args()


if __name__ == "__main__":
    start(parse_arguments)

import keras
import numpy as np
import onnxruntime
from benchmark_probe import times_in_turn

import keras_mixers as km
from keras_mixers import layers

KINDS = {
    "none": None,
    "halves": layers.Rotary(),
    "neighbours": layers.Rotary("index", base=10_000, reference=16, interleaved=True),
}
REGISTERS = 5


def attention_model(args, rotary):
    """Patches and registers, and attention layers without MLPs: `(N, 224, 224, 3) -> (N, T, D)`."""
    images = keras.Input((224, 224, 3))
    x = layers.PatchEmbed(args.hidden_dim, 16, name="patch_embed")(images)
    x = layers.PrefixTokens(False, num_registers=REGISTERS, name="registers")(x)
    place = {"rotary": rotary, "grid": 14, "num_prefix": REGISTERS} if rotary else {}
    for i in range(args.depth):
        x = layers.MultiHeadSelfAttention(args.heads, **place, name=f"attention_{i}")(x)
    return keras.Model(images, x)


def training(model, images, folder):
    """A function that trains for one step."""
    model.compile("sgd", "mse")
    tokens = np.zeros((len(images), *model.output_shape[1:]), "float32")
    return lambda: model.train_on_batch(images, tokens)


def inference(model, images, folder):
    """A function that predicts one batch."""
    return lambda: model.predict_on_batch(images)


def in_onnxruntime(target):
    """The task of running the file of km.export for a target."""

    def task(model, images, folder):
        path = folder / f"{model.name}-{target}.onnx"
        km.export(model, path, target=target)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (name,) = (each.name for each in session.get_inputs())
        return lambda: session.run(None, {name: images})

    return task


TASKS = {
    "training": training,
    "inference": inference,
    "onnx": in_onnxruntime("onnx"),
    "onnx for onnxruntime": in_onnxruntime("onnxruntime"),
}


def main():
    args = parse_arguments()
    images = np.random.default_rng(0).normal(size=(args.batch, 224, 224, 3)).astype("float32")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, task in TASKS.items():
            models = [attention_model(args, rotary) for rotary in KINDS.values()]
            functions = [task(model, images, pathlib.Path(folder)) for model in models]
            times = times_in_turn(functions, args.rounds, untimed=2)
            ratios = np.median(times / times[:, :1], axis=0)
            row = {"task": name, "ms_without": round(1000 * np.median(times[:, 0]), 1)}
            rows.append(row | dict(zip(list(KINDS)[1:], np.round(ratios[1:], 2), strict=True)))
    print("milliseconds without rotary positions, and the ratios of the times with them")
    show(rows, args.csv)


if __name__ == "__main__":
    main()
