"""Create any published model by its name."""

import fnmatch
import inspect
from typing import Any

from keras_mixers import arguments
from keras_mixers.models.conv_mixer import ConvMixer
from keras_mixers.models.hub_configuration import Selection, configured
from keras_mixers.models.image_model import ImageModel
from keras_mixers.models.mlp_mixer import MLPMixer
from keras_mixers.models.variants import TABLES, scaled_widths
from keras_mixers.models.vit import ViT
from keras_mixers.weights.catalog import architectures, checkpoints
from keras_mixers.weights.hub import HUB

BUILDERS = {"ViT": ViT, "MLPMixer": MLPMixer, "ConvMixer": ConvMixer}


# timm's names of arguments that many users know.
SYNONYMS = {
    "embed_dim": "hidden_dim",
    "img_size": "input_shape",
    "in_chans": "input_shape",
    "global_pool": "pool",
    "reg_tokens": "num_registers",
    "init_values": "layer_scale_init",
    "drop_path_rate": "stochastic_depth_rate",
    "drop_rate": "dropout_rate",
}


def list_models(pattern: str = "*") -> list[str]:
    """The names of published checkpoints that `create_model` loads, sorted.

    Args:
        pattern: a part of the names, or names with `*`, `?` and `[...]` as in a shell. Upper and
            lower case are the same.

    Raises:
        TypeError: if `pattern` is not a string.

    Example:
        >>> list_models("*small*.dino")
        ['vit_small_patch16_224.dino', 'vit_small_patch8_224.dino']
    """
    return sorted(fnmatch.filter(checkpoints(), glob_of(arguments.text("pattern", pattern))))


def glob_of(pattern):
    """A pattern in lower case for `fnmatch`; without *, ? and [ it is a part of a name."""
    pattern = pattern.lower()
    return pattern if set("*?[") & set(pattern) else f"*{pattern}*"


def create_model(name: str, /, pretrained: bool = True, **overrides: Any) -> ImageModel:
    """Create a published model with its weights.

    The name selects the builder, its variant and arguments, and the file of weights. The model
    has the checkpoint's `preprocessing` in its own size, and the checkpoint's `class_names` if it
    has the checkpoint's head. With another number of channels, `preprocessing` is None if the
    checkpoint's channels have different means or standard deviations. A model of a repository or of
    a file has no facts; set them, or pass an `Info` to `set_info`.

    Some checkpoints of CLIP were trained with quick GELU. timm has two names for them, and only the
    one with `clip_quickgelu` computes it.

    Args:
        name: a checkpoint of `list_models()`, such as `"vit_small_patch14_dinov2.lvd142m"`; an
            architecture, the same name without its tag, which stands for timm's default checkpoint;
            or `"hf://owner/name@revision/file"`, a repository on the Hugging Face hub (revision and
            file may be absent). Its config.json, in the form of timm or of transformers, then
            selects the architecture.
        pretrained: whether to load the published weights. If False, the weights are random, and
            architectures without a checkpoint work too.
        **overrides: arguments of the builder (`ViT`, `MLPMixer` or `ConvMixer`) that replace those
            of the name, such as `num_classes=5` or `input_shape=(336, 336, 3)`. `weights` may be
            the path of a file with the weights of this architecture. Loading resizes
            weights and skips a head as for the builder's `weights`. With `hidden_dim`, each width
            of an MLP that is not given keeps its ratio to `hidden_dim`, rounded down.

    Returns:
        A functional `keras.Model`, as an `ImageModel`. Its `preprocessing` and `class_names` are
        those of the checkpoint, as far as they fit.

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
    check_keywords(found.family, overrides)
    weights = {"weights": found.weights} if pretrained else {}
    if pretrained and found.weights != name and "weights" not in overrides:
        print(f"{name}: loading {found.weights}")  # because the name leaves the choice to us
    given = {**found.arguments, **scaled(found, overrides), **weights, **overrides}
    return BUILDERS[found.family](found.variant, **given)


def check_keywords(family, overrides):
    """Raise a TypeError for a keyword that the builder does not have; it suggests similar ones."""
    known = list(inspect.signature(BUILDERS[family]).parameters)[1:]
    for keyword in overrides:
        if keyword not in known:
            meant, hint = SYNONYMS.get(keyword), arguments.nearest(keyword, known)
            if meant in known:
                hint = f". Did you mean {meant!r}?"
            raise TypeError(
                f"`overrides` must be arguments of {family}. Received: {keyword!r}{hint}"
            )


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
            f" {arguments.received(name=name)}{similar(name, rows, known)}"
        )
    if pretrained:
        raise ValueError(
            f"`name` must be a published checkpoint. {arguments.received(name=name)}, an"
            " architecture without one; pretrained=False gives random weights"
        )
    return Selection(known[name].family, known[name].variant, known[name].arguments, None)


def similar(name, rows, known):
    """The end of an error message: what the user may have meant by an unknown name."""
    family = next((family for family, table in TABLES.items() if name in table), None)
    if family:
        return f", a variant: km.{family}({name!r}) builds it"
    same = [row.name for row in rows.values() if row.architecture == name.partition(".")[0]]
    parts = same or [row for row in rows if name.lower() in row.lower()]
    if parts:
        more = ", ..." if len(parts) > 3 else ""
        return f". Similar names: {', '.join(map(repr, parts[:3]))}{more}"
    return arguments.nearest(name, [*rows, *known])


def scaled(found, overrides):
    """The widths of the MLPs for another `hidden_dim`, or nothing without one."""
    if overrides.get("hidden_dim") is None:
        return {}
    published = {**TABLES[found.family][found.variant], **found.arguments}
    return scaled_widths(published, arguments.integer("hidden_dim", overrides["hidden_dim"]))
