"""Say in an ONNX file what it computes."""

from keras_mixers.version import __version__


def describe(model, serving):
    """Name the graph after the model, and write what it takes and returns into its doc string.

    Args:
        model: an `onnx.ModelProto`, which is changed in place.
        serving: the `Serving`.
    """
    graph = model.graph
    graph.name = serving.metadata["variant"]
    takes, returns = (", ".join(map(text_of, values)) for values in (graph.input, graph.output))
    graph.doc_string = (
        f"{graph.name} in {serving.precision}, exported by keras_mixers {__version__}."
        f" It takes {takes}. It returns {returns}."
    )
    model.producer_name, model.producer_version = "keras_mixers", __version__
    model.doc_string = ""  # of tf2onnx


def text_of(value):
    """An input or output as text: `images: float32 (batch, 224, 224, 3)`."""
    import onnx

    tensor = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    sizes = [size.dim_param or str(size.dim_value or "?") for size in tensor.shape.dim]
    return f"{value.name}: {dtype} ({', '.join(sizes)})"
