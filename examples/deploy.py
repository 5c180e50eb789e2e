"""Classify image files with an exported model where Keras is not installed.

    keras-mixers train digits                                   # writes out/model.keras
    keras-mixers export out/model.keras out/model.onnx
    keras-mixers export out/model.keras out/saved_model
    python examples/deploy.py out/model.onnx images/*.png
    python examples/deploy.py out/saved_model images/*.png

The script needs only onnxruntime (with NumPy and Pillow), or only TensorFlow. The exported files
contain the preprocessing and the class names.
"""

import argparse
import json
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # hide TensorFlow's logs


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=pathlib.Path, help="a .onnx file, or a SavedModel's folder")
    parser.add_argument("images", type=pathlib.Path, nargs="+", help="PNG or JPEG files")
    return parser.parse_args()


def classify_by_onnx(file, paths):
    """Yield `(path, class names, probabilities)` for each image, computed by onnxruntime."""
    import numpy as np
    import onnxruntime
    from PIL import Image, ImageOps

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    if "preprocessing" not in metadata or "class_names" not in metadata:
        raise SystemExit(
            f"deploy.py: {file} must contain preprocessing and class names;"
            " `keras-mixers export` writes such a file"
        )
    channels = session.get_inputs()[0].shape[3]
    for path in paths:
        try:
            image = ImageOps.exif_transpose(Image.open(path)).convert("RGBA")  # upright
        except OSError as error:
            raise SystemExit(f"deploy.py: {path} is not a readable image: {error}") from None
        white = Image.new("RGBA", image.size, "white")  # the background, as in training
        image = Image.alpha_composite(white, image).convert("L" if channels == 1 else "RGB")
        pixels = np.asarray(image).reshape(1, image.height, image.width, channels)
        (probabilities,) = session.run(["probabilities"], {"images": pixels})
        yield path, json.loads(metadata["class_names"]), probabilities[0]


def classify_by_saved_model(folder, paths):
    """Yield `(path, class names, probabilities)` for each image, computed by TensorFlow."""
    import tensorflow as tf

    signatures = tf.saved_model.load(str(folder)).signatures
    file = folder / "assets.extra" / "keras_mixers.json"
    metadata = json.loads(file.read_text()) if file.exists() else {}
    if "serve_encoded" not in signatures or "class_names" not in metadata:
        raise SystemExit(
            f"deploy.py: {folder} must have the signature serve_encoded and class names;"
            " `keras-mixers export` writes such a folder"
        )
    for path in paths:
        try:  # the SavedModel decodes images
            outputs = signatures["serve_encoded"](encoded=tf.constant([path.read_bytes()]))
        except (OSError, tf.errors.OpError) as error:
            text = str(error).splitlines()[0]
            raise SystemExit(f"deploy.py: {path} is not a readable image: {text}") from None
        yield path, metadata["class_names"], outputs["probabilities"][0].numpy()


def main():
    args = parse_arguments()
    missing = [path for path in (args.model, *args.images) if not path.exists()]
    if missing:
        raise SystemExit(f"deploy.py: file not found: {missing[0]}")
    classify = classify_by_saved_model if args.model.is_dir() else classify_by_onnx
    for path, names, probabilities in classify(args.model, args.images):
        best = probabilities.argsort()[::-1][:3]
        print(f"{path}:", ", ".join(f"{names[i]} {probabilities[i]:.1%}" for i in best))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("\ndeploy.py: interrupted") from None
