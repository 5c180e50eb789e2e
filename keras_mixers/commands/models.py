"""List published models, or the variants of the builders.

Example:
  keras-mixers models 'vit_small*dinov2*' --parameters
"""


def add_flags(parser):
    """Add the flags of this command."""
    parser.add_argument(
        "pattern",
        nargs="?",
        default="*",
        help="a part of the names, or names with *, ? and [...] as in a shell",
    )
    parser.add_argument(
        "--variants", action="store_true", help="list the variants of the builders instead"
    )
    parser.add_argument(
        "--parameters",
        action="store_true",
        help="count the parameters of each model, which takes about a second for each",
    )


def run(args):
    """Print one line for each model."""
    rows = variants(args) if args.variants else published(args)
    if len(rows) == 1:
        raise ValueError(
            f"PATTERN must match a name; without it, all are listed. Received: {args.pattern!r}"
        )
    print_table(rows)


def published(args):
    """The head and the rows of a table of published models."""
    import keras_mixers as km

    rows = [("name", "variant", "pixels", "classes", "file", "licence")]
    if args.parameters:
        rows[0] += ("parameters",)
    checkpoints = km.pretrained()
    for name in km.list_models(args.pattern):
        found = checkpoints[name]
        rows.append(
            (
                name,
                f"{found.family} {found.variant}",
                "x".join(map(str, found.preprocessing.size)),
                str(found.num_classes or "-"),
                found.size or "-",
                found.license or "-",
            )
        )
        if args.parameters:
            rows[-1] += (parameters(km.create_model, name, pretrained=False),)
    return rows


def variants(args):
    """The head and the rows of a table of the builders' variants."""
    import fnmatch

    import keras_mixers as km
    from keras_mixers.models.create import glob_of

    rows = [("builder", "variant", *(["parameters"] if args.parameters else []), "arguments")]
    for family in ("ViT", "MLPMixer", "ConvMixer"):
        for name, row in km.variants(family).items():
            if fnmatch.fnmatchcase(f"{family} {name}".lower(), glob_of(args.pattern)):
                count = [parameters(getattr(km, family), name)] if args.parameters else []
                text = ", ".join(f"{key}={value!r}" for key, value in row.items())
                rows.append((family, name, *count, text))
    return rows


def parameters(build, *arguments, **options):
    """The number of parameters of a model, as text; its weights take no memory."""
    import keras_mixers as km

    with km.abstract_weights():
        return f"{build(*arguments, **options).count_params():,}"


def print_table(rows):
    """Print rows of text in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())
