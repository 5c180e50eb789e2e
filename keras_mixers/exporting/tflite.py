"""TensorFlow Lite: one file for phones and small devices."""

import collections
import math
import warnings

import keras

from keras_mixers.exporting.serving import batches_of
from keras_mixers.exporting.temporary_files import temporary_files_in

FORMAT = "tflite"
SUFFIX = ".tflite"
REFUSES = {
    "target": "a path that ends in '.onnx' supports it",
    "dtype": "quantize='float16' stores the weights in half precision",
    "preprocessing": "prepare the images first: the format lacks exact arithmetic in float64",
    "class_names": "an ONNX file and a SavedModel store them",
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
            content = converter.convert()
    except Exception as error:  # because the converter's exception class is not public
        raise RuntimeError(
            "TensorFlow Lite cannot convert the model; nothing was written."
            f" The converter's message: {error}"
        ) from error
    path.write_bytes(content)
    return {"quantized": quantized_fraction(content, serving.quantize)} if serving.quantize else {}


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

    with warnings.catch_warnings():
        # The interpreter warns that it will move to a package that TensorFlow does not install.
        warnings.simplefilter("ignore", UserWarning)
        interpreter = tf.lite.Interpreter(model_path=str(path))
    runner = interpreter.get_signature_runner("serving_default")
    return lambda images: runner(images=images)


def finish(_path):
    """Do nothing: the format writes only one file."""
