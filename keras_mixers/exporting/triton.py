"""Triton's description of a model: config.pbtxt, and labels.txt with the names of the classes.

Source: NVIDIA, "Model Configuration" in the user guide of Triton Inference Server, and
`model_config.proto` in its repository `common`.
"""

import json

from keras_mixers.exporting.labels import LABELS, lines_of

CONFIG = "config.pbtxt"
MAX_BATCH = 32  # images that Triton gives to the model at once
# NumPy's names of the types that an exported file takes or returns -> Triton's
TYPES = {"float32": "TYPE_FP32", "uint8": "TYPE_UINT8"}


def check(folder, serving):
    """Raise the ValueError of `describe` if the input or the class names of a `Serving` differ.

    `export` calls it first, because it can take minutes until `describe` sees the file.
    """
    images = serving.images
    content = described(
        "input", images.name, images.dtype.name, list(images.shape), batched=serving.batch is None
    )
    check_describes(folder / CONFIG, content)
    names = serving.metadata.get("class_names")
    if names is not None:
        check_describes(folder / LABELS, lines_of(names))


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
    check_describes(existing, content)
    if not existing.exists():
        new.write_text(settings + content, encoding="utf-8")


def check_describes(existing, content):
    """Raise ValueError if a file of an earlier version lacks `content`."""
    if existing.exists() and f"\n{content}" not in "\n" + existing.read_text(encoding="utf-8"):
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
        described(
            kind,
            tensor.name,
            data_type(tensor),
            [side.dim_value for side in tensor.type.tensor_type.shape.dim],
            is_batched(graph),
            is_labelled=tensor.name == labelled,
        )
        for kind, tensors in (("input", graph.input), ("output", graph.output))
        for tensor in tensors
    )


def described(kind, name, dtype, shape, batched, is_labelled=False):
    """An input or output as text: -1 for a free side, and no batch if Triton adds it."""
    return (
        f"{kind} {{\n"
        f"  name: {json.dumps(name, ensure_ascii=False)}\n"
        f"  data_type: {TYPES[dtype]}\n"
        f"  dims: [{', '.join(str(side or -1) for side in shape[batched:])}]\n"
        + (f'  label_filename: "{LABELS}"\n' if is_labelled else "")
        + "}\n"
    )


def data_type(tensor):
    """NumPy's name of a tensor's type."""
    import onnx

    return onnx.helper.tensor_dtype_to_np_dtype(tensor.type.tensor_type.elem_type).name
