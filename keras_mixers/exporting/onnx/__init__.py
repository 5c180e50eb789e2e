"""ONNX: one file for onnxruntime and other runtimes, converted by tf2onnx."""

import json

from keras_mixers.exporting.onnx.conversion import convert
from keras_mixers.exporting.onnx.description import describe
from keras_mixers.exporting.onnx.file import remove_stale_weights, write
from keras_mixers.exporting.onnx.operators import OPSET, check_operators
from keras_mixers.exporting.onnx.quantize import reduce_precision
from keras_mixers.exporting.onnx.sensitivity import sensitivity

FORMAT = "onnx"
SUFFIX = ".onnx"
TARGETS = ("onnx", "onnxruntime")
REFUSES = {
    ("dtype", "preprocessing"): (
        "quantize='float16' stores the weights in half precision, and preprocessing stays exact"
        " in float32; or prepare the images first, with preprocessing=None"
    )
}


def save(serving, path, progress):
    """Write and check the file; return its opset and its number of nodes."""
    from keras_mixers.exporting.onnx.passes.dimensions import name_dimensions

    model = convert(serving, progress)
    details = {}
    if serving.precision != "float32":
        progress(f"reducing to {serving.precision}")
        model, details = reduce_precision(model, serving, path.parent)
        check_operators(model.graph, serving.target)
    if serving.sensitivity:
        details["sensitivity"] = sensitivity(serving, path.parent, progress)
    name_dimensions(model, serving.images.shape)
    describe(model, serving)
    for key, value in serving.metadata.items():
        text = value if isinstance(value, str) else json.dumps(value)
        model.metadata_props.add(key=key, value=text)
    progress("writing and checking")
    details = {"opset": OPSET, "nodes": len(model.graph.node), **details}
    write(model, path)
    return details


def load(path):
    """Open the file in onnxruntime, as a function `images -> {name: output}`."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(images):
        return dict(zip(names, session.run(names, {"images": images}), strict=True))

    return run


def finish(path):
    """Remove the second files, with weights, that only the replaced file used."""
    remove_stale_weights(path.resolve())  # because a link's own folder has none of them
