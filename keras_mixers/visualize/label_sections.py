"""The sections of a page about a `MultiLabelEvaluation`, for images with several labels."""

import numpy as np

from keras_mixers.visualize import html
from keras_mixers.visualize.mistake_pictures import MOST_PICTURES, mistake_picture, mistakes_section
from keras_mixers.visualize.reliability import reliability_diagram


def sections(evaluation, info):
    """The page without its title; `info` is an `Info` or None."""
    parts = (
        headline(evaluation),
        labels(evaluation),
        calibration(evaluation),
        mistakes(
            evaluation,
            info,
            "Worst false positives",
            "wrong labels: those with the largest probabilities.",
            evaluation.false_positives,
            int(evaluation.confusion[:, 0, 1].sum()),
        ),
        mistakes(
            evaluation,
            info,
            "Worst false negatives",
            "missed labels: those with the smallest probabilities.",
            evaluation.false_negatives,
            int(evaluation.confusion[:, 1, 0].sum()),
        ),
    )
    return "\n".join(parts)


def headline(evaluation):
    """The most important numbers."""
    mean = evaluation.mean_average_precision
    return html.tiles(
        {
            "mean average precision": "no labels" if np.isnan(mean) else html.percent(mean),
            "exact match": html.percent(evaluation.exact_match),
            "label accuracy": html.percent(evaluation.label_accuracy.mean()),
            "calibration error": html.percent(evaluation.calibration_error),
            "images": f"{evaluation.num_images:,}",
            "labels": f"{len(evaluation.class_names):,}",
        }
    )


def labels(evaluation):
    """A table with a row for each label."""
    rows = [
        (
            html.name_cell(name),
            html.number_cell(evaluation.counts[number]),
            html.share_cell(evaluation.average_precision[number], "no images"),
            html.share_cell(evaluation.recall[number], "no images"),
            html.share_cell(evaluation.precision[number], "never predicted"),
            html.number_cell(evaluation.confusion[number, 0, 1]),
            html.number_cell(evaluation.confusion[number, 1, 0]),
            html.number_cell(number),
        )
        for number, name in enumerate(evaluation.class_names)
    ]
    headings = {
        "label": "text",
        "images": "number",
        "average precision": "number",
        "recall": "number",
        "precision": "number",
        "false positives": "number",
        "false negatives": "number",
        "label number": "number",
    }
    return html.section(
        "Labels",
        "<p>Average precision needs no threshold. Recall is the share of the images with the label"
        " that the model finds. Precision is the share of its predictions that are correct. Both"
        " are for a probability above 0.5. A heading sorts the table.</p>",
        html.sortable_table("Numbers of each label", headings, rows),
    )


def calibration(evaluation):
    """The reliability diagram, and what it says."""
    counts = evaluation.bin_counts
    mean = np.nansum(evaluation.bin_probabilities * counts) / counts.sum()
    share = np.nansum(evaluation.bin_accuracies * counts) / counts.sum()
    return html.section(
        "Calibration",
        f"<p>On average, a label has a probability of {html.percent(mean)}, and an image has"
        f" {html.percent(share)} of the labels. Bars that end on the dashed line are calibrated. A"
        " dot is the mean probability of a bar.</p>",
        reliability_diagram(
            counts,
            evaluation.bin_probabilities,
            evaluation.bin_accuracies,
            names=("fraction with the label", "images and labels", "probability of a label"),
            logarithmic=True,  # because most labels of an image are absent
        ),
    )


def mistakes(evaluation, info, title, kind, found, number):
    """The images of one kind of mistake, of which the evaluation counted a number."""
    items = []
    for each in found[:MOST_PICTURES]:
        name = html.text(evaluation.class_names[each.label])
        caption = f'<span class="wrong">{name} ({html.percent(each.probability)})</span>'
        items.append(mistake_picture(each, info, caption))
    return mistakes_section(title, kind, items, number)
