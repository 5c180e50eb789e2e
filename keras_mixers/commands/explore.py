"""Write a page that shows the attention, hidden units and kernels of a model on images.

Examples:
  keras-mixers explore out/model.keras digits explorer.html
  keras-mixers explore vit_small_patch14_dinov2 cat.jpg photos/ explorer.html --layers -1
"""

import itertools
import pathlib

from keras_mixers.commands.flags import MODEL, at_least, load_model


def add_flags(parser):
    """Add the flags of this command."""
    parser.add_argument("model", help=MODEL)
    parser.add_argument(
        "images",
        nargs="+",
        help="image files and folders of them, or the name of one dataset",
    )
    parser.add_argument("page", metavar="OUT.html", help="the page to write")
    parser.add_argument("--count", type=at_least(1), default=8, help="most images in the page")
    parser.add_argument(
        "--layers",
        nargs="+",
        metavar="LAYER",
        help="names or numbers of layers; all by default",
    )


def run(args):
    """Write the page."""
    import numpy as np

    import keras_mixers as km
    from keras_mixers.models.image_model import fact_of
    from keras_mixers.predicting.predict import check_preprocessing

    model = load_model(args.model)
    preprocessing = check_preprocessing(model, None)
    pictures = list(itertools.islice(read(args, preprocessing, model.input_shape[-1]), args.count))
    page = km.visualize.attention_explorer(
        model,
        np.asarray(preprocessing.normalize(np.stack(pictures))),
        args.page,
        layers=args.layers and [number_or_name(text) for text in args.layers],
        class_names=fact_of(model, "class_names"),
        pictures=pictures,
    )
    print(f"{page}: open it in a browser")


def read(args, preprocessing, channels):
    """The pictures of the files, or validation images of a dataset, in the size of the model."""
    import keras_mixers as km
    from keras_mixers.predicting.items import list_items
    from keras_mixers.predicting.read import read as read_items

    items = args.images
    if len(items) == 1 and not pathlib.Path(items[0]).exists():
        dataset = km.data.images(items[0]).take(args.count)
        items = [image for image, _ in dataset.as_numpy_iterator()]
    return read_items(list_items(items)[: args.count], preprocessing, channels)


def number_or_name(text):
    """`"-1"` as a number, and the name of a layer as it is."""
    return int(text) if text.lstrip("-").isdecimal() else text
