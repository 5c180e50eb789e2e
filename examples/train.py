"""Train a model on a dataset, save it, export it, and run the exported files.

    python examples/train.py                        # a small ViT on the bundled digits
    python examples/train.py --model mlp_mixer      # or conv_mixer, or a hybrid pattern: MMA, CM
    python examples/train.py --dataset cifar10 --recipe "small natural" --image-size 32 \\
        --hidden-dim 192 --depth 6                  # any TFDS name; TFDS downloads this dataset
    python examples/train.py --resume               # resumes after Ctrl-C, a kill or a power cut

The script writes model.keras, history.png, recipe.json, flags.json, model.onnx and saved_model/
into the output folder. The two exports contain the preprocessing and the class names, so they take
images as bytes and return probabilities. On 2 CPU cores, training on the digits takes a minute and
a half and reaches 98 % test accuracy.
"""

import contextlib
import json

from command_line import (
    describe_data,
    locked,
    print_content,
    save_figure,
    save_model,
    start,
)
from training_run import (
    build,
    check_same_run,
    find_backup,
    find_recipe,
    fixed_flags,
    read_run,
    short_errors,
    training_parser,
)

COMPARED = 16  # test images on which the exported files are compared with the model


def parse_arguments():
    parser, long = training_parser(__doc__.split("\n")[0])
    long.add_argument(
        "--deterministic", action="store_true", help="compute equal results in each run"
    )
    long.add_argument("--mirrored", action="store_true", help="use all GPUs of this machine")
    long.add_argument("--tensorboard", action="store_true", help="write TensorBoard logs to logs/")
    return parser.parse_args()


if __name__ == "__main__":
    start(parse_arguments)

import keras
import numpy as np

import keras_mixers as km
from keras_mixers.files import write_text


def largest_difference(model, info, images, folder):
    """Run both exported files in their runtimes, and compare the results with the model.

    The images are bytes, as a camera or a file gives them.
    """
    import onnxruntime
    import tensorflow as tf

    session = onnxruntime.InferenceSession(folder / "model.onnx")
    loaded = tf.saved_model.load(str(folder / "saved_model"))
    serve = loaded.signatures["serving_default"]
    largest = {"onnxruntime": 0.0, "SavedModel": 0.0}
    for image in images:
        batch = image[None]
        expected = np.asarray(model(info.preprocessing(batch), training=False))
        results = {
            "onnxruntime": session.run(["logits"], {"images": batch})[0],
            "SavedModel": serve(images=tf.constant(batch))["logits"],
        }
        for runtime, result in results.items():
            difference = np.abs(np.asarray(result) - expected).max()
            largest[runtime] = max(largest[runtime], difference)
    return largest


def fit(args, recipe, model, train, test, backup):
    """Train from the position of the backup; return losses and accuracies of all epochs."""
    callbacks = [backup]
    if recipe.ema_decay is not None:
        callbacks.append(keras.callbacks.SwapEMAWeights())
    if args.tensorboard:
        callbacks.append(keras.callbacks.TensorBoard(args.output / "logs"))
    # `shuffle=False`, because the pipeline shuffles.
    model.fit(
        train,
        validation_data=test,
        epochs=recipe.epochs,
        initial_epoch=backup.epoch,
        shuffle=False,
        callbacks=callbacks,
    )
    return backup.history


def train(args, devices):
    """Train from the beginning or from the backup: `(model, info, backup)`."""
    try:
        recipe = find_recipe(args)
        backup = find_backup(args)
        run = {"flags": fixed_flags(args), "recipe": json.loads(str(recipe))}
        before = read_run(args) if backup.path.exists() else None
        if before:
            check_same_run(args, before, **run)
        batches, test, info = km.data.load(
            args.dataset,
            image_size=args.image_size,
            batch_size=recipe.batch_size,
            augmentation=recipe.augmentation,
            drop_remainder=args.mirrored,  # because each device needs an equal part of a batch
            seed=args.seed,
            start=(backup.epoch, backup.batch),
        )
        run["data"] = describe_data(args, info)
        if before:
            check_same_run(args, before, data=run["data"])
        # Set the seed after loading, because preparing the data also uses random numbers.
        keras.utils.set_random_seed(args.seed)
        with devices():
            model = build(args, recipe, info)
            model.set_info(info)  # the file of the model then has the preprocessing and the names
            recipe.compile(model, len(batches))
        write_text(args.output / "flags.json", json.dumps(run, indent=2) + "\n")
        recipe.save(args.output / "recipe.json")
    except (ValueError, TypeError, OSError) as error:  # an invalid flag
        raise SystemExit(f"train.py: {error}") from None
    model.summary()
    with short_errors("train.py", backup):
        history = fit(args, recipe, model, batches, test, backup)
    _, accuracy = model.evaluate(test, verbose=0)
    print(f"Test accuracy: {accuracy:.2%}")
    save_model(model, args.output / "model.keras")
    save_figure(km.visualize.plot_history(history), args.output / "history.png", dpi=120)
    return model, info, backup


def export(args, model, info):
    """Write the files that a server needs, and run them on a few images."""
    print(km.export(model, args.output / "model.onnx"))
    print(km.export(model, args.output / "saved_model"))
    images = [image.numpy() for image, _ in km.data.images(args.dataset).take(COMPARED)]
    for runtime, difference in largest_difference(model, info, images, args.output).items():
        what = f"Largest difference of {runtime} in float32 from the {args.dtype} model"
        print(f"{what}, on {len(images)} test images: {difference:.1e}")


def main():
    args = parse_arguments()
    if keras.backend.backend() != "tensorflow":  # checked before the training, not after it
        raise SystemExit("train.py: the export needs TensorFlow: set KERAS_BACKEND=tensorflow")
    import tensorflow as tf

    if args.deterministic:
        tf.config.experimental.enable_op_determinism()
    devices = tf.distribute.MirroredStrategy().scope if args.mirrored else contextlib.nullcontext
    try:
        with locked(args.output):
            model, info, backup = train(args, devices)
            export(args, model, info)
            backup.path.unlink(missing_ok=True)  # because this run is finished
            print_content(args.output)
    except (ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"train.py: {error}") from None


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("\ntrain.py: interrupted; no more files are written") from None
