"""Measure whether the data pipeline keeps up with training.

    python examples/benchmark_data.py                       # the digits, as 32 x 32 colour images
    python examples/benchmark_data.py --dataset cifar10     # any TFDS name; TFDS downloads it

The table has one row per augmentation:
- `images_s`: images per second of the pipeline without a model.
- `waiting`: fraction of the training time in which a step waits for its batch.
- `between_s`: longest time in seconds between the last step of an epoch and the first step of the
  next one, without validation.
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
    parser.add_argument("--dataset", default="digits", help="digits, a TFDS name, or a folder")
    parser.add_argument("--image-size", type=int, default=32, help="height and width in pixels")
    parser.add_argument("--batch", type=int, default=64, help="images per step")
    parser.add_argument("--epochs", type=int, default=4, help="timed epochs, after an untimed one")
    parser.add_argument("--csv", type=pathlib.Path, help="file for the table")
    return parser.parse_args()


if __name__ == "__main__":
    start(parse_arguments)

import keras
import numpy as np

import keras_mixers as km

PIPELINES = {
    "none": km.data.Augmentation(),
    "small": km.recipes()["small"].augmentation,
    "DeiT's, no crop": km.data.Augmentation(
        flip=True, rand_augment=(2, 9), erasing=0.25, mixup=0.8, cutmix=1.0
    ),
    "DeiT's": km.recipes()["DeiT"].augmentation,
}


def load(args, augmentation):
    rgb = km.Preprocessing(args.image_size, 1.0, "bilinear", (0.5,) * 3, (0.5,) * 3)
    return km.data.load(
        args.dataset, batch_size=args.batch, preprocessing=rgb, augmentation=augmentation
    )


def images_per_second(train, epochs):
    """The median speed of whole epochs, without the first, because that one fills the cache."""
    speeds = []
    for _ in range(epochs + 1):
        begin = time.perf_counter()
        count = sum(len(images) for images, _ in train)
        speeds.append(count / (time.perf_counter() - begin))
    return float(np.median(speeds[1:]))


class EpochGaps(keras.callbacks.Callback):
    """Record the time from the last step of an epoch to the end of the next epoch's first step."""

    def on_train_begin(self, logs=None):
        self.gaps, self.epoch_ended = [], None

    def on_train_batch_end(self, batch, logs=None):
        self.step_ended = time.perf_counter()
        if self.epoch_ended is not None:
            self.gaps.append(self.step_ended - self.epoch_ended)
            self.epoch_ended = None

    def on_epoch_end(self, epoch, logs=None):
        self.epoch_ended = self.step_ended


def training(args, model, train):
    """(fraction of the time spent waiting, longest gap between epochs minus the time of a step)."""
    km.Recipe(epochs=2 * (args.epochs + 1)).compile(model, len(train))
    waited = stepped = 0.0
    for epoch in range(args.epochs + 1):
        batches = iter(train)
        while True:
            begin = time.perf_counter()
            batch = next(batches, None)
            received = time.perf_counter()
            if batch is None:
                break
            model.train_on_batch(*batch)
            if epoch:  # the first epoch includes the compilation
                waited += received - begin
                stepped += time.perf_counter() - received
    recorder = EpochGaps()
    model.fit(train, epochs=args.epochs + 1, shuffle=False, verbose=0, callbacks=[recorder])
    step = stepped / (args.epochs * len(train))
    return waited / (waited + stepped), max(recorder.gaps) - step


def main():
    args = parse_arguments()
    rows = []
    for name, augmentation in PIPELINES.items():
        train, _, info = load(args, augmentation)
        speed = images_per_second(train, args.epochs)
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
