"""ONNX: one file for onnxruntime and its like, through tf2onnx."""

import contextlib
import hashlib
import itertools
import json
import logging
import re

import keras

from keras_mixers.exporting.onnx import placeholders, quantize
from keras_mixers.exporting.onnx.graph import LARGEST_FILE, OPSET, RANDOM_OPS, subgraphs
from keras_mixers.exporting.onnx.lowering import lowered

FORMAT = "onnx"
SUFFIX = ".onnx"
REFUSES = {
    ("dtype", "preprocessing"): (
        "quantize='float16' stores the weights in half precision, and preprocessing stays exact"
        " in float32"
    )
}
TARGETS = ("onnx", "onnxruntime")
# Of onnxruntime's own operators, those that `forms` and, for preprocessing, tf2onnx make.
CONTRIB_OPERATORS = {"Attention", "FastGelu", "Gelu", "Range"}


def save(serving, path, progress):
    """Write the checked file; returns what an `ExportReport` says of ONNX alone."""
    converted = convert(serving, progress)
    if serving.precision != "float32":
        progress(f"reducing to {serving.precision}")
        converted = quantize.reduced(converted, serving)
        check_operators(converted.graph, serving.target)
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

    from keras_mixers.exporting.onnx.passes.channels_first import (
        join_biases,
        pool_on_the_grid,
        stay_channels_first,
    )
    from keras_mixers.exporting.onnx.passes.constants import fold_constants, hold_weights
    from keras_mixers.exporting.onnx.passes.last_token import slice_last_block

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
        with (
            keras.StatelessScope(state_mapping=list(zip(variables, weights, strict=True))),
            lowered(model, serving.target, serving.quantize),
        ):
            return serving(images)

    traced = serve.get_concrete_function()
    if traced.captured_inputs:
        raise RuntimeError(
            "The model has state besides its weights, which an ONNX file cannot hold:"
            f" {traced.captured_inputs[0]}; nothing was written. A SavedModel can"
        )

    progress("converting")
    contrib = [tf2onnx.utils.make_opsetid(placeholders.CONTRIB, 1)]
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
            custom_op_handlers={placeholders.MARK: (placeholders.onnx_node, [])},
        )

    check_operators(converted.graph, serving.target)
    progress("simplifying")
    names = unique([variable.path for variable in variables])
    weights = {
        spec.name: (name, variable)
        for spec, name, variable in zip(inputs, names, variables, strict=True)
    }
    slice_last_block(converted, weights)
    hold_weights(converted, weights)
    fold_constants(converted)
    stay_channels_first(converted)
    join_biases(converted)
    pool_on_the_grid(converted)
    return converted


def unique(names):
    """The names, with a number behind those that came before."""
    result = []
    for name in names:
        numbers = itertools.count(2)
        free = name
        while free in result:
            free = f"{name}_{next(numbers)}"
        result.append(free)
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


def check_operators(graph, target):
    """Refuse a graph with an operator that the target's runtime does not have.

    Raises:
        RuntimeError: it names the operator and the node.
    """
    import onnx

    for node in graph.node:
        for body in subgraphs(node):
            check_operators(body, target)
        if node.domain == placeholders.CONTRIB:
            known = target == "onnxruntime" and node.op_type in CONTRIB_OPERATORS
        else:
            known = not node.domain and onnx.defs.has(node.op_type, OPSET)
        if not known or node.op_type in RANDOM_OPS:
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
    try:
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise RuntimeError(
            f"onnx's checker refuses the exported graph; nothing was put in place. It says: {error}"
        ) from error


def finish(path):
    """Remove the weights of the file that the new one has replaced."""
    remove_stale(path)


def remove_stale(path):
    """Remove the files of weights that earlier exports to `path` left beside it, if it can be."""
    import onnx

    ours = re.compile(re.escape(path.name) + r"\.[0-9a-f]{16}\.data")
    found = [file for file in path.parent.iterdir() if ours.fullmatch(file.name)]
    if found:
        graph = onnx.load(path, load_external_data=False).graph
        used = {entry.value for tensor in graph.initializer for entry in tensor.external_data}
        for file in found:
            if file.name not in used:
                with contextlib.suppress(OSError):  # the export itself is done
                    file.unlink()


def load(path):
    """The file in onnxruntime, as a function `images -> {name: output}`."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(images):
        return dict(zip(names, session.run(names, {"images": images}), strict=True))

    return run
