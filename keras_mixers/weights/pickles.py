"""torch's files, `.pth`: pickles, which torch reads as weights only."""

from keras_mixers.weights.entries import Entry
from keras_mixers.weights.source import reading


def read_entries(source):
    """`{key: Entry}` of a torch file.

    Raises:
        ImportError: if torch is not installed.
        ValueError: if the file is damaged or does not hold a state dict.
    """
    try:
        import torch
    except ImportError:
        raise ImportError(
            "A .pth file is a pickle, which only torch can read safely. Install torch, or use the"
            f" .safetensors form of these weights. Received: source='{source.path}'"
        ) from None
    with reading(source):
        source.file.seek(0)
        loaded = torch.load(source.file, map_location="cpu", weights_only=True)
    for wrapper in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not all(
        isinstance(key, str) and hasattr(tensor, "numpy") for key, tensor in loaded.items()
    ):
        raise ValueError(
            f"`source` must hold a state dict of tensors. Received: source='{source.path}'"
        )
    return {
        key: Entry(
            key,
            tuple(tensor.shape),
            str(tensor.dtype).removeprefix("torch."),
            lambda tensor=tensor: tensor.float().numpy(),
        )
        for key, tensor in loaded.items()
    }
