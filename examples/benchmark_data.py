"""Whether data keep up with training: images a second, waiting within and between epochs.

    python examples/benchmark_data.py                       # the digits, as 32 x 32 colour images
    python examples/benchmark_data.py --dataset cifar10     # any TFDS name, downloaded

A pipeline's own speed is that of a whole pass with nothing else to do. `waiting` is the share of an
epoch's time for which a step waited for its batch; `between_s` is the time from an epoch's last
step to the next one's first, without validation, the longest of all epochs.
"""

import argparse
import pathlib
import time

import keras
import numpy as np
from benchmark import show

import keras_mixers as km

PIPELINES = {
    "none": km.data.Augmentation(),
    "small": km.recipes()["small"].augmentation,
    "DeiT's, no crop": km.data.Augmentation(
        flip=True, rand_augment=(2, 9), erasing=0.25, mixup=0.8, cutmix=1.0
    ),
    "DeiT's": km.recipes()["DeiT"].augmentation,
}


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--dataset", default="digits", help="digits, a name in TFDS, or a folder")
    parser.add_argument("--image-size", type=int, default=32, help="pixels")
    parser.add_argument("--batch", type=int, default=64, help="images a step")
    parser.add_argument("--epochs", type=int, default=4, help="timed, each after a first one")
    parser.add_argument("--csv", type=pathlib.Path, help="file for the table")
    return parser.parse_args()


def load(args, augmentation):
    colour = km.Preprocessing(args.image_size, 1.0, "bilinear", (0.5,) * 3, (0.5,) * 3)
    return km.data.load(
        args.dataset, batch_size=args.batch, preprocessing=colour, augmentation=augmentation
    )


def images_a_second(train, epochs):
    """The median of whole passes, the first left out: it fills the cache."""
    speeds = []
    for _ in range(epochs + 1):
        begin = time.perf_counter()
        count = sum(len(images) for images, _ in train)
        speeds.append(count / (time.perf_counter() - begin))
    return float(np.median(speeds[1:]))


class Waiting(keras.callbacks.Callback):
    """When steps and epochs end."""

    def on_train_begin(self, logs=None):
        self.between, self.ended = [], None

    def on_train_batch_end(self, batch, logs=None):
        self.last = time.perf_counter()
        if self.ended is not None:
            self.between.append(self.last - self.ended)
            self.ended = None

    def on_epoch_end(self, epoch, logs=None):
        self.ended = self.last


def training(args, model, train):
    """(share of time spent waiting, longest pause between epochs less a step's time)."""
    km.Recipe(epochs=args.epochs).compile(model, len(train))
    waited = stepped = 0.0
    for epoch in range(args.epochs + 1):
        batches = iter(train)
        while True:
            begin = time.perf_counter()
            batch = next(batches, None)
            found = time.perf_counter()
            if batch is None:
                break
            model.train_on_batch(*batch)
            if epoch:  # the first compiles
                waited += found - begin
                stepped += time.perf_counter() - found
    clock = Waiting()
    model.fit(train, epochs=args.epochs + 1, shuffle=False, verbose=0, callbacks=[clock])
    step = stepped / (args.epochs * len(train))
    return waited / (waited + stepped), max(clock.between) - step


def main():
    args = parse_arguments()
    rows = []
    for name, augmentation in PIPELINES.items():
        train, _, info = load(args, augmentation)
        speed = images_a_second(train, args.epochs)
        size = {"input_shape": info.input_shape, "num_classes": info.num_classes}
        model = km.ViT("Ti/16", patch_size=4, depth=6, **size)
        waiting, between = training(args, model, train)
        rows.append(
            {
                "augmentation": name,
                "images_s": round(speed),
                "waiting": f"{waiting:.1%}",
                "between_s": round(between, 2),
            }
        )
    show(rows, args.csv)


if __name__ == "__main__":
    main()
