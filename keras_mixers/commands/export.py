"""Export a model to ONNX, TensorFlow Lite, a SavedModel or a web page, and compare the outputs.

The file contains the preprocessing and the class names that the model knows.

Examples:
  keras-mixers export out/model.keras model.onnx
  keras-mixers export out/model.keras int8.onnx --quantize int8 --calibration digits
  keras-mixers export out/model.keras models/digits --serving-version 1 --top 5
"""

from keras_mixers.commands.flags import DATASET, MODEL, at_least, load_dataset, load_model

# Flags that have the names and the values of arguments of `km.export`.
SAME = ("format", "target", "dtype", "quantize", "attention_maps", "batch", "top", "runtime")


def add_flags(parser):
    """Add the flags of this command."""
    parser.add_argument("model", help=MODEL)
    parser.add_argument("path", help="a .onnx or .tflite file, or a folder for a SavedModel")
    parser.add_argument(
        "--format",
        choices=("onnx", "tflite", "saved_model", "web"),
        help="the format, if PATH does not tell it; web: a folder with a page",
    )
    parser.add_argument(
        "--preprocessing",
        default="model",
        choices=("model", "none", "outside"),
        help="model: in the file; outside: as code next to the file",
    )
    parser.add_argument(
        "--quantize", choices=("int8", "float16"), help="store the weights in fewer bits"
    )
    parser.add_argument(
        "--calibration",
        metavar="DATASET",
        dest="dataset",
        help=f"for int8, training images that give the ranges: {DATASET}",
    )
    parser.add_argument(
        "--dtype", default="float32", choices=("float32", "float16"), help="computed in this dtype"
    )
    parser.add_argument(
        "--target",
        default="onnx",
        choices=("onnx", "onnxruntime"),
        help="onnxruntime: with its own operators, which are faster there",
    )
    parser.add_argument(
        "--attention-maps", action="store_true", help="add the attention as outputs"
    )
    parser.add_argument("--batch", type=at_least(1), help="the only size of a batch")
    parser.add_argument(
        "--serving-version",
        type=at_least(1),
        help="PATH is the folder of a model on a server, which gets this version",
    )
    parser.add_argument(
        "--top", type=at_least(1), help="a SavedModel names so many classes of an image file"
    )
    parser.add_argument("--runtime", help="for web: folder or address of onnxruntime-web")


def run(args):
    """Write the file, and print how far its outputs are from the model's."""
    import keras_mixers as km

    model = load_model(args.model)
    preprocessing = None if args.preprocessing == "none" else args.preprocessing
    report = km.export(
        model,
        args.path,
        preprocessing=preprocessing,
        version=args.serving_version,
        calibration_data=calibration_images(args, model) if args.dataset else None,
        **{name: getattr(args, name) for name in SAME},
    )
    print(report)


def calibration_images(args, model):
    """Training images as the file takes them: bytes of any size, or prepared."""
    import keras_mixers as km
    from keras_mixers.models.image_model import fact_of

    is_lite = args.format == "tflite" or args.path.endswith(".tflite")
    if args.preprocessing == "model" and fact_of(model, "preprocessing") and not is_lite:
        return km.data.images(args.dataset, "train").batch(1)  # because images may differ in size
    return load_dataset(args, model)[0]
