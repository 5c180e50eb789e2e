"""The parts of an HTML page that reports numbers: texts, tables, tiles and pictures.

Each function returns HTML in which the texts of the user are escaped.
"""

import html
import pathlib
import re

import numpy as np

from keras_mixers import files

LONGEST_NAME, LONGEST_TITLE = 80, 400  # characters
SMALL = 64  # pixels; a smaller picture is enlarged with sharp edges


def text(value, longest=LONGEST_NAME):
    """A text of the user as HTML, isolated in its direction."""
    line = html.escape(one_line(value, longest))
    return f"<bdi>{line}</bdi>" if line else '<span class="none">no name</span>'


def one_line(value, longest):
    """A text without line breaks and control characters, cut to a length, as UTF-8 can hold it."""
    line = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", value).split())
    line = line.encode("utf-8", "replace").decode()
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def section(title, *parts):
    """A section of the page with a heading."""
    return f"<section>\n<h2>{title}</h2>\n" + "\n".join(parts) + "\n</section>"


def tiles(values):
    """The most important numbers, `{label: value}`, each in a frame."""
    shown = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in values.items())
    return f"<dl>{shown}</dl>"


def name_cell(name, tag="th"):
    """A cell with the name of a class; a `th` is the heading of its row."""
    scope = ' scope="row"' if tag == "th" else ""
    value = html.escape(one_line(name, LONGEST_NAME))
    return f'<{tag}{scope} class="name" data-value="{value}">{text(name)}</{tag}>'


def number_cell(number):
    """A cell with an integer."""
    return f'<td data-value="{number}">{number:,}</td>'


def share_cell(fraction, missing):
    """A cell with a fraction and a bar of its length; `missing` is the text in place of NaN."""
    if np.isnan(fraction):
        return missing_cell(missing)
    bar = f'<span class="bar" style="--v:{fraction:.3f}">{percent(fraction)}</span>'
    return f'<td data-value="{fraction:.6f}">{bar}</td>'


def missing_cell(reason, kind="number"):
    """A cell without a value, which says why; sorted after all others."""
    return f'<td class="{kind}"><span class="none">{reason}</span></td>'


def sortable_table(label, headings, rows):
    """A table whose rows a click on a heading sorts.

    Args:
        label: what the table shows, for screen readers.
        headings: `{title: "text" or "number"}`.
        rows: cells, as the functions above return them.
    """
    titles = "".join(
        f'<th scope="col" aria-sort="none" data-kind="{kind}"'
        f'{" class=name" if kind == "text" else ""}><button type="button">{title}</button></th>'
        for title, kind in headings.items()
    )
    body = "\n".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return scrollable(
        label,
        f'<table class="sortable"><thead><tr>{titles}</tr></thead>\n<tbody>{body}</tbody></table>',
    )


def scrollable(label, content):
    """A frame that scrolls, also by the keyboard."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{label}">{content}</div>'


def picture(source, alt, caption):
    """A picture of `picture_of` with text below, as an item of `pictures`."""
    is_small = max(source["width"], source["height"]) < SMALL
    return (
        f'<li><img src="{source["src"]}" alt="{alt}"{" class=small" if is_small else ""}>'
        f"{caption}</li>"
    )


def pictures(items):
    """A grid of pictures."""
    return f'<ul class="pictures">{"".join(items)}</ul>'


def percent(fraction):
    """A fraction as text."""
    return f"{fraction:.1%}"


def write_page(template, path, title, body):
    """Fill a template next to this file, and write the page: the whole file or nothing."""
    page = (pathlib.Path(__file__).parent / template).read_text(encoding="utf-8")
    body = f"<h1>{text(title, LONGEST_TITLE)}</h1>\n{body}"
    # In one pass, because a text of the user may look like a placeholder.
    values = {"%TITLE%": html.escape(one_line(title, LONGEST_TITLE)), "%BODY%": body}
    files.write_text(path, re.sub("%TITLE%|%BODY%", lambda found: values[found[0]], page))
