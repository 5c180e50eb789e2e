"""Measure a model on the validation images of a dataset.

Example:
  keras-mixers evaluate out/model.keras digits --report evaluation.html
"""

from keras_mixers.commands.flags import DATASET, MODEL, at_least, load_dataset, load_model


def add_flags(parser):
    """Add the flags of this command."""
    parser.add_argument("model", help=MODEL)
    parser.add_argument("dataset", help=DATASET)
    parser.add_argument("--report", metavar="FILE.html", help="also write a page with figures")
    parser.add_argument("--batch-size", type=at_least(1), default=64, help="images in a batch")
    parser.add_argument(
        "--skip-unreadable", action="store_true", help="leave out files that are not images"
    )


def run(args):
    """Print accuracy, each class, calibration and the worst mistakes."""
    import keras_mixers as km
    from keras_mixers import arguments

    if args.report:
        arguments.file_path(args.report, ".html")  # before the evaluation, which may take long
    model = load_model(args.model)
    on_error = "skip" if args.skip_unreadable else "raise"
    options = {"batch_size": args.batch_size, "on_error": on_error}
    _, validation, info = load_dataset(args, model, **options)
    evaluation = km.evaluate(model, validation, info)
    print(evaluation)
    if args.report:
        page = km.visualize.evaluation_report(evaluation, args.report, info, model_name=model.name)
        print(f"{page}: open it in a browser")
