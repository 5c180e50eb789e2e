"""Train one model in several processes, on one machine or many.

    # by hand: the same command in each process, with another --process-id
    python examples/train_distributed.py --coordinator 10.0.0.1:9911 --processes 2 --process-id 0
    # under SLURM, Open MPI or Kubernetes, JAX finds the processes: see examples/cluster/
    srun python examples/train_distributed.py --resume
    # each process trains on all of its devices, so one process can use several GPUs
    python examples/train_distributed.py --model-parallel 4     # each weight split over 4 devices
    python examples/train_distributed.py --fully-sharded        # each weight split over all devices

The script runs on JAX (`pip install -e ".[jax]"`, or `jax[cuda12]` for GPUs). --batch-size is the
batch size of all devices together: with the same value, the losses equal those of one device.
SIGTERM or Ctrl-C to one process saves a backup and ends all of them. If a process is lost, the
others end within a minute. Start all of them again with --resume, also with another number of
processes or devices. --output must be one folder on a file system that all processes read.

Process 0 writes what `keras-mixers train` writes. Then `keras-mixers export` writes model.onnx and
saved_model/, in processes on TensorFlow.
"""

import argparse
import os
import pathlib
import subprocess
import sys

from command_line import add_dtype, at_least, positive_float, start
from joining import joined

SCRIPT = "train_distributed.py"
DATASET = "digits, a folder of images, a CSV file, or a name in TFDS"
# These flags change neither the data nor the model nor the steps.
MAY_CHANGE = (
    "coordinator",
    "export",
    "fully_sharded",
    "model_parallel",
    "process_id",
    "processes",
    "wait",
)


def address(text):
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise argparse.ArgumentTypeError(f"must be host:port, not {text}")
    return text


def training_parser():
    """A parser with the flags of `keras-mixers train` that do not need TensorFlow."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--dataset", default="digits", help=DATASET)
    parser.add_argument(
        "--model",
        default="vit",
        help="a family (vit, mlp_mixer, conv_mixer), or the pattern of a hybrid, such as MMA or CM",
    )
    parser.add_argument("--image-size", type=int, default=16, help="height and width in pixels")
    parser.add_argument("--patch-size", type=int, default=4, help="height and width in pixels")
    parser.add_argument("--hidden-dim", type=int, default=64, help="width of a token")
    parser.add_argument(
        "--depth", type=int, default=4, help="number of blocks; a pattern ignores it"
    )
    parser.add_argument("--recipe", default="small", help="a name in km.recipes(), or a JSON file")
    parser.add_argument("--epochs", type=at_least(1), help="replaces the recipe's value")
    parser.add_argument("--batch-size", type=at_least(1), help="replaces the recipe's value")
    parser.add_argument("--learning-rate", type=positive_float, help="replaces the recipe's value")
    add_dtype(parser)
    parser.add_argument("--seed", type=at_least(0), default=0, help="seed of all random numbers")
    parser.add_argument("--output", type=pathlib.Path, default="out", help="output folder")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="resume from the backup in --output")
    again.add_argument("--overwrite", action="store_true", help="replace the run in --output")
    long = parser.add_argument_group("long training runs")
    long.add_argument(
        "--save-every",
        type=at_least(1),
        metavar="STEPS",
        help="save a backup every STEPS steps, and not only at the end of each epoch",
    )
    long.add_argument(
        "--gradient-checkpointing",
        action="store_true",
        help="recompute activations in the backward pass: less memory, more time",
    )
    long.add_argument("--no-export", dest="export", action="store_false", help="skip the export")
    return parser


def parse_arguments():
    parser = training_parser()
    group = parser.add_argument_group("processes and devices")
    group.add_argument("--coordinator", type=address, help="host:port of process 0")
    group.add_argument("--processes", type=at_least(1), help="number of processes")
    group.add_argument("--process-id", type=at_least(0), help="number of this process, from 0")
    group.add_argument(
        "--wait", type=at_least(1), default=300, help="seconds until all processes have started"
    )
    group.add_argument(
        "--model-parallel", type=at_least(1), default=1, help="devices that share each weight"
    )
    group.add_argument(
        "--fully-sharded", action="store_true", help="share weights and optimizer among all devices"
    )
    args = parser.parse_args()
    if (args.processes or 1) > 1 and None in (args.coordinator, args.process_id):
        parser.error("--processes needs --coordinator and --process-id")
    if args.processes is None and (args.coordinator or args.process_id is not None):
        parser.error("--coordinator and --process-id need --processes")
    if args.processes is not None and (args.process_id or 0) >= args.processes:
        parser.error(
            "--process-id must be from 0 to one less than --processes. Received:"
            f" {args.process_id} of {args.processes}"
        )
    return args


if __name__ == "__main__":
    os.environ["KERAS_BACKEND"] = "jax"
    start(parse_arguments)

import contextlib
import json

import jax
import keras

import keras_mixers as km
from keras_mixers.commands.build import build, find_recipe
from keras_mixers.commands.folders import (
    describe_data,
    locked,
    print_content,
    save_figure,
    save_model,
)
from keras_mixers.commands.record import (
    BACKUP,
    check_same_run,
    find_backup,
    fixed_flags,
    new_backup,
    open_backup,
    read_run,
    short_errors,
)
from keras_mixers.files import write_text
from keras_mixers.training import processes


def find_distribution(args, recipe):
    """`(distribution, layouts)`: how batches and weights are divided among all devices.

    The layouts are None for weights that are whole on each device, and empty until `add_layouts`.
    """
    devices = keras.distribution.list_devices()
    if len(devices) % args.model_parallel:
        raise ValueError(
            f"--model-parallel must divide the number of devices, {len(devices)}. Received:"
            f" {args.model_parallel}"
        )
    # Each process reads its own part of a batch, so Keras need not divide the dataset.
    if args.model_parallel == 1 and not args.fully_sharded:
        layouts = None
        distribution = keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
    else:
        shape = (len(devices) // args.model_parallel, args.model_parallel)
        mesh = keras.distribution.DeviceMesh(shape, ("batch", "model"), devices)
        layouts = keras.distribution.LayoutMap(mesh)
        distribution = keras.distribution.ModelParallel(
            layout_map=layouts, auto_shard_dataset=False
        )
    if recipe.batch_size % distribution.num_model_replicas:
        raise ValueError(
            f"--batch-size must be a multiple of {distribution.num_model_replicas}, the number of"
            f" devices that divide a batch. Received: {recipe.batch_size}"
        )
    return distribution, layouts


def add_layouts(args, layouts, build_model):
    """Add the layout of each weight of the model that a function builds."""
    found = km.training.layout_map(
        layouts.device_mesh,
        build_model,
        model_axis="model" if args.model_parallel > 1 else None,
        fsdp_axis="batch" if args.fully_sharded else None,
    )
    for path, layout in found.items():
        layouts[path] = layout


def whole_batches(dataset, sizes, info):
    """Validation batches of one size, because each device needs an equal part of a batch.

    The images that fill the last batch have no label, so the accuracy leaves them out. The weights
    leave them out of the loss, whose mean would otherwise include them.

    Args:
        dataset: the part of each batch that this process reads.
        sizes: (size of the part of a whole batch, images in all batches of all processes).
        info: the `Info` of the dataset.
    """
    import tensorflow as tf

    size, filled = sizes
    weight = filled / info.num_validation

    def fill(images, labels):
        missing = size - tf.shape(images)[0]
        batch = images, tf.one_hot(labels, info.num_classes), tf.fill(tf.shape(labels), weight)
        return tuple(
            tf.ensure_shape(
                tf.pad(array, [[0, missing], *[[0, 0]] * (len(array.shape) - 1)]),
                (size, *array.shape[1:]),
            )
            for array in batch
        )

    count = len(dataset)  # the part of this process in the last batch may be no images at all
    empty = [tf.zeros([0, *spec.shape[1:]], spec.dtype) for spec in dataset.element_spec]
    empty = tf.data.Dataset.from_tensors(tuple(empty)).repeat()
    filled_batches = dataset.concatenate(empty).map(fill).take(count)
    return filled_batches.apply(tf.data.experimental.assert_cardinality(count))


class SwapWeights(keras.callbacks.SwapEMAWeights):
    """Keras's callback, which cannot read weights that are on the devices of several processes."""

    def _backend_swap_variables(self, optimizer):
        pairs = zip(
            optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True
        )
        for weight, average in pairs:
            before = weight.value
            weight.assign(average.value)
            average.assign(before)


def record(args, recipe, info, resumes):
    """Write flags.json and recipe.json; raise a ValueError if the resumed run had other ones."""
    run = {
        "flags": fixed_flags(args, *MAY_CHANGE),
        "recipe": json.loads(str(recipe)),
        "data": describe_data(args, info),
    }
    if resumes:
        check_same_run(args, read_run(args), **run)
    write_text(args.output / "flags.json", json.dumps(run, indent=2) + "\n")
    recipe.save(args.output / "recipe.json")


def prepare(args, recipe):
    """`(model, batches, test, backup)` in a distribution, from the beginning or the backup."""
    distribution, layouts = find_distribution(args, recipe)
    parts = min(distribution.num_model_replicas, distribution.num_processes)
    found = processes.first(lambda: find_backup(args))
    resumes = bool(processes.highest(int(found is not None)))  # the first process has found it
    backup = open_backup(args) if resumes else None

    def load():
        return km.data.load(
            args.dataset,
            image_size=args.image_size,
            batch_size=recipe.batch_size,
            augmentation=recipe.augmentation,
            drop_remainder=True,  # because each device needs an equal part of a batch
            seed=args.seed,
            start=(backup.epoch, backup.batch) if resumes else (0, 0),
            shard=(distribution.data_shard_id, parts),
        )

    # One process prepares the dataset first, because several would disturb each other.
    batches, test, info = processes.first(load) or load()
    if layouts is not None:
        add_layouts(args, layouts, lambda: build(args, recipe, info))
    keras.utils.set_random_seed(args.seed)  # so that all processes start with the same weights
    keras.distribution.set_distribution(distribution)
    model = build(args, recipe, info)
    model.set_info(info)  # the file of the model then has the preprocessing and the names
    recipe.compile(model, len(batches))
    processes.first(lambda: record(args, recipe, info, resumes))
    backup = backup or processes.together(lambda: new_backup(args))
    sizes = recipe.batch_size // parts, len(test) * recipe.batch_size
    return model, batches, whole_batches(test, sizes, info), backup


def train(args, recipe):
    """Train in this process and the others; the first process writes the files."""
    first = processes.is_first()
    model, batches, test, backup = prepare(args, recipe)
    callbacks = [backup] if recipe.ema_decay is None else [backup, SwapWeights()]
    with short_errors(SCRIPT, backup):
        model.fit(
            batches,
            validation_data=test,
            epochs=recipe.epochs,
            initial_epoch=backup.epoch,
            shuffle=False,
            verbose=2 if first else 0,
            callbacks=callbacks,
        )
    losses = " ".join(f"{loss:.6f}" for loss in backup.history["loss"])
    print(f"Process {jax.process_index()} of {jax.process_count()}, losses: {losses}", flush=True)
    with processes.whole_values([*model.variables, *model.optimizer.variables]):
        processes.first(lambda: save(args, recipe, model, backup))


def save(args, recipe, model, backup):
    """Write model.keras and history.png."""
    # The last epoch's weights, or their moving average, are those of the model.
    metric = "average_precision" if recipe.multi_label else "accuracy"
    print(f"Test {metric.replace('_', ' ')}: {backup.history[f'val_{metric}'][-1]:.2%}")
    save_model(model, args.output / "model.keras")
    save_figure(km.visualize.plot_history(backup.history), args.output / "history.png", dpi=120)


def export(args):
    """Run `keras-mixers export` on TensorFlow, without GPUs, whose memory JAX has taken."""
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}
    for file in ("model.onnx", "saved_model"):
        paths = [str(args.output / "model.keras"), str(args.output / file)]
        command = [sys.executable, "-m", "keras_mixers", "export", *paths]
        if subprocess.run(command, env=environment, check=False).returncode:
            raise SystemExit(
                f"{SCRIPT}: the export has failed. To repeat it, set KERAS_BACKEND=tensorflow and"
                f" run {' '.join(command)}"
            )


def finish(args):
    """Export the model, and delete the backup, because this run is finished."""
    with locked(args.output):
        if args.export:
            export(args)
        (args.output / BACKUP).unlink(missing_ok=True)
        print_content(args.output)


def main():
    args = parse_arguments()
    try:
        recipe = find_recipe(args)
        with joined(SCRIPT, args.coordinator, args.processes, args.process_id, args.wait):
            first = processes.is_first()
            with contextlib.ExitStack() as held:
                processes.first(lambda: held.enter_context(locked(args.output)))
                train(args, recipe)
        if first:
            finish(args)
    except (ValueError, TypeError, OSError) as error:
        raise SystemExit(f"{SCRIPT}: {error}") from None


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(f"\n{SCRIPT}: interrupted; no more files are written") from None
