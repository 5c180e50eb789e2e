"""Marks in TensorFlow's graph for operators that ONNX has and TensorFlow lacks."""

import json

MARK = "PyFuncStateless"  # an operator with any inputs and outputs, and a text: the ONNX node
CONTRIB = "com.microsoft"  # onnxruntime's own operators


def mark(operator, inputs, shape, domain="", **attributes):
    """A tensor that ONNX will have from one node, `operator(*inputs)`, of shape `shape`."""
    import tensorflow as tf

    sizes = [-1 if size is None else size for size in shape]
    token = json.dumps(
        {"operator": operator, "shape": sizes, "domain": domain, "attributes": attributes}
    )
    (y,) = tf.raw_ops.PyFuncStateless(input=inputs, token=token, Tout=[inputs[0].dtype])
    return tf.ensure_shape(y, shape)


def onnx_node(graph, node, _name, _arguments):
    """tf2onnx's handler of a mark."""
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
