"""Export a trained model, then classify image files where Keras is not installed.

    python examples/train.py                                            # writes out/model.keras
    python examples/deploy.py export out/model.keras --dataset digits   # writes out/deploy/
    python examples/deploy.py onnx out/deploy/model.onnx out/deploy/images/*.png
    python examples/deploy.py saved_model out/deploy/saved_model out/deploy/images/*.png

The first two commands need keras_mixers. The last two need only onnxruntime (with NumPy and
Pillow), or only TensorFlow. The exported files contain the preprocessing and the class names.
The first command also prints the accuracy of model.onnx and int8.onnx on all validation images.
"""

import argparse
import json
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # hide TensorFlow's logs
SAMPLES = 8  # images of the dataset that `export` writes next to the exported files


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    export = commands.add_parser("export", help="write model.onnx, int8.onnx and saved_model/")
    export.add_argument("model", type=pathlib.Path, help="a .keras file that train.py wrote")
    export.add_argument("--dataset", default="digits", help="the dataset of the training")
    export.add_argument(
        "--output", type=pathlib.Path, help="folder; default: deploy/ next to the model"
    )
    for command in ("onnx", "saved_model"):
        classify = commands.add_parser(command, help=f"classify images with only a {command} file")
        classify.add_argument(
            "file", type=pathlib.Path, help="a file or folder that `export` wrote"
        )
        classify.add_argument("images", type=pathlib.Path, nargs="+", help="PNG or JPEG files")
    return parser.parse_args()


def export(args):
    """Write the files that a server needs, and some images of the dataset as examples."""
    import keras
    from command_line import locked  # here, because the other commands run without this package

    import keras_mixers as km

    folder = args.output or args.model.parent / "deploy"
    try:
        model = keras.models.load_model(args.model)
        _, _, info = km.data.load(args.dataset, image_size=model.input_shape[1:3])
        with locked(folder):
            write_samples(args.dataset, info.class_names, folder / "images")
            write_exports(model, args.dataset, info, folder)
    except (ValueError, OSError) as error:
        raise SystemExit(f"deploy.py: {error}") from None


def write_samples(dataset, class_names, folder):
    """Write some validation images as PNG files."""
    import keras

    import keras_mixers as km

    folder.mkdir(exist_ok=True)
    for i, (image, label) in enumerate(km.data.images(dataset).take(SAMPLES)):
        keras.utils.save_img(folder / f"{i}-{class_names[label]}.png", image.numpy(), scale=False)


def write_exports(model, dataset, info, folder):
    """Write model.onnx, int8.onnx and saved_model/."""
    import keras_mixers as km

    serving = {"preprocessing": info.preprocessing, "class_names": info.class_names}
    print(km.export(model, folder / "model.onnx", **serving))
    images = km.data.images(dataset, "train").batch(1)  # because images may differ in size
    calibration = {"quantize": "int8", "calibration_data": images}
    print(km.export(model, folder / "int8.onnx", **calibration, **serving))
    print(km.export(model, folder / "saved_model", **serving))
    for name in ("model.onnx", "int8.onnx"):
        print(f"Accuracy of {name}: {accuracy(folder / name, dataset):.2%}")


def accuracy(file, dataset):
    """The fraction of the validation images that an ONNX file classifies correctly."""
    import numpy as np
    import onnxruntime

    import keras_mixers as km

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    correct = [
        session.run(["logits"], {"images": image[None]})[0].argmax() == label
        for image, label in km.data.images(dataset).as_numpy_iterator()
    ]
    return np.mean(correct)


def classify_by_onnx(file, paths):
    """Yield `(path, class names, probabilities)` for each image, computed by onnxruntime."""
    import numpy as np
    import onnxruntime
    from PIL import Image

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    if "preprocessing" not in metadata or "class_names" not in metadata:
        raise SystemExit(
            f"deploy.py: {file} must contain preprocessing and class names;"
            " `deploy.py export` writes such a file"
        )
    channels = session.get_inputs()[0].shape[3]
    for path in paths:
        image = np.asarray(Image.open(path).convert("L" if channels == 1 else "RGB"))
        image = image.reshape(1, *image.shape[:2], channels)
        (probabilities,) = session.run(["probabilities"], {"images": image})
        yield path, json.loads(metadata["class_names"]), probabilities[0]


def classify_by_saved_model(folder, paths):
    """Yield `(path, class names, probabilities)` for each image, computed by TensorFlow."""
    import tensorflow as tf

    signatures = tf.saved_model.load(str(folder)).signatures
    if "serve_encoded" not in signatures:
        raise SystemExit(
            f"deploy.py: {folder} must have the signature serve_encoded;"
            " `deploy.py export` writes such a folder"
        )
    serve = signatures["serve_encoded"]
    metadata = json.loads((folder / "assets.extra" / "keras_mixers.json").read_text())
    for path in paths:
        outputs = serve(encoded=tf.constant([path.read_bytes()]))  # the SavedModel decodes images
        yield path, metadata["class_names"], outputs["probabilities"][0].numpy()


def main():
    args = parse_arguments()
    if args.command == "export":
        export(args)
        return
    classify = {"onnx": classify_by_onnx, "saved_model": classify_by_saved_model}[args.command]
    missing = [path for path in (args.file, *args.images) if not path.exists()]
    if missing:
        raise SystemExit(f"deploy.py: file not found: {missing[0]}")
    for path, names, probabilities in classify(args.file, args.images):
        best = probabilities.argsort()[::-1][:3]
        print(f"{path}:", ", ".join(f"{names[i]} {probabilities[i]:.1%}" for i in best))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("\ndeploy.py: interrupted") from None
