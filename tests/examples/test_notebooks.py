"""The notebooks: the sources run at toy size, and the .ipynb files are the sources with outputs."""

import ast

import matplotlib.pyplot as plt
import nbformat
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from run_example import load_example

convert = load_example("notebooks/convert")
every_notebook = pytest.mark.parametrize("source", convert.SOURCES, ids=lambda path: path.stem)

# A notebook's cell with the tag "parameters" names its sizes. A test uses these values instead.
TOY = {
    "DATASET": "digits",
    "IMAGE_SIZE": 8,  # pixels
    "PATCH_SIZE": 2,  # pixels
    "PATCH_SIZES": (1, 2, 4),  # pixels
    "DEPTH": 1,
    "TRAININGS": 1,
    "EPOCHS": 1,
    "IMAGE": 0,
}
MOST_BYTES = 450_000
MACHINE = ("/home", "/root", "/tmp", "/usr", "site-packages")


@pytest.mark.slow
@every_notebook
def test_notebook_runs_at_toy_size(source, tmp_path, monkeypatch, digits_folder):
    figures = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", lambda: show_open(figures))
    names = {}
    for cell in code_cells(convert.notebook_of(source)):
        show(run_cell(cell.source, names), figures)
        if "parameters" in cell.metadata.get("tags", ()):
            names.update({name: TOY[name] for name in names if name.isupper()})
    assert len(figures) == len(list(outputs(committed(source), "image/png")))


@every_notebook
def test_notebook_file_is_its_source(source):
    expected = convert.notebook_of(source)
    for cell, of_source in zip(committed(source).cells, expected.cells, strict=True):
        for key in ("id", "cell_type", "source", "metadata"):
            assert cell[key] == of_source[key], f"run {convert.__file__} {source.stem}"


@every_notebook
def test_notebook_outputs_are_complete_and_clean(source):
    notebook = committed(source)
    numbers = [cell.execution_count for cell in code_cells(notebook)]
    assert numbers == list(range(1, len(numbers) + 1))
    texts = [*outputs(notebook, "text"), *outputs(notebook, "text/plain")]
    assert not [text for text in texts if any(path in text for path in MACHINE)]
    assert notebook.metadata == convert.METADATA
    assert source.with_suffix(".ipynb").stat().st_size < MOST_BYTES
    convert.clean(notebook)  # raises if a cell has written to stderr


@pytest.mark.slow
def test_convert_writes_outputs_of_cells(tmp_path):
    source = tmp_path / "0_source.py"
    picture = "from PIL import Image\n\nImage.new('RGB', (8, 8), 'red')"
    source.write_text(f"# %% [markdown]\n# Text\n\n# %%\nprint(6 * 7)\n\n# %%\n{picture}\n")
    notebook = nbformat.read(convert.convert(source), as_version=4)
    assert [cell.cell_type for cell in notebook.cells] == ["markdown", "code", "code"]
    assert list(outputs(notebook, "text")) == ["42\n"]
    assert len(list(outputs(notebook, "image/png"))) == 1
    assert not list(outputs(notebook, "text/plain"))
    assert not [cell.metadata for cell in notebook.cells if cell.metadata]
    assert {path.name for path in tmp_path.iterdir()} == {"0_source.py", "0_source.ipynb"}

    source.write_text(source.read_text().replace("# Text", "# Other text"))
    changed = nbformat.read(convert.change_text(source), as_version=4)
    assert changed.cells[0].source == "Other text"
    assert changed.cells[1:] == notebook.cells[1:]
    source.write_text(source.read_text().replace("6 * 7", "6 * 8"))
    with pytest.raises(ValueError, match=r"Received: 0_source\.py"):
        convert.change_text(source)


def test_clean_removes_progress_and_refuses_warnings():
    progress = "out/vit.onnx: converting (3 s)\nout/vit.onnx: comparing with the model (4 s)\n"
    notebook = notebook_with_stderr(progress)
    convert.clean(notebook)
    assert notebook.cells[0].outputs == []
    with pytest.raises(ValueError, match="Received: (?s:.*)UserWarning: slow"):
        convert.clean(notebook_with_stderr(f"{progress}UserWarning: slow\n"))


def notebook_with_stderr(text):
    output = nbformat.v4.new_output("stream", name="stderr", text=text)
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=[output])])


def committed(source):
    return nbformat.read(source.with_suffix(".ipynb"), as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook, kind):
    """The outputs of a MIME type, or the texts that cells have printed for the kind "text"."""
    for cell in code_cells(notebook):
        for output in cell.outputs:
            found = output if kind == "text" else output.get("data", {})
            if kind in found:
                yield found[kind]


def run_cell(code, names):
    """Execute a cell in this process, and return the value of its last expression."""
    lines = code.splitlines()
    tree = ast.parse("\n".join(line for line in lines if not line.startswith("%")))
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<cell>", "exec"), names)
    return eval(compile(ast.Expression(last.value), "<cell>", "eval"), names) if last else None


def show_open(figures):
    for number in plt.get_fignums():
        show(plt.figure(number), figures)
    plt.close("all")


def show(value, figures):
    """Draw a figure, because layouts and texts can raise warnings; ignore other values."""
    if isinstance(value, Figure):
        value.set_dpi(30)
        FigureCanvasAgg(value).draw()
        figures.append(value)
