"""Execute the notebooks, and write each with its outputs next to its source.

    pip install -e ".[notebooks]"
    python examples/notebooks/convert.py                    # all seven
    python examples/notebooks/convert.py 2_vit 3_mlp_mixer  # some of them
    python examples/notebooks/convert.py --text             # only text has changed

A source is a Python file in the percent format of jupytext: `# %%` begins a cell of code, and
`# %% [markdown]` a cell of text. Edit the sources and not the .ipynb files. On 2 CPU cores the
training in a notebook takes some minutes.
"""

import argparse
import base64
import io
import os
import pathlib
import re
import sys

import jupytext
import nbclient
import nbformat
import numpy as np
from PIL import Image, ImageSequence

FOLDER = pathlib.Path(__file__).parent
SOURCES = sorted(FOLDER.glob("[0-9]_*.py"))
# Only what other programs need, so that two runs of this script differ as little as possible.
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
PROGRESS = re.compile(r"(.+: .+ \(\d+ s\)\n)+")  # what a slow `km.export` writes to stderr
# The log lines that TensorFlow's C++ code writes when it is imported go to the terminal.
KERNEL_ARGUMENTS = ["--IPKernelApp.capture_fd_output=False", "--IPKernelApp.log_level=40"]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    names = [source.stem for source in SOURCES]
    parser.add_argument(
        "names", nargs="*", default=names, metavar="name", help=f"some of {', '.join(names)}"
    )
    parser.add_argument(
        "--text", action="store_true", help="change only the cells of text, and execute nothing"
    )
    args = parser.parse_args()
    unknown = sorted(set(args.names) - set(names))
    if unknown:
        parser.error(f"names must be some of {', '.join(names)}. Received: {', '.join(unknown)}")
    return args


def convert(source):
    """Execute a source and write its .ipynb file."""
    notebook = notebook_of(source)
    execute(notebook, source.parent)
    clean(notebook)
    return write(notebook, source)


def change_text(source):
    """Write the .ipynb file of a source with the outputs that it has.

    Raises:
        ValueError: if the code has changed since they were computed.
    """
    notebook = notebook_of(source)
    new = [cell for cell in notebook.cells if cell.cell_type == "code"]
    before = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    old = [cell for cell in before.cells if cell.cell_type == "code"]
    if [cell.source for cell in new] != [cell.source for cell in old]:
        raise ValueError(f"--text must not be given if code has changed. Received: {source.name}")
    for cell, executed in zip(new, old, strict=True):
        cell.update(outputs=executed.outputs, execution_count=executed.execution_count)
    return write(notebook, source)


def write(notebook, source):
    """Write a notebook next to its source, whole or not at all; return the path."""
    path = source.with_suffix(".ipynb")
    temporary = path.with_suffix(".tmp")
    nbformat.write(notebook, temporary)
    temporary.replace(path)
    return path


def notebook_of(source):
    """The notebook of a source, without outputs."""
    notebook = jupytext.read(source, fmt="py:percent")
    notebook.metadata = nbformat.from_dict(METADATA)
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i}"  # jupytext's are random
    return notebook


def execute(notebook, folder):
    """Execute a notebook in a folder, in place.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell raises an error.
    """
    resources = {"metadata": {"path": str(folder)}}
    client = nbclient.NotebookClient(
        notebook, timeout=None, kernel_name="python3", resources=resources, record_timing=False
    )
    client.extra_arguments = KERNEL_ARGUMENTS
    client.execute()


def clean(notebook):
    """Shrink the pictures of an executed notebook, and remove what differs between machines.

    Raises:
        ValueError: if a cell has written to stderr something else than progress, such as a warning.
    """
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if not is_progress(output)]
    for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
        if output.get("name") == "stderr":
            raise ValueError(f"A cell must not write to stderr. Received: {output.text}")
        data = output.get("data", {})
        if "image/png" in data:
            data["image/png"] = smaller(data["image/png"])
            output.metadata = nbformat.from_dict({})
        if "image/gif" in data:
            data["image/gif"] = smaller_animation(data["image/gif"])
        if any(kind.startswith("image/") for kind in data):
            data.pop("text/plain", None)  # "<Figure size 640x480 with 4 Axes>"


def is_progress(output):
    return output.get("name") == "stderr" and PROGRESS.fullmatch(output.text)


def smaller(png):
    """A picture in base64 with a palette of 256 colours, which takes a third of the bytes."""
    file = io.BytesIO()
    with_palette(opened(png).convert("RGB"), 256).save(file, "png", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def smaller_animation(gif):
    """A GIF in base64 whose frames share 128 colours, so that a frame stores only what changes."""
    animation = opened(gif)
    frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(animation)]
    strip = Image.fromarray(np.concatenate(frames))
    palette = with_palette(strip, 128)
    frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    file = io.BytesIO()
    duration = animation.info["duration"]
    frames[0].save(file, "gif", save_all=True, append_images=frames[1:], duration=duration, loop=0)
    return base64.b64encode(file.getvalue()).decode()


def opened(data):
    return Image.open(io.BytesIO(base64.b64decode(data)))


def with_palette(picture, colours):
    """The method is `MAXCOVERAGE`, because the default gives a colour bar only a few colours."""
    return picture.quantize(colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)


def main():
    args = parse_arguments()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # the kernel inherits it
    for name in args.names:
        path = (change_text if args.text else convert)(FOLDER / f"{name}.py")
        print(f"wrote {path.relative_to(FOLDER)}, {path.stat().st_size // 1000} kB", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nconvert.py: interrupted")
    except (ValueError, OSError) as error:
        sys.exit(f"convert.py: {error}")
