"""TensorFlow's SavedModel: a folder for TensorFlow Serving or `tf.saved_model.load`."""

import json
import pathlib

FORMAT = "saved_model"
SUFFIX = ""  # a folder
REFUSES = {
    "target": "a path that ends in '.onnx' supports it",
    "quantize": "dtype='float16' computes in half precision",
}
PARTS = {"assets", "assets.extra", "fingerprint.pb", "saved_model.pb", "variables"}
METADATA = pathlib.Path("assets.extra", "keras_mixers.json")
# What has no place in a file that serves images: it reaches files, the terminal or Python.
REFUSED = {"EagerPyFunc", "MatchingFiles", "Print", "PrintV2", "PyFunc", "PyFuncStateless"}
REFUSED |= {"ReadFile", "RestoreV2", "SaveV2", "WriteFile"}


def save(serving, path, progress):
    """Write the folder: `serving_default` on tensors and, with preprocessing, `serve_encoded`."""
    import tensorflow as tf

    progress("tracing and writing")
    policy = {"float32": "float32", "float16": "mixed_float16"}[serving.dtype]
    module = tf.Module()
    module.weights = [variable.value for variable in serving.model.variables]

    @tf.function(input_signature=[tf.TensorSpec((None,), "string", "encoded")], autograph=False)
    def serve_encoded(encoded):
        return serving.of_prepared(decoded(serving, encoded), policy=policy)

    signatures = {"serving_default": serving.compiled(policy=policy)}
    if serving.preprocessing:
        signatures["serve_encoded"] = serve_encoded.get_concrete_function()
    for function in signatures.values():
        check_operators(function.graph)
    module.functions = signatures
    tf.saved_model.save(module, str(path), signatures=signatures)
    file = path / METADATA
    file.parent.mkdir()
    file.write_text(json.dumps(serving.metadata, indent=2))
    return {}


def decoded(serving, encoded):
    """Images for the model from JPEG or PNG files, `(batch,)` strings of bytes, of any sizes."""
    import tensorflow as tf

    *size, channels = serving.model.input_shape[1:]

    def image(content):
        pixels = tf.io.decode_image(content, channels=channels, expand_animations=False)
        return serving.preprocessing(tf.ensure_shape(pixels, (None, None, channels)))

    prepared = tf.TensorSpec((*size, channels), "float32")
    return tf.map_fn(image, encoded, fn_output_signature=prepared)


def check_operators(graph):
    """Refuse a graph that reaches outside."""
    whole = graph.as_graph_def()
    for node in [*whole.node, *(node for f in whole.library.function for node in f.node_def)]:
        if node.op in REFUSED:
            raise RuntimeError(
                f"The model needs the operator {node.op!r}, of node {node.name!r},"
                " which has no place in an exported file; nothing was written"
            )


def load(path):
    """The folder in TensorFlow, as a function `images -> {name: output}`."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))

    def run(images):
        # `loaded` is held by this function: its variables live as long as it.
        outputs = loaded.signatures["serving_default"](images=tf.constant(images))
        return {name: output.numpy() for name, output in outputs.items()}

    return run


def finish(_path):
    """Do nothing: a SavedModel leaves no files next to its folder."""
