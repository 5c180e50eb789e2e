"""Placeholders in TensorFlow's graph for ONNX operators that TensorFlow does not have."""

import json

# The TensorFlow operator of a placeholder: it takes any inputs, and its `token` is any text.
PLACEHOLDER = "PyFuncStateless"
CONTRIB = "com.microsoft"  # the domain of onnxruntime's additional operators


def placeholder_op(operator, inputs, shape, domain="", **attributes):
    """A tensor of shape `shape` that one ONNX node, `operator(*inputs)`, computes in the file."""
    import tensorflow as tf

    sizes = [-1 if size is None else size for size in shape]
    token = json.dumps(
        {"operator": operator, "shape": sizes, "domain": domain, "attributes": attributes}
    )
    (y,) = tf.raw_ops.PyFuncStateless(input=inputs, token=token, Tout=[inputs[0].dtype])
    return tf.ensure_shape(y, shape)


def replace_placeholder(graph, node, _name, _arguments):
    """Put the ONNX node into tf2onnx's graph; tf2onnx calls this handler for each placeholder."""
    token = json.loads(node.get_attr_str("token"))
    inputs, outputs, dtypes = list(node.input), list(node.output), node.output_dtypes
    graph.remove_node(node.name)
    graph.make_node(
        token["operator"],
        inputs,
        attr=token["attributes"],
        outputs=outputs,
        shapes=[token["shape"]],
        dtypes=dtypes,
        domain=token["domain"] or None,
        name=node.name,
    )
