"""Triton's description of a model: config.pbtxt, and labels.txt with the names of the classes.

Source: NVIDIA, "Model Configuration" in the user guide of Triton Inference Server, and
`model_config.proto` in its repository `common`.
"""

import json

from keras_mixers.exporting.labels import LABELS, lines_of

CONFIG = "config.pbtxt"
MAX_BATCH = 32  # images that Triton gives to the model at once
# onnx's names of the types that an exported file takes or returns -> Triton's
TYPES = {"FLOAT": "TYPE_FP32", "UINT8": "TYPE_UINT8"}


def describe(file, folder, existing):
    """Write the description of an ONNX file into `folder`, unless `existing` has the same.

    One description is valid for all versions of a model. The user may have added other settings
    to it.

    Raises:
        ValueError: if the description in `existing` has other inputs, outputs or class names.
    """
    import onnx

    model = onnx.load(file, load_external_data=False)
    names = {entry.key: entry.value for entry in model.metadata_props}.get("class_names")
    tensors = tensors_of(model.graph, has_labels=names is not None)
    write(folder / CONFIG, existing / CONFIG, header(existing.name, model.graph), tensors)
    if names is not None:
        write(folder / LABELS, existing / LABELS, "", lines_of(json.loads(names)))


def write(new, existing, settings, content):
    """Write a file, or check that the existing one has `content`."""
    if not existing.exists():
        new.write_text(settings + content, encoding="utf-8")
    elif f"\n{content}" not in "\n" + existing.read_text(encoding="utf-8"):
        raise ValueError(
            f"`path` must name a new folder, or one whose {existing.name} describes this model,"
            " because it describes all versions. Received: a model with other inputs, outputs or"
            f" class names than '{existing}'; remove that file to have it written again"
        )


def header(name, graph):
    """The settings that the user may change: all that is not about inputs and outputs."""
    lines = [f"name: {json.dumps(name, ensure_ascii=False)}", 'backend: "onnxruntime"']
    if is_batched(graph):
        lines += [f"max_batch_size: {MAX_BATCH}", "dynamic_batching {}"]
    return "\n".join([*lines, ""])


def is_batched(graph):
    """Whether the file takes any number of images at once."""
    return not graph.input[0].type.tensor_type.shape.dim[0].dim_value


def tensors_of(graph, has_labels):
    """The inputs and outputs of a graph as text of a `ModelConfig`."""
    names = [tensor.name for tensor in graph.output]
    labelled = has_labels and next(n for n in ("probabilities", "logits") if n in names)
    return "".join(
        f"{kind} {{\n"
        f"  name: {json.dumps(tensor.name, ensure_ascii=False)}\n"
        f"  data_type: {data_type(tensor)}\n"
        f"  dims: [{', '.join(map(str, sides(tensor, is_batched(graph))))}]\n"
        + (f'  label_filename: "{LABELS}"\n' if tensor.name == labelled else "")
        + "}\n"
        for kind, tensors in (("input", graph.input), ("output", graph.output))
        for tensor in tensors
    )


def data_type(tensor):
    """Triton's name of a tensor's type."""
    import onnx

    return TYPES[onnx.TensorProto.DataType.Name(tensor.type.tensor_type.elem_type)]


def sides(tensor, batched):
    """The shape of a tensor, with -1 for a free side; without the batch if Triton adds it."""
    shape = [side.dim_value or -1 for side in tensor.type.tensor_type.shape.dim]
    return shape[1:] if batched else shape
