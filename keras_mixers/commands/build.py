"""The recipe and the model that the flags of a training name."""

import dataclasses
import inspect
import pathlib

FAMILIES = ("vit", "mlp_mixer", "conv_mixer")
# What only a model with published weights can use.
FINE_TUNING = ("frozen_blocks", "lora_rank", "head_epochs")


def named_recipe(name):
    """The recipe with this name in `km.recipes()`, or in this JSON file."""
    import keras_mixers as km

    named = km.recipes()
    if name in named:
        return named[name]
    if pathlib.Path(name).is_file():
        return km.Recipe.load(name)
    raise ValueError(
        f"--recipe must be a JSON file or one of {', '.join(map(repr, named))}. Received: {name!r}"
    )


def replaced(recipe, args):
    """The recipe with the values of --batch-size and --learning-rate, if they are given."""
    flags = {name: getattr(args, name) for name in ("batch_size", "learning_rate")}
    given = {name: value for name, value in flags.items() if value is not None}
    return dataclasses.replace(recipe, **given)


def find_recipe(args):
    """The recipe of --recipe, with the values that other flags replace."""
    check_model(args.model)
    recipe = named_recipe(args.recipe)
    check_trains_all(recipe, args.recipe)
    if recipe.epochs is None and args.epochs is None:
        raise ValueError(
            "--epochs must be given for a recipe whose length is in steps. Received: --recipe"
            f" {args.recipe!r}, of {recipe.steps} steps"
        )
    return replaced(recipe.for_epochs(args.epochs or recipe.epochs), args)


def check_model(name):
    """Raise a ValueError unless --model is a family or a pattern."""
    import keras_mixers as km

    if name not in FAMILIES and not set(name) <= set(km.models.LETTERS):
        raise ValueError(
            f"--model must be {', '.join(FAMILIES)}, or a pattern of the letters"
            f" {', '.join(km.models.LETTERS)}. Received: {name!r}"
        )


def check_trains_all(recipe, name):
    """Raise a ValueError if the recipe freezes weights, because a new model has random ones."""
    given = [field for field in FINE_TUNING if getattr(recipe, field)]
    if given:
        raise ValueError(
            "--recipe must train all weights of a new model; examples/finetune.py fine-tunes"
            f" published weights. Received: --recipe {name!r}, with {given[0]}"
            f" {getattr(recipe, given[0])!r}"
        )


def build(args, recipe, info):
    """A model of the family in --model, or a hybrid with the pattern in --model."""
    import keras_mixers as km

    builders = {"vit": km.ViT, "mlp_mixer": km.MLPMixer, "conv_mixer": km.ConvMixer}
    known = inspect.signature(builders.get(args.model, km.Hybrid)).parameters
    unknown = [name for name in recipe.model_arguments if name not in known]
    if unknown:
        raise ValueError(
            f"--recipe must suit --model {args.model}, which has no argument {unknown[0]!r}."
            f" Received: --recipe {args.recipe!r}"
        )
    size = {
        "input_shape": info.input_shape,
        "num_classes": info.num_classes,
        "patch_size": args.patch_size,
        "hidden_dim": args.hidden_dim,
        "dtype": args.dtype,
        "gradient_checkpointing": args.gradient_checkpointing,
        **recipe.model_arguments,
    }
    if args.model == "vit":
        most = max(1, args.hidden_dim // 32)
        heads = next(h for h in range(most, 0, -1) if args.hidden_dim % h == 0)
        return km.ViT(
            "Ti/16", depth=args.depth, num_heads=heads, mlp_dim=2 * args.hidden_dim, **size
        )
    if args.model == "mlp_mixer":
        return km.MLPMixer(
            "S/16",
            depth=args.depth,
            tokens_mlp_dim=args.hidden_dim,
            channels_mlp_dim=2 * args.hidden_dim,
            **size,
        )
    if args.model == "conv_mixer":
        return km.ConvMixer("256/8-k5-p2", depth=args.depth, **size)
    return km.Hybrid(args.model, mlp_dim=2 * args.hidden_dim, **size)
