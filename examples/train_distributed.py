"""One model trained by several processes, on one machine or many, each with a share of every batch.

    python examples/train_distributed.py --coordinator 10.0.0.1:9911 --processes 2 --process-id 0
    python examples/train_distributed.py --coordinator 10.0.0.1:9911 --processes 2 --process-id 1

Each process is started by hand or by the cluster's scheduler, with the same flags but for its id;
process 0 listens at the coordinator's address. It runs on JAX (`pip install -e ".[jax]"`, or
`jax[cuda12]` for GPUs). With the same batch, which is that of all processes together, the losses
are those of one process. Process 0 writes model.keras into the output folder, and TensorFlow
exports it:

    python examples/deploy.py export out/model.keras
"""

import argparse
import os
import pathlib

os.environ["KERAS_BACKEND"] = "jax"

import keras

import keras_mixers as km


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--coordinator", default="127.0.0.1:9911", help="address of process 0")
    parser.add_argument("--processes", type=int, default=1, help="how many there are")
    parser.add_argument("--process-id", type=int, default=0, help="which this is, from 0")
    parser.add_argument("--dataset", default="digits", help="digits, a name in TFDS, or a folder")
    parser.add_argument("--pattern", default="MMA", help="of the hybrid, one letter a block")
    parser.add_argument("--image-size", type=int, default=16, help="pixels to resize to")
    parser.add_argument("--patch-size", type=int, default=4, help="pixels")
    parser.add_argument("--hidden-dim", type=int, default=64, help="width of a token")
    parser.add_argument("--epochs", type=int, default=10, help="passes over the images")
    parser.add_argument("--batch-size", type=int, default=64, help="images of a step, all together")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and draws")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("out"), help="folder")
    return parser.parse_args()


def main():
    args = parse_arguments()
    if not 0 <= args.process_id < args.processes:
        raise SystemExit(
            "train_distributed.py: --process-id must be from 0 to one less than --processes."
            f" Received: {args.process_id} of {args.processes}"
        )
    if args.processes > 1:  # before anything else asks JAX for its devices
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
            drop_remainder=True,  # batches that can be shared out evenly
            seed=args.seed,
        )
        keras.utils.set_random_seed(args.seed)  # the same weights in every process
        model = km.Hybrid(
            args.pattern,
            input_shape=info.input_shape,
            num_classes=info.num_classes,
            patch_size=args.patch_size,
            hidden_dim=args.hidden_dim,
        )
        recipe.compile(model, len(train))
    except (ValueError, TypeError, OSError) as error:  # a flag that will not do, and why
        raise SystemExit(f"train_distributed.py: {error}") from None

    first = args.process_id == 0
    history = model.fit(train, epochs=recipe.epochs, shuffle=False, verbose=2 if first else 0)
    losses = " ".join(f"{loss:.6f}" for loss in history.history["loss"])
    print(f"Process {args.process_id} of {args.processes}, losses: {losses}", flush=True)
    if first:
        # Saving makes variables, and with a distribution would wait for the other processes.
        keras.distribution.set_distribution(None)
        args.output.mkdir(parents=True, exist_ok=True)
        model.save(args.output / "model.keras")
        print(f"Saved: {args.output / 'model.keras'}")


if __name__ == "__main__":
    main()
