"""An HTML page in one file, for interactive exploration of a model."""

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
from keras_mixers.probe.grid import prefix_names
from keras_mixers.probe.images import check_images
from keras_mixers.probe.outputs import is_classifier, predict
from keras_mixers.probe.scale import scale_checked, warn_of_bytes
from keras_mixers.visualize.canvas import DIVERGING, SEQUENTIAL, background
from keras_mixers.visualize.views import encoded, finite, views_of

LONGEST_SIDE = 384  # of a picture in the page, in pixels


def attention_explorer(
    model: keras.Model,
    images: np.ndarray,
    path: str | os.PathLike[str],
    layers: Layers = None,
    *,
    class_names: Sequence[str] | None = None,
    pictures: Sequence[np.ndarray] | None = None,
) -> pathlib.Path:
    """Write an interactive HTML page that shows the attention, hidden units and kernels of a model.

    The page is one file and needs no network. The user chooses an image, a layer and a head. The
    attention of the patch under the pointer then covers the image, and the page shows its weights
    as numbers. The page also shows rollout, relevance and the predicted classes. Of a token-mixing
    layer it shows the hidden units, and of a ConvMixer block the kernels. It supports mouse, touch
    and keyboard.

    The page stores each attention weight as a 16-bit fraction of the largest weight in its row.
    If the weights of all layers exceed 4 MB, the function merges neighbouring patches into square
    cells. It sums the weights over the keys of a cell and averages them over the queries. Choose
    fewer `layers` for a finer grid.

    Args:
        model: as for `km.attention_maps`, with one `PatchEmbed`.
        images: `(N, H, W, C)`, in the value range that the model expects.
        path: path of the file, ending in `.html`. The function writes the whole file or nothing.
        layers: names or numbers among the model's attention, token-mixing and ConvMixer layers, or
            `None` for all. With `None` the page also has rollout, and relevance for the predicted
            class, if `km.attention_rollout` accepts the model.
        class_names: one name for each class, for the predictions.
        pictures: one picture for each image, as the background of the maps; see `plot_attention`.

    Returns:
        The path.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it.
        ValueError: if the model has none of these layers, or if its weights or outputs are not
            finite.
        OSError: if the file cannot be written; an existing file at `path` stays unchanged.

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
    warn_of_bytes(model, images)
    images = np.asarray(images)
    if pictures is None:
        pictures = [None] * len(images)
    else:
        expected = f"`pictures` must be one for each of the {len(images)} images, in a sequence"
        pictures = arguments.sequence("pictures", pictures, len(images), expected)
        if len(pictures) != len(images):
            count = "more" if len(pictures) > len(images) else len(pictures)
            raise ValueError(f"{expected}. Received: {count}")
    probabilities = predictions(model, images, class_names)
    shown = [
        background(model, image, picture, f"pictures[{i}]")
        for i, (image, picture) in enumerate(zip(images, pictures, strict=True))
    ]
    classes = [best[0][0] for best in probabilities if best]
    with scale_checked():
        views, grid = views_of(model, images, layers, classes)
    page = {
        "title": f"Inside {model.name}",
        "grid": {"rows": grid.rows, "columns": grid.columns, "prefix": grid.num_prefix},
        "prefix_names": prefix_names(model, grid.num_prefix),
        "colours": {"sequential": colour_map(SEQUENTIAL), "diverging": colour_map(DIVERGING)},
        "images": [
            {**picture_of(picture), "probabilities": best}
            for picture, best in zip(shown, probabilities, strict=True)
        ],
        "views": views,
    }
    template = pathlib.Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    # Escape "<", because a class name with "</script>" would end the script element.
    text = json.dumps(page).replace("<", "\\u003c")
    with files.replacing(path) as temporary:
        temporary.write_text(template.replace("%DATA%", text), encoding="utf-8")
    return path


def predictions(model, images, class_names):
    """The five most probable classes of each image: `[[(name, probability), ...], ...]`.

    The inner lists are empty if the model is not a classifier.

    Raises:
        ValueError: if there is not one name for each class, or the model is not a classifier and
            `class_names` is not `None`.
    """
    if not is_classifier(model):
        if class_names is not None:
            raise ValueError(
                "`class_names` must be None for a model that does not end in logits or a softmax."
                f" Received: class_names={arguments.shown(class_names)} for '{model.name}'"
            )
        return [[] for _ in images]
    names = arguments.class_names(class_names, model.output_shape[-1])
    scores = finite(predict(model, images, batch_size=32))
    best = np.argsort(-scores, axis=1)[:, :5]
    return [
        [(names[i] if names else f"class {i}", float(row[i])) for i in indices]
        for row, indices in zip(scores, best, strict=True)
    ]


def picture_of(picture):
    """A picture as data for the page: `{src, width, height}`."""
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
    """256 colours of a matplotlib colour map, three bytes each, as Base64 text."""
    from matplotlib import colormaps

    return encoded(np.round(255 * colormaps[name](np.arange(256))[:, :3]), "uint8")
