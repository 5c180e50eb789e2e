"""ONNX: one file for onnxruntime and its like, through tf2onnx."""

import contextlib
import hashlib
import json
import logging
import re

import keras

from keras_mixers.export import lowering, quantize

FORMAT = "onnx"
OPSET = 18  # the newest that tf2onnx 1.17 knows
LARGEST_FILE = 2**31 - 2**20  # protobuf's limit of 2 GiB, less room for the graph
TARGETS = ("onnx", "onnxruntime")
# Of onnxruntime's own operators, those that its CPU kernels and `quantize` may put into a graph.
CONTRIB_OPERATORS = {
    "Attention",
    "DequantizeLinear",
    "DynamicQuantizeMatMul",
    "FastGelu",
    "Gelu",
    "MatMulIntegerToFloat",
    "QAttention",
    "QGemm",
    "QLinearAdd",
    "QLinearMul",
    "QuantizeLinear",
    "Range",
}
# Standard operators that no inference needs: their answers are drawn.
REFUSED = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"}
REFUSED |= {"RandomUniformLike", "Dropout"}


def save(serving, path, progress):
    """Write the checked file; returns what an `ExportReport` says of ONNX alone."""
    converted = convert(serving, progress)
    if serving.precision != "float32":
        progress(f"reducing to {serving.precision}")
        converted = quantize.reduced(converted, serving)
    check_operators(converted, serving.target)
    for key, value in serving.metadata.items():
        text = value if isinstance(value, str) else json.dumps(value)
        converted.metadata_props.add(key=key, value=text)
    progress("writing and checking")
    details = {"opset": OPSET, "nodes": len(converted.graph.node)}
    write(converted, path)
    return details


def convert(serving, progress):
    """The `onnx.ModelProto` of what is served: whole, simplified, not yet checked."""
    import tensorflow as tf
    import tf2onnx

    from keras_mixers.export.constants import fold_constants, hold_weights
    from keras_mixers.export.convolutions import join_biases, pool_on_the_grid
    from keras_mixers.export.one_token import compute_one_token

    progress("tracing")
    model = serving.model
    variables = [*model.trainable_variables, *model.non_trainable_variables]
    inputs = [
        tf.TensorSpec(variable.shape, variable.dtype, name=f"weight_{i}")
        for i, variable in enumerate(variables)
    ]

    # Weights are inputs of what is converted, so that no step on the way copies or inspects them.
    @tf.function(input_signature=[serving.images, inputs], autograph=False)
    def serve(images, weights):
        with keras.StatelessScope(state_mapping=list(zip(variables, weights, strict=True))):
            return serving(images, lower=True)

    traced = serve.get_concrete_function()
    if traced.captured_inputs:
        raise RuntimeError(
            "The model has state besides its weights, which an ONNX file cannot hold:"
            f" {traced.captured_inputs[0]}; nothing was written. A SavedModel can"
        )

    progress("converting")
    contrib = [tf2onnx.utils.make_opsetid(lowering.CONTRIB, 1)]
    outputs = {tensor.name: name for name, tensor in traced.structured_outputs.items()}
    names = {tensor.name: tensor.name.split(":")[0] for tensor in traced.inputs}
    with quiet("tf2onnx"), quiet("tensorflow"):
        converted, _ = tf2onnx.convert.from_graph_def(
            traced.graph.as_graph_def(),
            input_names=list(names),
            output_names=list(outputs),
            tensors_to_rename={**names, **outputs},
            opset=OPSET,
            extra_opset=contrib if serving.target == "onnxruntime" else [],
            custom_op_handlers={lowering.MARK: (lowering.onnx_node, [])},
        )

    progress("simplifying")
    names = unique([variable.path for variable in variables])
    weights = {
        spec.name: (name, variable)
        for spec, name, variable in zip(inputs, names, variables, strict=True)
    }
    compute_one_token(converted, weights)
    hold_weights(converted, weights)
    fold_constants(converted)
    join_biases(converted)
    pool_on_the_grid(converted)
    return converted


def unique(names):
    """The names, a number behind those that came before."""
    seen, result = {}, []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return result


@contextlib.contextmanager
def quiet(name):
    """While this lasts, a library logs nothing: what it cannot convert is found in its result."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


def check_operators(converted, target):
    """Refuse a graph with an operator that the target's runtime does not have.

    Raises:
        RuntimeError: it names the operator and the node.
    """
    import onnx

    for node in converted.graph.node:
        known = node.domain == lowering.CONTRIB and node.op_type in CONTRIB_OPERATORS
        if node.domain == lowering.CONTRIB:
            known = known and target == "onnxruntime"
        else:
            known = not node.domain and onnx.defs.has(node.op_type) and node.op_type not in REFUSED
        if not known:
            raise RuntimeError(
                f"The model needs the operator {node.op_type!r}, of node {node.name!r}, which"
                f" target={target!r} does not have; nothing was written. A layer made of keras.ops"
                " that ONNX has, or a SavedModel (a path without '.onnx'), would do"
            )


def write(converted, path):
    """Write and check the file, and empty `converted`, which is as large as the model.

    What is over 2 GiB gets its weights in a second file beside it. That one is named after its
    content, so that a file that is replaced never meets the weights of another.
    """
    import onnx

    options = {}
    if sum(len(tensor.raw_data) for tensor in converted.graph.initializer) >= LARGEST_FILE:
        digest = hashlib.sha256()
        for tensor in converted.graph.initializer:
            digest.update(tensor.raw_data)
        location = f"{path.name}.{digest.hexdigest()[:16]}.data"
        options = {"save_as_external_data": True, "location": location}
    onnx.save(converted, path, **options)
    if options:  # onnx lets only its owner read it
        path.with_name(location).chmod(path.stat().st_mode)
    converted.Clear()
    onnx.checker.check_model(path, full_check=True)


def remove_stale(path):
    """Remove the files of weights that earlier exports to `path` left beside it."""
    import onnx

    ours = re.compile(re.escape(path.name) + r"\.[0-9a-f]{16}\.data")
    found = [file for file in path.parent.iterdir() if ours.fullmatch(file.name)]
    if found:
        graph = onnx.load(path, load_external_data=False).graph
        used = {entry.value for tensor in graph.initializer for entry in tensor.external_data}
        for file in found:
            if file.name not in used:
                file.unlink()


def load(path):
    """The file in onnxruntime, as a function `images -> {name: output}`."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(images):
        return dict(zip(names, session.run(names, {"images": images}), strict=True))

    return run
