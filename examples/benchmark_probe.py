"""What looking inside costs: the attention of one layer, beside a plain forward pass up to it.

    python examples/benchmark_probe.py                      # ViT-Ti/16, 8 images of 224 x 224
    python examples/benchmark_probe.py --variant S/16 --rounds 9

Both are called as a user calls them, outside any graph, in turn; times are medians of the rounds.
`after` is a whole forward pass once the model has been probed, over one before: probing leaves it
as fast as it was.
"""

import argparse
import pathlib
import time

import keras
import numpy as np
from benchmark import show

import keras_mixers as km


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--variant", default="Ti/16", help="of ViT")
    parser.add_argument("--batch", type=int, default=8, help="images")
    parser.add_argument("--rounds", type=int, default=7, help="timed, after a first one")
    parser.add_argument("--csv", type=pathlib.Path, help="file for the table")
    return parser.parse_args()


def seconds(functions, rounds):
    """The median time of each function, called in turn."""
    times = np.empty((rounds + 1, len(functions)))
    for place in np.ndindex(times.shape):
        begin = time.perf_counter()
        functions[place[1]]()
        times[place] = time.perf_counter() - begin
    return np.median(times[1:], axis=0)


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
