"""An HTML page in one file about an `Evaluation`."""

import os
import pathlib

from keras_mixers import arguments
from keras_mixers.data import Info
from keras_mixers.evaluation import Evaluation, MultiLabelEvaluation
from keras_mixers.visualize import evaluation_sections, html, label_sections
from keras_mixers.visualize.evaluation_figures import check_evaluation

SECTIONS = {
    Evaluation: evaluation_sections.sections,
    MultiLabelEvaluation: label_sections.sections,
}


def evaluation_report(
    evaluation: Evaluation | MultiLabelEvaluation,
    path: str | os.PathLike[str],
    info: Info | None = None,
    *,
    model_name: str | None = None,
) -> pathlib.Path:
    """Write an HTML page about an evaluation, to read in a browser, to send, or to print.

    The page is one file and needs no network. It shows the accuracy, a table of the classes that a
    click sorts, the confusion matrix (the most frequent confusions for more than 20 classes), the
    calibration, and the worst mistakes with their images, at most 48. For images with several
    labels it shows the average precision, and the false positives and negatives of each label.

    Args:
        evaluation: the return value of `km.evaluate`.
        path: path of the file, ending in `.html`. The function writes the whole file or nothing.
        info: the `Info` of the dataset. It gives the name of the dataset, and its preprocessing
            turns the images back into pictures. Without it, values outside 0..1 are rescaled.
        model_name: the name of the model, for the title.

    Returns:
        The path.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it.
        OSError: if the file cannot be written; an existing file at `path` stays unchanged.

    Example:
        >>> import keras, keras_mixers as km, tempfile
        >>> _, validation, info = km.data.load("digits")
        >>> layers = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
        >>> evaluation = km.evaluate(keras.Sequential(layers), validation, info)
        >>> page = tempfile.mkdtemp() + "/report.html"
        >>> evaluation_report(evaluation, page, info, model_name="linear").name
        'report.html'
    """
    check_evaluation(evaluation, tuple(SECTIONS))
    path = arguments.file_path(path, ".html")
    check_info(info, evaluation)
    title = title_of(info, model_name)
    body = SECTIONS[type(evaluation)](evaluation, info)
    html.write_page("evaluation_report.html", path, title, body)
    return path


def check_info(info, evaluation):
    """Raise an error unless `info` is None or describes the dataset of the evaluation."""
    if info is None:
        return
    if not isinstance(info, Info):
        raise TypeError(f"`info` must be the Info of the dataset. {arguments.received(info=info)}")
    if tuple(info.class_names) != tuple(evaluation.class_names):
        raise ValueError(
            "`info` must have the class names of `evaluation`."
            f" {arguments.received(info=info.class_names, evaluation=evaluation.class_names)}"
        )


def title_of(info, model_name):
    """The title of the page."""
    of_model = "" if model_name is None else f" of {arguments.text('model_name', model_name)}"
    return f"Evaluation{of_model}{'' if info is None else f' on {info.name}'}"
