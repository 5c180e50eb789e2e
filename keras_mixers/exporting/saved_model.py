"""TensorFlow's SavedModel: a folder for TensorFlow Serving or `tf.saved_model.load`."""

import json
import pathlib
import re

from keras_mixers.exporting.temporary_files import temporary_files_in
from keras_mixers.layers.kernels import plain_kernels
from keras_mixers.preprocessing.decode import CHANNELS, decode_image

FORMAT = "saved_model"
SUFFIX = ""  # a folder
REFUSES = {
    "target": "a path that ends in '.onnx' supports it",
    "quantize": "dtype='float16' computes in half precision",
}
METADATA = pathlib.Path("assets.extra", "keras_mixers.json")
FOLDERS = {"assets", "assets.extra", "variables"}
# Both are in each export, so that no other SavedModel is taken for one.
REQUIRED = {"saved_model.pb", METADATA.as_posix()}
WRITTEN = re.compile(
    r"saved_model\.pb|fingerprint\.pb|assets\.extra/keras_mixers\.json"
    r"|variables/variables\.(index|data-\d{5}-of-\d{5})"
)
# Operators that access files, the terminal or Python. A model that serves images needs none.
FORBIDDEN_OPS = {"EagerPyFunc", "MatchingFiles", "Print", "PrintV2", "PyFunc", "PyFuncStateless"}
FORBIDDEN_OPS |= {"ReadFile", "RestoreV2", "SaveV2", "WriteFile"}
# It writes the code of each converted function into a file, and removes the file at exit.
AUTOGRAPH = "tensorflow.python.autograph.pyct.loader"


def save(serving, path, progress):
    """Write the folder: `serving_default` on tensors and, with preprocessing, `serve_encoded`."""
    import tensorflow as tf

    progress("tracing and writing")
    policy = {"float32": "float32", "float16": "mixed_float16"}[serving.dtype]
    options = {"policy": policy, "kernels": plain_kernels}
    module = tf.Module()
    module.weights = [variable.value for variable in serving.model.variables]

    files = tf.TensorSpec((serving.batch,), "string", "encoded")

    @tf.function(input_signature=[files], autograph=False)
    def serve_encoded(encoded):
        outputs = serving.outputs(decoded(serving, encoded), **options)
        return {**outputs, **(most_probable(serving, outputs) if serving.top else {})}

    signatures = {"serving_default": serving.compiled(**options)}
    if takes_files(serving.model, serving.preprocessing):
        signatures["serve_encoded"] = serve_encoded.get_concrete_function()
    for function in signatures.values():
        check_operators(function.graph)
    module.functions = signatures
    with temporary_files_in(path.parent, AUTOGRAPH):
        tf.saved_model.save(module, str(path), signatures=signatures)
    file = path / METADATA
    file.parent.mkdir()
    file.write_text(json.dumps(serving.metadata, indent=2))
    return {}


def takes_files(model, preprocessing):
    """Whether the SavedModel has `serve_encoded`: it prepares images, and files can hold them."""
    return preprocessing is not None and model.input_shape[-1] in CHANNELS


def most_probable(serving, outputs):
    """The names and the probabilities of the most probable classes, each `(batch, top)`."""
    import tensorflow as tf

    names = tf.constant(serving.metadata["class_names"])
    probabilities, classes = tf.math.top_k(outputs["probabilities"], serving.top)
    return {"class_names": tf.gather(names, classes), "class_probabilities": probabilities}


def decoded(serving, encoded):
    """Prepared images from image files of any sizes: `(batch,)` strings of bytes."""
    import tensorflow as tf

    *size, channels = serving.model.input_shape[1:]

    def image(number_and_content):
        number, content = number_and_content
        name = tf.strings.format("encoded[{}]", number)
        return serving.preprocessing(decode_image(content, channels, name=name))

    numbered = tf.range(tf.size(encoded)), encoded
    prepared = tf.TensorSpec((*size, channels), "float32")
    # One at a time, because each image may be as large as the limit allows.
    return tf.map_fn(image, numbered, fn_output_signature=prepared, parallel_iterations=1)


def check_operators(graph):
    """Raise RuntimeError if a graph or a function in it has one of `FORBIDDEN_OPS`."""
    definition = graph.as_graph_def()
    inside = [node for function in definition.library.function for node in function.node_def]
    for node in [*definition.node, *inside]:
        if node.op in FORBIDDEN_OPS:
            raise RuntimeError(
                f"The model needs the operator {node.op!r}, of node {node.name!r}. An exported"
                " file must not access files, the terminal or Python; nothing was written"
            )


def load(path):
    """Open the folder in TensorFlow, as a function `images -> {name: output}`."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))

    def run(images):
        # This function refers to `loaded`, because TensorFlow deletes the variables with it.
        outputs = loaded.signatures["serving_default"](images=tf.constant(images))
        return {name: output.numpy() for name, output in outputs.items()}

    return run


def finish(_path):
    """Do nothing: a SavedModel has no files outside its folder."""


def other_content(folder):
    """What in a folder is not from an export, as text; None if `export` may replace the folder."""
    found = set()
    for path in contents(folder):
        name = path.relative_to(folder).as_posix()
        is_folder = path.is_dir() and not path.is_symlink()
        if not (name in FOLDERS if is_folder else WRITTEN.fullmatch(name) and path.is_file()):
            return f"with {name!r} in it"
        found.add(name)
    missing = sorted(REQUIRED - found)
    return f"without {missing[0]!r} in it" if found and missing else None


def contents(folder):
    """Each file and folder in a folder, sorted. `iterdir` raises if one cannot be read."""
    for path in sorted(folder.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from contents(path)
