"""Write an ONNX file, and the second file for weights over 2 GiB."""

import contextlib
import hashlib
import re

LARGEST_FILE = 2**31 - 2**20  # bytes: protobuf's limit of 2 GiB, less room for the graph


def write(model, path):
    """Write and check the file; empty `model`, because it is as large as the weights.

    Weights over 2 GiB go into a second file next to `path`. Its name holds a digest of its
    content, so that a new file at `path` never reads the weights of an older one.

    Raises:
        RuntimeError: if `onnx.checker` rejects the file.
    """
    import onnx

    options = {}
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) >= LARGEST_FILE:
        digest = hashlib.sha256()
        for tensor in model.graph.initializer:
            digest.update(tensor.raw_data)
        location = f"{path.name}.{digest.hexdigest()[:16]}.data"
        options = {"save_as_external_data": True, "location": location}
    onnx.save(model, path, **options)
    if options:  # because onnx lets only the owner read the second file
        path.with_name(location).chmod(path.stat().st_mode)
    model.Clear()
    try:
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise RuntimeError(
            "onnx's checker refuses the exported graph; what was at `path` is unchanged."
            f" The checker's message: {error}"
        ) from error


def remove_stale_weights(path):
    """Remove the second files of earlier exports to `path`, where the system allows it."""
    import onnx

    written_by_export = re.compile(re.escape(path.name) + r"\.[0-9a-f]{16}\.data")
    found = [file for file in path.parent.iterdir() if written_by_export.fullmatch(file.name)]
    if found:
        graph = onnx.load(path, load_external_data=False).graph
        used = {entry.value for tensor in graph.initializer for entry in tensor.external_data}
        for file in found:
            if file.name not in used:
                with contextlib.suppress(OSError):  # because the export itself has succeeded
                    file.unlink()
