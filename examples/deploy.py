"""From a trained model to answers where no Keras is: export it, then classify image files.

    python examples/train.py                                            # leaves out/model.keras
    python examples/deploy.py export out/model.keras --dataset digits   # leaves out/deploy/
    python examples/deploy.py onnx out/deploy/model.onnx out/deploy/images/*.png
    python examples/deploy.py saved_model out/deploy/saved_model out/deploy/images/*.png

Training and exporting need keras_mixers. The last two need onnxruntime (with NumPy and Pillow), or
TensorFlow, and nothing else: what an image must look like and what the classes are
called is in the files.
"""

import argparse
import json
import pathlib

SHOWN = 8  # images of the dataset that are written beside the exports


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    export = commands.add_parser("export", help="write model.onnx, int8.onnx and saved_model/")
    export.add_argument("model", type=pathlib.Path, help="a .keras file, as train.py leaves it")
    export.add_argument("--dataset", default="digits", help="what it was trained on")
    export.add_argument("--output", type=pathlib.Path, help="folder; deploy/ beside the model")
    for command in ("onnx", "saved_model"):
        classify = commands.add_parser(command, help=f"classify images by a {command} alone")
        classify.add_argument("file", type=pathlib.Path, help="what `export` left")
        classify.add_argument("images", type=pathlib.Path, nargs="+", help="PNG or JPEG files")
    return parser.parse_args()


def export(args):
    """Write all that a server needs, and some of the dataset's images to try it on."""
    import keras

    import keras_mixers as km

    try:
        model = keras.models.load_model(args.model)
        _, _, info = km.data.load(args.dataset, image_size=model.input_shape[1:3])
    except (ValueError, OSError) as error:
        raise SystemExit(f"deploy.py: {error}") from None
    folder = args.output or args.model.parent / "deploy"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    names = info.class_names
    shown = km.data.images(args.dataset).take(SHOWN)
    for i, (image, label) in enumerate(shown):
        keras.utils.save_img(
            folder / "images" / f"{i}-{names[label]}.png", image.numpy(), scale=False
        )

    serving = {"preprocessing": info.preprocessing, "class_names": names}
    print(km.export(model, folder / "model.onnx", **serving))
    seen = km.data.images(args.dataset, "train").batch(1)  # of any sizes
    calibration = {"quantize": "int8", "calibration_data": seen}
    print(km.export(model, folder / "int8.onnx", **calibration, **serving))
    print(km.export(model, folder / "saved_model", **serving))


def classify_by_onnx(file, paths):
    """Each image's classes by probability, from onnxruntime."""
    import numpy as np
    import onnxruntime
    from PIL import Image

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    said = session.get_modelmeta().custom_metadata_map
    if "preprocessing" not in said or "class_names" not in said:
        raise SystemExit(f"deploy.py: {file} takes no image files; `deploy.py export` makes one")
    channels = session.get_inputs()[0].shape[3]
    for path in paths:
        image = np.asarray(Image.open(path).convert("L" if channels == 1 else "RGB"))
        image = image.reshape(1, *image.shape[:2], channels)
        (probabilities,) = session.run(["probabilities"], {"images": image})
        yield path, json.loads(said["class_names"]), probabilities[0]


def classify_by_saved_model(folder, paths):
    """Each image's classes by probability, from TensorFlow; the file decodes the image itself."""
    import tensorflow as tf

    signatures = tf.saved_model.load(str(folder)).signatures
    if "serve_encoded" not in signatures:
        raise SystemExit(f"deploy.py: {folder} takes no image files; `deploy.py export` makes one")
    serve = signatures["serve_encoded"]
    said = json.loads((folder / "assets.extra" / "keras_mixers.json").read_text())
    for path in paths:
        answers = serve(encoded=tf.constant([path.read_bytes()]))
        yield path, said["class_names"], answers["probabilities"][0].numpy()


def main():
    args = parse_arguments()
    if args.command == "export":
        export(args)
        return
    classify = {"onnx": classify_by_onnx, "saved_model": classify_by_saved_model}[args.command]
    for missing in [path for path in (args.file, *args.images) if not path.exists()]:
        raise SystemExit(f"deploy.py: there is no {missing}")
    for path, names, probabilities in classify(args.file, args.images):
        best = probabilities.argsort()[::-1][:3]
        print(f"{path}:", ", ".join(f"{names[i]} {probabilities[i]:.1%}" for i in best))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("\ndeploy.py: interrupted") from None
