"""From a dataset's name to a deployed file: train a model, save it, export it, run the exports.

    python examples/train.py                        # a small ViT on the bundled digits
    python examples/train.py --model mlp_mixer      # or conv_mixer, or a hybrid's pattern: MMA, CM
    python examples/train.py --dataset cifar10 --image-size 32 --patch-size 4 --hidden-dim 192 \\
        --depth 6 --epochs 30                       # any TFDS name; this one is downloaded

The output folder gets model.keras, history.png, model.onnx and saved_model/. On 2 CPU cores the
digits take about a minute and reach 98 to 99 % test accuracy.
"""

import argparse
import pathlib

import keras
import numpy as np

import keras_mixers as km

FAMILIES = ("vit", "mlp_mixer", "conv_mixer")


def at_least(lowest):
    def parse(text):
        number = int(text)
        if number < lowest:
            raise argparse.ArgumentTypeError(f"must be {lowest} or more, not {number}")
        return number

    parse.__name__ = "int"  # what argparse calls a value that is none
    return parse


def positive_float(text):
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a finite number above 0, not {text}")
    return number


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--dataset", default="digits", help="digits, or a name in TFDS")
    parser.add_argument(
        "--model",
        default="vit",
        help=f"a family ({', '.join(FAMILIES)}), or a hybrid's pattern such as MMA or CM",
    )
    parser.add_argument("--image-size", type=int, default=16, help="pixels to resize to")
    parser.add_argument("--patch-size", type=int, default=4, help="pixels")
    parser.add_argument("--hidden-dim", type=int, default=64, help="width of a token")
    parser.add_argument("--depth", type=int, default=4, help="blocks; a pattern spells its own")
    parser.add_argument("--epochs", type=at_least(1), default=50, help="passes over the images")
    parser.add_argument("--batch-size", type=at_least(1), default=64, help="images a step")
    parser.add_argument("--learning-rate", type=positive_float, default=2e-3, help="the highest")
    parser.add_argument("--seed", type=at_least(0), default=0, help="of weights and order")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("out"), help="folder")
    return parser.parse_args()


def build(args, input_shape, num_classes):
    """A family at the asked-for size, or the hybrid that a pattern spells."""
    size = {
        "input_shape": input_shape,
        "num_classes": num_classes,
        "patch_size": args.patch_size,
        "hidden_dim": args.hidden_dim,
    }
    if args.model == "vit":
        most = max(1, args.hidden_dim // 32)
        heads = next(h for h in range(most, 0, -1) if args.hidden_dim % h == 0)
        return km.ViT(
            "Ti/16", depth=args.depth, num_heads=heads, mlp_dim=2 * args.hidden_dim, **size
        )
    if args.model == "mlp_mixer":
        return km.MLPMixer(
            "S/16",
            depth=args.depth,
            tokens_mlp_dim=args.hidden_dim,
            channels_mlp_dim=2 * args.hidden_dim,
            **size,
        )
    if args.model == "conv_mixer":
        return km.ConvMixer("256/8-k5-p2", depth=args.depth, **size)
    if not set(args.model) <= set("AMCPG"):
        raise ValueError(
            f"--model must be {', '.join(FAMILIES)}, or a pattern of the letters A, M, C, P and G."
            f" Received: {args.model!r}"
        )
    return km.Hybrid(args.model, mlp_dim=2 * args.hidden_dim, **size)


def augment(dataset, seed):
    """Shift each training image by up to a tenth, anew in every epoch."""
    shift = keras.layers.RandomTranslation(0.1, 0.1, fill_mode="nearest", seed=seed)
    return dataset.map(lambda images, labels: (shift(images, training=True), labels))


def compile_model(model, steps, learning_rate):
    """AdamW, a tenth of the steps to warm up and a cosine down to zero."""
    warm_up = max(1, steps // 10)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warm_up, warmup_target=learning_rate, warmup_steps=warm_up
    )
    model.compile(
        keras.optimizers.AdamW(schedule, weight_decay=0.05, clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )


def plot(history, path):
    """Learning curves: loss and accuracy, in training and on the test images."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    epochs = np.arange(1, len(history.history["loss"]) + 1)
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        axes.plot(epochs, history.history[quantity], label="training")
        axes.plot(epochs, history.history[f"val_{quantity}"], label="test")
        axes.set(title=quantity.capitalize(), xlabel="epoch")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def largest_difference(model, images, folder):
    """Run both exports in their own runtimes, and compare with the model."""
    import onnxruntime
    import tensorflow as tf

    expected = np.asarray(model(images, training=False))
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    loaded = tf.saved_model.load(str(folder / "saved_model"))
    answers = {
        "onnxruntime": session.run(["logits"], {"images": images})[0],
        "SavedModel": loaded.signatures["serving_default"](images=tf.constant(images))["logits"],
    }
    return {name: np.abs(np.asarray(answer) - expected).max() for name, answer in answers.items()}


def main():
    args = parse_arguments()
    if keras.backend.backend() != "tensorflow":  # known now, rather than once it has trained
        raise SystemExit(
            "train.py: it exports, which TensorFlow does: set KERAS_BACKEND=tensorflow"
        )
    try:
        train, test, info = km.data.load(
            args.dataset, image_size=args.image_size, batch_size=args.batch_size, seed=args.seed
        )
        keras.utils.set_random_seed(args.seed)  # after loading: preparing data draws numbers too
        input_shape = tuple(train.element_spec[0].shape[1:])
        model = build(args, input_shape, info.features["label"].num_classes)
        args.output.mkdir(parents=True, exist_ok=True)
    except (ValueError, TypeError, OSError) as error:  # a flag that will not do, and why
        raise SystemExit(f"train.py: {error}") from None
    model.summary()
    compile_model(model, args.epochs * len(train), args.learning_rate)
    # The pipeline shuffles; `shuffle=False` says that fit need not.
    history = model.fit(
        augment(train, args.seed), validation_data=test, epochs=args.epochs, shuffle=False
    )
    _, accuracy = model.evaluate(test, verbose=0)
    print(f"Test accuracy: {accuracy:.2%}")

    model.save(args.output / "model.keras")
    plot(history, args.output / "history.png")
    print(km.export(model, args.output / "model.onnx"))
    print(km.export(model, args.output / "saved_model"))
    images = next(iter(test))[0].numpy()
    for runtime, difference in largest_difference(model, images, args.output).items():
        print(f"Largest difference in {runtime}, on {len(images)} test images: {difference:.1e}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("\ntrain.py: interrupted; nothing more is written") from None
