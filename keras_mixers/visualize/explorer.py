"""One page, in one file, on which people look inside a model by themselves."""

import base64
import io
import json
import os
import pathlib
from collections.abc import Sequence

import keras
import numpy as np

from keras_mixers import arguments, files
from keras_mixers.probe.attention import Layers
from keras_mixers.probe.collect import check_images
from keras_mixers.probe.grid import prefix_names
from keras_mixers.probe.outputs import kind_of_output, predict
from keras_mixers.visualize.canvas import DIVERGING, SEQUENTIAL, background
from keras_mixers.visualize.views import encoded, finite, views_of

LONGEST_SIDE = 384  # of a picture, in pixels


def attention_explorer(
    model: keras.Model,
    images: np.ndarray,
    path: str | os.PathLike,
    layers: Layers = None,
    *,
    class_names: Sequence[str] | None = None,
    pictures: Sequence[np.ndarray] | None = None,
) -> pathlib.Path:
    """Write a page that shows what each part of a model sees: one HTML file, which fetches nothing.

    One chooses image, layer and head; the attention of the patch under the pointer lies over the
    image, its weights in figures beside it; rollout, relevance and the prediction are there too.
    Token-mixing layers show their hidden units instead, ConvMixer blocks their kernels. It works by
    mouse, by touch and by keyboard.

    Weights are kept in 16 bits of the largest in their row, of which 8 colour the map. Where all
    of them would take more than 4 MB, neighbouring patches are taken together: their weights as
    keys added, as queries averaged; fewer `layers` show more.

    Args:
        model: as for `km.attention_maps`, with one `PatchEmbed`.
        images: `(N, H, W, C)`, as the model takes them.
        path: of the file, ending in `.html`; it is written whole or not at all.
        layers: names or numbers among its attention, token-mixing and ConvMixer layers; `None` for
            all, and where attention alone mixes tokens for rollout and relevance (of the class that
            the model predicts).
        class_names: one for each output, for the prediction.
        pictures: one for each image, what to lay the maps over, as for `plot_attention`.

    Returns:
        The path.

    Raises:
        ValueError, TypeError: the model has no such layer or is not finite, images, names or
            pictures do not fit, or `path` does not end in `.html` or lies in no folder.
        OSError: the file cannot be written; what was at `path` stays.

    Example:
        >>> import tempfile
        >>> from keras_mixers import ViT
        >>> model = ViT("Ti/16", input_shape=(32, 32, 3), depth=1, num_classes=10)
        >>> page = tempfile.mkdtemp() + "/explorer.html"
        >>> attention_explorer(model, np.zeros((1, 32, 32, 3)), page).name
        'explorer.html'
    """
    path = arguments.file_path(path, ".html")
    check_images(model, images)
    images = np.asarray(images)
    if pictures is not None and len(pictures) != len(images):
        raise ValueError(
            f"`pictures` must be one for each of the {len(images)} images. Received:"
            f" {len(pictures)}"
        )
    probabilities = predictions(model, images, class_names)
    shown = [
        background(model, image, None if pictures is None else pictures[i])
        for i, image in enumerate(images)
    ]
    classes = [likeliest[0][0] for likeliest in probabilities if likeliest]
    views, grid = views_of(model, images, layers, classes)
    page = {
        "title": f"Inside {model.name}",
        "grid": {"rows": grid.rows, "columns": grid.columns, "prefix": grid.num_prefix},
        "prefix_names": prefix_names(model, grid.num_prefix),
        "colours": {"up": colour_map(SEQUENTIAL), "both": colour_map(DIVERGING)},
        "images": [
            {**picture_of(picture), "probabilities": likeliest}
            for picture, likeliest in zip(shown, probabilities, strict=True)
        ],
        "views": views,
    }
    template = pathlib.Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    # No text of the user's can end the script element it stands in.
    text = json.dumps(page).replace("<", "\\u003c")
    with files.replacing(path) as temporary:
        temporary.write_text(template.replace("%DATA%", text), encoding="utf-8")
    return path


def predictions(model, images, class_names):
    """The likeliest classes of each image: `[[(name, probability), ...], ...]`; none of no classes.

    Raises:
        ValueError: the names are not one for each class, or there are no classes.
    """
    if kind_of_output(model) is None:
        if class_names is not None:
            raise ValueError(
                "`class_names` must be None for a model that does not end in logits or a softmax."
                f" Received: class_names={class_names!r} for '{model.name}'"
            )
        return [[] for _ in images]
    names = arguments.class_names(class_names, model.output_shape[-1])
    scores = finite(predict(model, images, batch_size=32))
    likeliest = np.argsort(-scores, axis=1)[:, :5]
    return [
        [(names[i] if names else f"class {i}", float(row[i])) for i in best]
        for row, best in zip(scores, likeliest, strict=True)
    ]


def picture_of(picture):
    """A picture as a page holds it: `{src, width, height}`."""
    from PIL import Image

    drawn = Image.fromarray(np.round(255 * picture).astype("uint8"))
    drawn.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    file = io.BytesIO()
    drawn.save(file, "PNG", optimize=True)
    return {
        "src": "data:image/png;base64," + base64.b64encode(file.getvalue()).decode(),
        "width": picture.shape[1],
        "height": picture.shape[0],
    }


def colour_map(name):
    """256 colours of a matplotlib map, three bytes each."""
    from matplotlib import colormaps

    return encoded(np.round(255 * colormaps[name](np.arange(256))[:, :3]), "uint8")
