"""Which attention weights a page shows over a picture."""

import math

from keras_mixers.exporting.serving import attention_layers
from keras_mixers.graph import layer_calls
from keras_mixers.layers import MultiHeadSelfAttention, PatchEmbed, PrefixTokens
from keras_mixers.layers.patches import patch_grid


def attention_of(model):
    """Where the page finds the attention of a model's last block; None if it cannot be shown.

    Returns:
        A dict with the `output` of the ONNX file, the (rows, columns) of the `grid`, the number of
        tokens before the patches, `prefix`, and the `query`: `"class token"`, or `"patches"` if
        the model has no class token, for the mean over all patches.
    """
    calls = list(layer_calls(model).values())
    stems = [node for node in calls if isinstance(node.operation, PatchEmbed)]
    readers = [node for node in calls if isinstance(node.operation, MultiHeadSelfAttention)]
    inside = attention_layers(model)
    if len(stems) != 1 or not inside:
        return None
    grid = patch_grid(stems[0].input_tensors[0].shape[1:3], stems[0].operation.patch_size)
    added = [node.operation for node in calls if isinstance(node.operation, PrefixTokens)]
    prefix = sum(layer.num_prefix for layer in added)
    tokens = {node.input_tensors[0].shape[1] for node in readers}
    if not tokens <= {prefix + math.prod(grid)}:
        return None
    has_class_token = any(layer.class_token for layer in added)
    return {
        "output": f"attention_{len(inside) - 1}",
        "grid": list(grid),
        "prefix": prefix,
        "query": "class token" if has_class_token else "patches",
    }
