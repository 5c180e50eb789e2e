"""TensorFlow Lite: one file for phones and small devices."""

import collections
import contextlib
import json
import math
import warnings
import zipfile

import keras

from keras_mixers.exporting.labels import LABELS, lines_of
from keras_mixers.exporting.serving import batches_of
from keras_mixers.exporting.temporary_files import temporary_files_in

FORMAT = "tflite"
SUFFIX = ".tflite"
REFUSES = {
    "target": "a path that ends in '.onnx' supports it",
    "dtype": "quantize='float16' stores the weights in half precision",
    "keep_float": "a path that ends in '.onnx' supports it",
    "sensitivity": "a path that ends in '.onnx' supports it",
}


def save(serving, path, progress):
    """Convert the model with TensorFlow's converter and write the file."""
    import tensorflow as tf

    progress("converting")
    arrays = [(v, keras.ops.convert_to_numpy(v)) for v in serving.model.variables]

    @tf.function(input_signature=[serving.images], autograph=False)
    def serve(images):
        # Make the weights constants, because the interpreter does not initialize variables.
        weights = [(variable, tf.constant(array)) for variable, array in arrays]
        with keras.StatelessScope(state_mapping=weights):
            return serving(images)

    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [serve.get_concrete_function()], tf.Module()
    )
    if serving.quantize:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if serving.quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if serving.quantize == "int8" and serving.calibration:
        converter.representative_dataset = lambda: (
            [images]
            for batch in serving.calibration
            for images in batches_of(batch, serving.batch or 1)
        )
    try:
        with temporary_files_in(path.parent, "tensorflow.lite.python.lite"):
            calibrated = converter.representative_dataset is not None
            content = in_int8(converter) if calibrated else converter.convert()
    except Exception as error:  # because the converter's exception class is not public
        raise RuntimeError(
            "TensorFlow Lite cannot convert the model; nothing was written."
            f" The converter's message: {error}"
        ) from error
    path.write_bytes(content)
    append_metadata(path, serving.metadata)
    return {"quantized": quantized_fraction(content, serving.quantize)} if serving.quantize else {}


def in_int8(converter):
    """Convert with calibration. The products of two activations stay in float32.

    In int8 they make attention wrong by half of the norm of the outputs, and they hold no weights.
    """
    import tensorflow as tf

    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=["BATCH_MATMUL"])
    with interpreter_warning_silenced():
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=converter,
            debug_dataset=converter.representative_dataset,
            debug_options=options,
        )
    return debugger.get_nondebug_quantized_model()


@contextlib.contextmanager
def interpreter_warning_silenced():
    """Silence the warning that the interpreter will move to another package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def append_metadata(path, metadata):
    """Append a zip archive with the metadata and the class names, which interpreters ignore.

    This is how TensorFlow Lite's metadata stores files: `zipfile.ZipFile(path)` reads them.
    """
    content = {"keras_mixers.json": json.dumps(metadata, indent=2)}
    if "class_names" in metadata:
        content[LABELS] = lines_of(metadata["class_names"])
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in content.items():
            archive.writestr(zipfile.ZipInfo(name), text)  # with a date that is always the same


def quantized_fraction(content, precision):
    """The fraction of a file's weights in `precision`, or None if it is unknown."""
    try:
        from tensorflow.lite.python import schema_py_generated as schema
    except ImportError:  # because the module is not public, and a later release may lack it
        return None

    model = schema.Model.GetRootAsModel(content, 0)
    counts = collections.Counter()
    for i in range(model.SubgraphsLength()):
        graph = model.Subgraphs(i)
        for tensor in map(graph.Tensors, range(graph.TensorsLength())):
            if model.Buffers(tensor.Buffer()).DataLength():
                counts[tensor.Type()] += math.prod(tensor.ShapeAsNumpy().tolist())
    quantized = counts[getattr(schema.TensorType, precision.upper())]
    return quantized / (quantized + counts[schema.TensorType.FLOAT32])


def load(path):
    """Open the file in TensorFlow Lite's interpreter, as a function `images -> {name: output}`."""
    import tensorflow as tf

    with interpreter_warning_silenced():
        interpreter = tf.lite.Interpreter(model_path=str(path))
    runner = interpreter.get_signature_runner("serving_default")
    return lambda images: runner(images=images)


def finish(_path):
    """Do nothing: the format writes only one file."""
