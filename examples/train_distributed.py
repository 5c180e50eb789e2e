"""Train one model in several processes, on one machine or many; each gets a part of every batch.

    python examples/train_distributed.py --coordinator 10.0.0.1:9911 --processes 2 --process-id 0
    python examples/train_distributed.py --coordinator 10.0.0.1:9911 --processes 2 --process-id 1

Start each process by hand or by the scheduler of a cluster, with the same flags except
--process-id. Process 0 listens at the coordinator's address. The script runs on JAX
(`pip install -e ".[jax]"`, or `jax[cuda12]` for GPUs). --batch-size is the batch size of all
processes together. With the same value, the losses equal those of one process. Process 0 writes
model.keras into the output folder. To export it with TensorFlow:

    python examples/deploy.py export out/model.keras
"""

import argparse
import contextlib
import os
import pathlib

from command_line import add_overwrite, locked, refuse_to_overwrite, save_model, start

os.environ["KERAS_BACKEND"] = "jax"


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--coordinator", default="127.0.0.1:9911", help="address of process 0")
    parser.add_argument("--processes", type=int, default=1, help="number of processes")
    parser.add_argument("--process-id", type=int, default=0, help="number of this process, from 0")
    parser.add_argument("--dataset", default="digits", help="digits, a TFDS name, or a folder")
    parser.add_argument(
        "--pattern", default="MMA", help="the hybrid's pattern, one letter per block"
    )
    parser.add_argument("--image-size", type=int, default=16, help="height and width in pixels")
    parser.add_argument("--patch-size", type=int, default=4, help="height and width in pixels")
    parser.add_argument("--hidden-dim", type=int, default=64, help="width of a token")
    parser.add_argument("--epochs", type=int, default=10, help="number of epochs")
    parser.add_argument("--batch-size", type=int, default=64, help="images per step, in total")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random numbers")
    parser.add_argument("--output", type=pathlib.Path, default="out", help="output folder")
    add_overwrite(parser)
    return parser.parse_args()


if __name__ == "__main__":
    start(parse_arguments)

import keras

import keras_mixers as km


def main():
    args = parse_arguments()
    if not 0 <= args.process_id < args.processes:
        raise SystemExit(
            "train_distributed.py: --process-id must be from 0 to one less than --processes."
            f" Received: {args.process_id} of {args.processes}"
        )
    try:
        # Only process 0 writes.
        with locked(args.output) if args.process_id == 0 else contextlib.nullcontext():
            train(args)
    except (ValueError, OSError) as error:
        raise SystemExit(f"train_distributed.py: {error}") from None


def train(args):
    """Train in this process and the others; process 0 writes model.keras."""
    first = args.process_id == 0
    if first:
        refuse_to_overwrite(args, "model.keras")
    if args.processes > 1:  # must come before the first use of JAX's devices
        keras.distribution.initialize(args.coordinator, args.processes, args.process_id)
    keras.distribution.set_distribution(keras.distribution.DataParallel())

    try:
        recipe = km.Recipe(
            epochs=args.epochs,
            batch_size=args.batch_size,
            learning_rate=2e-3,
            warmup_epochs=0.1 * args.epochs,
            clip_norm=1.0,
            augmentation=km.data.Augmentation(translation=0.1),
        )
        train, _, info = km.data.load(
            args.dataset,
            image_size=args.image_size,
            batch_size=recipe.batch_size,
            augmentation=recipe.augmentation,
            drop_remainder=True,  # because each process needs an equal part of a batch
            seed=args.seed,
        )
        keras.utils.set_random_seed(args.seed)  # so that all processes start with the same weights
        model = km.Hybrid(
            args.pattern,
            input_shape=info.input_shape,
            num_classes=info.num_classes,
            patch_size=args.patch_size,
            hidden_dim=args.hidden_dim,
        )
        recipe.compile(model, len(train))
    except (ValueError, TypeError, OSError) as error:  # an invalid flag
        raise SystemExit(f"train_distributed.py: {error}") from None

    history = model.fit(train, epochs=recipe.epochs, shuffle=False, verbose=2 if first else 0)
    losses = " ".join(f"{loss:.6f}" for loss in history.history["loss"])
    print(f"Process {args.process_id} of {args.processes}, losses: {losses}", flush=True)
    if first:
        # Saving creates variables. With a distribution, that would wait for the other processes.
        keras.distribution.set_distribution(None)
        save_model(model, args.output / "model.keras")
        print(f"Saved: {args.output / 'model.keras'}")


if __name__ == "__main__":
    main()
