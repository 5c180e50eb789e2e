"""The sections of a page about an `Evaluation`, for images with one class."""

import numpy as np

from keras_mixers.visualize import html
from keras_mixers.visualize.evaluation_figures import MOST_NUMBERED
from keras_mixers.visualize.mistake_pictures import MOST_PICTURES, mistake_picture, mistakes_section
from keras_mixers.visualize.reliability import reliability_diagram

MOST_PAIRS = 30  # of a true and a predicted class
DEEP = 0.85  # opacity of a cell from which its text is white


def sections(evaluation, info):
    """The page without its title; `info` is an `Info` or None."""
    parts = (
        headline(evaluation),
        classes(evaluation),
        confusions(evaluation),
        calibration(evaluation),
        mistakes(evaluation, info),
    )
    return "\n".join(parts)


def headline(evaluation):
    """The most important numbers."""
    values = {"accuracy": html.percent(evaluation.accuracy)}
    if evaluation.top5_accuracy is not None:
        values["top-5 accuracy"] = html.percent(evaluation.top5_accuracy)
    values["calibration error"] = html.percent(evaluation.calibration_error)
    values["images"] = f"{evaluation.num_images:,}"
    values["mistakes"] = f"{num_mistakes(evaluation):,}"
    values["classes"] = f"{len(evaluation.class_names):,}"
    return html.tiles(values)


def classes(evaluation):
    """A table with a row for each class."""
    off = off_diagonal(evaluation)
    rows = []
    for number, name in enumerate(evaluation.class_names):
        other = int(off[number].argmax())
        count = off[number, other]
        mistaken = (
            (html.name_cell(evaluation.class_names[other], tag="td"), html.number_cell(count))
            if count
            else (html.missing_cell("none", "name"), html.number_cell(0))
        )
        rows.append(
            (
                html.name_cell(name),
                html.number_cell(evaluation.counts[number]),
                html.share_cell(evaluation.recall[number], "no images"),
                html.share_cell(evaluation.precision[number], "never predicted"),
                *mistaken,
                html.number_cell(number),
            )
        )
    headings = {
        "class": "text",
        "images": "number",
        "recall": "number",
        "precision": "number",
        "most often mistaken for": "text",
        "times": "number",
        "class number": "number",
    }
    return html.section(
        "Classes",
        "<p>Recall is the share of the images of a class that the model finds. Precision is the"
        " share of its predictions of the class that are correct. A heading sorts the table.</p>",
        html.sortable_table("Numbers of each class", headings, rows),
    )


def confusions(evaluation):
    """The confusion matrix, or the most frequent confusions of many classes."""
    if len(evaluation.class_names) <= MOST_NUMBERED:
        return html.section(
            "Confusion matrix",
            "<p>Numbers of images. The stronger the colour, the larger is the share of the images"
            " of the true class. Blue is correct, and orange is a mistake.</p>",
            html.scrollable("Confusion matrix", matrix(evaluation)),
        )
    off, names = off_diagonal(evaluation), evaluation.class_names
    order = np.argsort(-off, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = [divmod(int(flat), len(off)) for flat in order if off.flat[flat]]
    rows = [
        (
            html.name_cell(names[true]),
            html.name_cell(names[predicted], tag="td"),
            html.number_cell(off[true, predicted]),
            html.share_cell(off[true, predicted] / evaluation.counts[true], "no images"),
        )
        for true, predicted in pairs
    ]
    headings = {
        "true class": "text",
        "predicted class": "text",
        "images": "number",
        "share of the true class": "number",
    }
    return html.section(
        "Most frequent confusions",
        html.sortable_table("Most frequent confusions", headings, rows)
        if rows
        else "<p>The model made no mistakes.</p>",
    )


def matrix(evaluation):
    """The confusion matrix as a table: a row for each true class."""
    names = [html.text(name) for name in evaluation.class_names]
    top = "".join(f'<th scope="col"><span>{name}</span></th>' for name in names)
    rows = []
    for true, name in enumerate(names):
        cells = (cell(evaluation, true, predicted) for predicted in range(len(names)))
        rows.append(f'<tr><th scope="row">{name}</th>{"".join(cells)}</tr>')
    return (
        f'<table class="confusion"><thead><tr><td>true ↓ predicted →</td>{top}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def cell(evaluation, true, predicted):
    """A cell of the confusion matrix, empty for 0 images."""
    count = evaluation.confusion[true, predicted]
    if not count:
        return "<td></td>"
    # The square root makes rare mistakes visible.
    opacity = (count / evaluation.counts[true]) ** 0.5
    hue = "good" if true == predicted else "bad"
    deep = ' class="deep"' if opacity > DEEP else ""
    return f'<td{deep} style="--hue:var(--{hue});--v:{opacity:.2f}">{count:,}</td>'


def calibration(evaluation):
    """The reliability diagram, and what it says."""
    counts = evaluation.bin_counts
    mean = np.nansum(evaluation.bin_probabilities * counts) / evaluation.num_images
    kind = "overconfident" if mean > evaluation.accuracy else "underconfident"
    return html.section(
        "Calibration",
        f"<p>On average, the predicted class has a probability of {html.percent(mean)}, and"
        f" {html.percent(evaluation.accuracy)} of the images are correct: the model is {kind} by"
        f" {100 * abs(mean - evaluation.accuracy):.1f} points. Bars that end on the dashed line"
        " are calibrated. A dot is the mean probability of a bar.</p>",
        reliability_diagram(counts, evaluation.bin_probabilities, evaluation.bin_accuracies),
    )


def mistakes(evaluation, info):
    """The images of the worst mistakes."""
    items = []
    for each in evaluation.mistakes[:MOST_PICTURES]:
        true, predicted = (
            html.text(evaluation.class_names[number])
            for number in (each.true_class, each.predicted_class)
        )
        caption = (
            f'<span class="wrong">predicted: {predicted} ({html.percent(each.probability)})</span>'
            f"<span>true: {true}</span>"
        )
        items.append(mistake_picture(each, info, caption))
    return mistakes_section(
        "Worst mistakes",
        "mistakes: those with the largest probability of the predicted class. A wrong label in the"
        " dataset looks like this too.",
        items,
        num_mistakes(evaluation),
    )


def num_mistakes(evaluation):
    """How many images the model predicts wrongly."""
    return int(evaluation.num_images - evaluation.confusion.trace())


def off_diagonal(evaluation):
    """The confusion matrix without the correct images."""
    return evaluation.confusion - np.diag(evaluation.confusion.diagonal())
