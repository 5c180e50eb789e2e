"""Weights from the Hugging Face hub, downloaded by the huggingface_hub library."""

import re

from keras_mixers import arguments

HUB = "hf://"
NAME = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)


def local_file(source):
    """The path of a source on this machine; downloads `hf://owner/name`.

    Raises:
        ValueError: if the source begins with `hf://` and is not `hf://owner/name`.
        ImportError: if it begins with `hf://` and huggingface_hub is not installed.
    """
    if not source.startswith(HUB):
        return source
    name = source.removeprefix(HUB)
    if not NAME.fullmatch(name):
        received = arguments.received(source=source)
        raise ValueError(f"`source` must be 'hf://owner/name'. {received}")
    try:
        import huggingface_hub
    except ImportError:
        raise ImportError(
            f"{arguments.shown(source)} needs huggingface_hub: pip install 'keras_mixers[hub]'"
        ) from None
    return huggingface_hub.hf_hub_download(name, "model.safetensors")
