"""A reliability diagram as SVG, in the colours of the page around it."""

import numpy as np

LEFT, WIDTH = 54, 458  # of the diagrams, in units of the drawing
TOP, HEIGHT = 12, 260  # of the upper diagram
COUNTS_TOP, COUNTS_HEIGHT = TOP + HEIGHT + 30, 70
TOTAL = (LEFT + WIDTH + 28, COUNTS_TOP + COUNTS_HEIGHT + 44)
NAMES = ("accuracy", "images", "probability of the predicted class")


def reliability_diagram(counts, probabilities, accuracies, names=NAMES, logarithmic=False):
    """The accuracy of predictions by their probability, and the numbers of predictions.

    Args:
        counts: `(bins,)`, predictions in each bin.
        probabilities: `(bins,)`, mean probability of a bin; NaN without predictions.
        accuracies: `(bins,)`, fraction of correct predictions of a bin; NaN without predictions.
        names: what `accuracies`, `counts` and `probabilities` are.
        logarithmic: whether the bars of the counts are logarithmic.
    """
    width = WIDTH / len(counts)
    heights = np.log1p(counts) if logarithmic else counts
    parts = [frame(TOP, HEIGHT), frame(COUNTS_TOP, COUNTS_HEIGHT)]
    for i in np.flatnonzero(counts):
        left = LEFT + i * width
        title = (
            f"<title>{names[1]}: {counts[i]:,}, mean probability: {probabilities[i]:.1%},"
            f" {names[0]}: {accuracies[i]:.1%}</title>"
        )
        height = HEIGHT * accuracies[i]
        parts.append(bar(left, TOP + HEIGHT - height, width, height, title))
        height = COUNTS_HEIGHT * heights[i] / max(heights)
        parts.append(bar(left, COUNTS_TOP + COUNTS_HEIGHT - height, width, height, title))
    parts.append(f'<line x1="{LEFT}" y1="{TOP + HEIGHT}" x2="{LEFT + WIDTH}" y2="{TOP}"/>')
    for i in np.flatnonzero(counts):
        x, y = LEFT + WIDTH * probabilities[i], TOP + HEIGHT * (1 - accuracies[i])
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
    scale = "logarithmic, " if logarithmic else ""
    for fraction in (0, 0.25, 0.5, 0.75, 1):
        y = TOP + HEIGHT * (1 - fraction) + 4
        parts.append(label(LEFT - 6, y, f"{fraction:.0%}", "end"))
        x = LEFT + WIDTH * fraction
        parts.append(label(x, COUNTS_TOP + COUNTS_HEIGHT + 16, f"{fraction:.0%}", "middle"))
    parts += [
        label(LEFT + 6, TOP + 16, names[0], "start"),
        label(LEFT, COUNTS_TOP - 6, f"{names[1]} ({scale}at most {max(counts):,})", "start"),
        label(LEFT + WIDTH / 2, TOTAL[1] - 8, names[2], "middle"),
    ]
    return (
        f'<svg viewBox="0 0 {TOTAL[0]} {TOTAL[1]}" role="img"'
        f' aria-label="{names[0]} by {names[2]}">{"".join(parts)}</svg>'
    )


def frame(top, height):
    """The border of a diagram."""
    return f'<rect x="{LEFT}" y="{top}" width="{WIDTH}" height="{height}"/>'


def bar(left, top, width, height, title):
    """A bar with a title that the pointer shows."""
    return (
        f'<rect class="bars" x="{left + 1:.1f}" y="{top:.1f}" width="{width - 2:.1f}"'
        f' height="{height:.1f}">{title}</rect>'
    )


def label(x, y, content, anchor):
    """A text at a place."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{content}</text>'
