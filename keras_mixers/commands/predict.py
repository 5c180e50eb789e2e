"""Classify image files.

Examples:
  keras-mixers predict out/model.keras cat.jpg photos/
  keras-mixers predict vit_tiny_patch16_224.augreg_in21k_ft_in1k cat.jpg --csv > classes.csv
"""

import contextlib
import csv
import json
import pathlib
import sys

from keras_mixers.commands.flags import MODEL, at_least, load_model


def add_flags(parser):
    """Add the flags of this command."""
    parser.add_argument("model", help=MODEL)
    parser.add_argument("files", nargs="+", help="image files, and folders of them")
    parser.add_argument("--top", type=at_least(1), default=5, help="most classes of an image")
    parser.add_argument("--batch-size", type=at_least(1), default=32, help="images in a batch")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="write one list of objects")
    form.add_argument("--csv", action="store_true", help="write a line for each image and class")


def run(args):
    """Print the most probable classes of each image; the progress goes to stderr."""
    import keras_mixers as km

    for file in args.files:
        if not pathlib.Path(file).exists():
            raise ValueError(f"FILES must exist. Received: {file}")
    with contextlib.redirect_stdout(sys.stderr):
        model = load_model(args.model)
        found = km.predict(model, args.files, top=args.top, batch_size=args.batch_size)
    if args.json:
        print(json.dumps([described(prediction) for prediction in found], indent=2))
    elif args.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(("file", "class", "probability"))
        writer.writerows((each.source, *pair) for each in found for pair in classes(each))
    else:
        print(*found, sep="\n")


def described(prediction):
    """A prediction as JSON."""
    pairs = [{"class": name, "probability": value} for name, value in classes(prediction)]
    return {"file": prediction.source, "classes": pairs}


def classes(prediction):
    """The names and probabilities of a prediction, the most probable first."""
    return zip(prediction.class_names, prediction.probabilities, strict=True)
