"""Compare the time of a probe (attention maps of one layer) with a forward pass up to that layer.

    python examples/benchmark_probe.py                      # ViT-Ti/16, 8 images of 224 x 224
    python examples/benchmark_probe.py --variant S/16 --rounds 9

The script calls both in turn and eagerly, as a user does. Times are medians over the rounds. On 2
CPU cores, the column `ratio` was at most 1.1. The last line, `after`, is the time of a full forward
pass after all probes, divided by its time before them. A value near 1 shows that probing does not
slow the model down.
"""

import argparse
import pathlib
import time

from benchmark import show
from command_line import start


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--variant", default="Ti/16", help="variant of ViT")
    parser.add_argument("--batch", type=int, default=8, help="images in a batch")
    parser.add_argument(
        "--rounds", type=int, default=7, help="timed rounds, after one untimed round"
    )
    parser.add_argument("--csv", type=pathlib.Path, help="path of a CSV file to write")
    return parser.parse_args()


if __name__ == "__main__":
    start(parse_arguments)

import keras
import numpy as np

import keras_mixers as km


def seconds(functions, rounds):
    """The median time of each function in seconds; the functions are called in turn."""
    return np.median(times_in_turn(functions, rounds), axis=0)


def times_in_turn(functions, rounds, untimed=1):
    """The seconds of each function in each round, `(rounds, functions)`, after untimed rounds."""
    times = np.empty((untimed + rounds, len(functions)))
    for turn, i in np.ndindex(times.shape):
        start = time.perf_counter()
        functions[i]()
        times[turn, i] = time.perf_counter() - start
    return times[untimed:]


def main():
    args = parse_arguments()
    model = km.ViT(args.variant, num_classes=10)
    images = np.random.default_rng(0).normal(size=(args.batch, *model.input_shape[1:]))
    images = images.astype("float32")
    (before,) = seconds([lambda: np.array(model(images))], args.rounds)
    rows = []
    for name in km.attention_maps(model, images[:1]):
        up_to = keras.Model(model.input, model.get_layer(name).output)
        forward, probed = seconds(
            [
                lambda up_to=up_to: np.array(up_to(images)),
                lambda name=name: km.attention_maps(model, images, name),
            ],
            args.rounds,
        )
        rows.append(
            {
                "layer": name,
                "forward_ms": round(1000 * forward),
                "probed_ms": round(1000 * probed),
                "ratio": round(probed / forward, 2),
            }
        )
    (after,) = seconds([lambda: np.array(model(images))], args.rounds)
    show(rows, args.csv)
    print(f"after: {after / before:.2f}")


if __name__ == "__main__":
    main()
