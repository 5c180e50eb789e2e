"""Weights from the Hugging Face hub, downloaded by the huggingface_hub library."""

HUB = "hf://"


def local_file(source):
    """The path of a source on this machine; downloads `hf://owner/name`.

    Raises:
        ValueError: if the source begins with `hf://` and is not `hf://owner/name`.
        ImportError: if it begins with `hf://` and huggingface_hub is not installed.
    """
    if not str(source).startswith(HUB):
        return source
    name = str(source).removeprefix(HUB)
    if name.count("/") != 1:
        raise ValueError(f"`source` must be 'hf://owner/name'. Received: source={source!r}")
    try:
        import huggingface_hub
    except ImportError:
        raise ImportError(
            f"{source!r} needs huggingface_hub: pip install 'keras_mixers[hub]'"
        ) from None
    return huggingface_hub.hf_hub_download(name, "model.safetensors")
