"""Create any published model by its name."""

import fnmatch
from typing import Any

import keras

from keras_mixers import arguments
from keras_mixers.models.conv_mixer import ConvMixer
from keras_mixers.models.hub_configuration import Selection, configured
from keras_mixers.models.mlp_mixer import MLPMixer
from keras_mixers.models.variants import TABLES
from keras_mixers.models.vit import ViT
from keras_mixers.weights.catalog import architectures, checkpoints
from keras_mixers.weights.hub import HUB

BUILDERS = {"ViT": ViT, "MLPMixer": MLPMixer, "ConvMixer": ConvMixer}


def list_models(pattern: str = "*") -> list[str]:
    """The names of published checkpoints that `create_model` loads, sorted.

    Args:
        pattern: names with `*`, `?` and `[...]` as in a shell; upper and lower case are the same.

    Raises:
        TypeError: if `pattern` is not a string.

    Example:
        >>> list_models("*small*.dino")
        ['vit_small_patch16_224.dino', 'vit_small_patch8_224.dino']
    """
    pattern = arguments.text("pattern", pattern).lower()
    return sorted(fnmatch.filter(checkpoints(), pattern))


def create_model(name: str, /, pretrained: bool = True, **overrides: Any) -> keras.Model:
    """Create a published model with its weights.

    The name selects the builder, its variant and arguments, and the file of weights. The model
    takes images that `keras_mixers.pretrained()[name].preprocessing` prepared. Some checkpoints of
    CLIP were trained with quick GELU. timm has two names for them, and only the one with
    `clip_quickgelu` computes it.

    Args:
        name: a checkpoint of `list_models()`, such as `"vit_small_patch14_dinov2.lvd142m"`; an
            architecture, the same name without its tag, which stands for timm's default checkpoint;
            or `"hf://owner/name@revision/file"`, a repository on the Hugging Face hub (revision and
            file may be absent). Its config.json, in the form of timm or of transformers, then
            selects the architecture.
        pretrained: whether to load the published weights. If False, the weights are random, and
            architectures without a checkpoint work too.
        **overrides: arguments of the builder (`ViT`, `MLPMixer` or `ConvMixer`) that replace those
            of the name, such as `num_classes=5` or `input_shape=(336, 336, 3)`. Loading resizes
            weights and skips a head as for the builder's `weights`. With `hidden_dim`, each width
            of an MLP that is not given keeps its ratio to `hidden_dim`, rounded down.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError, TypeError: if the name is unknown or an override is invalid; the message
            suggests similar names. Also if config.json has a field that no builder can honour; the
            message names it.
        OSError: if a file cannot be downloaded.
        ImportError: if `name` starts with `hf://` and huggingface_hub is not installed.

    Example:
        >>> model = create_model("vit_tiny_patch16_224", pretrained=False, num_classes=5, depth=2)
        >>> model.output_shape
        (None, 5)
    """
    arguments.text("name", name)
    arguments.flag("pretrained", pretrained)
    found = configured(name) if name.startswith(HUB) else cataloged(name, pretrained)
    weights = {"weights": found.weights} if pretrained else {}
    given = {**found.arguments, **scaled(found, overrides), **weights, **overrides}
    return BUILDERS[found.family](found.variant, **given)


def cataloged(name, pretrained):
    """What the catalog knows of a name, with or without its tag.

    Raises:
        ValueError: if the catalog does not have the name, or has no weights of it.
    """
    rows, known = checkpoints(), architectures()
    row = rows.get(name) or next((row for row in rows.values() if row.architecture == name), None)
    if row:
        found = {**row.arguments, "num_classes": row.num_classes}
        return Selection(row.family, row.variant, found, row.name)
    if name not in known:
        raise ValueError(
            "`name` must be a name of km.list_models(), or 'hf://owner/name'."
            f" {arguments.received(name=name)}{arguments.nearest(name, [*rows, *known])}"
        )
    if pretrained:
        raise ValueError(
            f"`name` must be a published checkpoint. {arguments.received(name=name)}, an"
            " architecture without one; pretrained=False gives random weights"
        )
    return Selection(known[name].family, known[name].variant, known[name].arguments, None)


def scaled(found, overrides):
    """The widths of the MLPs for another `hidden_dim`, in the proportions of the published model.

    timm describes a width by its ratio to `hidden_dim` in the same way.
    """
    if overrides.get("hidden_dim") is None:
        return {}
    hidden_dim = arguments.integer("hidden_dim", overrides["hidden_dim"])
    published = {**TABLES[found.family][found.variant], **found.arguments}
    return {
        name: value * hidden_dim // published["hidden_dim"]
        for name, value in published.items()
        if name.endswith("mlp_dim") and value
    }
