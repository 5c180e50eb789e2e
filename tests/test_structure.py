"""The structure of the package and of the suite: imports, public names, files, and the CI."""

import ast
import configparser
import graphlib
import inspect
import json
import os
import pathlib
import re
import subprocess
import sys

import public_api
import pytest
import setuptools

import keras_mixers as km

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "keras_mixers"
FILES = sorted(PACKAGE.rglob("*.py"))
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

# The other folders that each folder may import.
MAY_IMPORT = {
    "layers": set(),
    "preprocessing": {"layers"},
    "weights": {"layers", "preprocessing"},
    "models": {"layers", "preprocessing", "weights"},
    "commands": {"models", "predicting"},
    "data": {"preprocessing"},
    "exporting": {"layers", "models", "preprocessing"},
    "predicting": {"data", "exporting", "models", "preprocessing", "probe"},
    "training": {"data", "layers", "models", "weights"},
    "probe": {"layers", "models"},
    "evaluation": {"data", "models", "probe"},
    "visualize": {"data", "evaluation", "layers", "probe", "tuning"},
    "tuning": {"data", "exporting", "layers", "models", "preprocessing", "training", "weights"},
}
# Modules at the root that every folder may import. They import only each other.
OPEN = {"arguments", "deprecation", "files", "graph", "hdf5", "serialization", "version"}
# Packages that a file may import at its top. A function that needs another one imports it.
# ml_dtypes is among them because Keras imports it anyway.
LIGHT = {"keras", "keras_mixers", "ml_dtypes", "numpy", *sys.stdlib_module_names}
# Files that a function imports when it needs them, so that their own imports may be heavy.
LATE = {
    PACKAGE / "data" / "digits.py",
    *(PACKAGE / "exporting" / "onnx" / "passes").glob("*.py"),
    *(PACKAGE / "layers" / "kernels").glob("*_cpu/*.py"),
    PACKAGE / "layers" / "kernels" / "tensorflow_plain.py",
    PACKAGE / "tuning" / "backbones.py",
    PACKAGE / "tuning" / "batches.py",
    PACKAGE / "tuning" / "budget.py",
    PACKAGE / "tuning" / "families.py",
    PACKAGE / "tuning" / "family.py",
    PACKAGE / "tuning" / "feasible.py",
    PACKAGE / "tuning" / "fine_tune.py",
    PACKAGE / "tuning" / "hooks.py",
    PACKAGE / "tuning" / "memory.py",
    PACKAGE / "tuning" / "project.py",
    PACKAGE / "tuning" / "ranges.py",
    PACKAGE / "tuning" / "restart.py",
    PACKAGE / "tuning" / "search.py",
    PACKAGE / "tuning" / "space.py",
    PACKAGE / "tuning" / "trials.py",
}


def imports(tree):
    """Each import of a file, and whether it is at the top level: `(module, top)`."""
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            yield name, id(node) in top


def module_name(file):
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_modules_import_without_circles():
    """Imports inside functions count too. A package's `__init__` may import its own modules."""
    modules = {module_name(file): file for file in FILES}
    graph = {}
    for module, file in modules.items():
        names = {name for name, _ in imports(ast.parse(file.read_text()))}
        found = {name if name in modules else name.rpartition(".")[0] for name in names}
        packages = {name for name in found if module.startswith(f"{name}.")}
        graph[module] = (found & modules.keys()) - packages - {module}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_file_imports_only_allowed_folders(file):
    part = file.relative_to(PACKAGE).parts[0]
    if part.endswith(".py"):  # the public names, and the modules that all folders may import
        return
    for name, _ in imports(ast.parse(file.read_text())):
        if name.startswith("keras_mixers."):
            other = name.split(".")[1]
            allowed = MAY_IMPORT[part] | OPEN | {part}
            assert other in allowed, f"{part} imports {name}"


def test_every_folder_has_allowed_imports():
    assert set(MAY_IMPORT) == {path.name for path in PACKAGE.iterdir() if path.is_dir()} - {
        "__pycache__"
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_file_imports_heavy_packages_late(file):
    if file in LATE:
        return
    for name, top in imports(ast.parse(file.read_text())):
        assert not top or name.split(".")[0] in LIGHT, f"{name} at the top of {file.name}"


@pytest.mark.parametrize("part", ["layers", "models"])
def test_layers_and_models_import_no_backend(part):
    for file in (PACKAGE / part).rglob("*.py"):
        found = {name.split(".")[0] for name, _ in imports(ast.parse(file.read_text()))}
        backends = found & {"tensorflow", "jax", "torch"}
        allowed = "kernels" in file.parts
        assert not backends or allowed, f"{file.name} imports {backends}"


@pytest.mark.parametrize("file", FILES + EXAMPLES, ids=lambda file: str(file.relative_to(ROOT)))
def test_file_uses_no_unsafe_loading(file):
    for node in ast.walk(ast.parse(file.read_text())):
        named = (
            getattr(node, "attr", None) or getattr(node, "id", None) or getattr(node, "name", "")
        )
        assert named not in {"Lambda", "enable_unsafe_deserialization"}
        if isinstance(node, ast.keyword) and node.arg in {"safe_mode", "weights_only"}:
            assert ast.unparse(node.value) == "True"
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert ast.unparse(node.value) == "False"


@pytest.mark.slow
def test_package_import_loads_only_keras():
    program = (
        "import json, sys, keras; before = set(sys.modules); import keras_mixers;"
        "print(json.dumps(sorted({m.split('.')[0] for m in set(sys.modules) - before})))"
    )
    # On TensorFlow, Keras has imported everything that the package could import by mistake.
    environment = {**os.environ, "KERAS_BACKEND": "numpy"}
    finished = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    new = set(json.loads(finished.stdout.splitlines()[-1])) - set(sys.stdlib_module_names)
    assert new == {"keras_mixers"}


def test_public_api_is_the_committed_one():
    committed = public_api.FILE.read_text()
    assert public_api.listing() == committed, f"see {public_api.__file__} for how to update it"


def test_public_names_have_docstrings_with_examples():
    for thing in public_api.names().values():
        if callable(thing):
            text = inspect.getdoc(thing)
            assert text, thing
            assert text.count("\n") >= 2, thing
            returned = (
                km.Checkpoint,
                km.Evaluation,
                km.ExportReport,
                km.LabelMistake,
                km.LoadReport,
                km.Mistake,
                km.MultiLabelEvaluation,
                km.Prediction,
                km.data.FolderReport,
                km.data.Info,
                km.probe.TokenGrid,
            )  # users receive these, and do not make them
            if thing not in (*returned, km.layers.gelu_tanh, km.layers.quick_gelu):
                assert ">>>" in text, thing


def test_changelog_begins_with_this_version_or_unreleased():
    changelog = (ROOT / ".github" / "CHANGELOG.md").read_text()
    head, *_ = re.findall(r"^## \[(.+?)\]", changelog, re.MULTILINE)
    assert head in ("Unreleased", km.__version__)
    assert f"## [{km.__version__}]" in changelog


@pytest.mark.parametrize("file", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda f: f.name)
def test_workflow_pins_actions_and_may_only_read(file):
    text = file.read_text()
    actions = re.findall(r"uses: (.*)", text)
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", action) for action in actions)
    assert re.search(r"^permissions:\n  contents: read\n\n", text, re.MULTILINE)
    assert "secrets." not in text


ALLOWED_AT_THE_TOP = {
    "LICENSE",
    "README.md",
    "examples",
    "keras_mixers",
    "pyproject.toml",
    "setup.cfg",
    "tests",
}


def test_installation_has_every_file_of_the_package():
    """An editable installation hides it if a wheel leaves files out."""
    packages = set(setuptools.find_packages(str(ROOT), include=["keras_mixers*"]))
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    patterns = re.split(r"[,\s]+", config["options.package_data"]["keras_mixers"])
    data = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    for path in files:
        package = ".".join(path.parent.relative_to(ROOT).parts)
        assert package in packages if path.suffix == ".py" else path in data, path


def test_top_folder_has_nothing_else():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    top = {path.split("/")[0] for path in listed.stdout.splitlines()}
    assert {name for name in top if not name.startswith(".")} <= ALLOWED_AT_THE_TOP


COMMAND = "bash tests/run.sh"
CHOOSING = (" -k", " -m ", "--ignore", "--deselect", "test_")


def pytest_calls():
    """The arguments of each pytest call in tests/run.sh, by the backend that it runs on."""
    script = (ROOT / "tests" / "run.sh").read_text()
    return dict(re.findall(r"KERAS_BACKEND=(\w+) .* -m pytest(.*)", script))


@pytest.mark.parametrize("file", [".github/CONTRIBUTING.md", "README.md"])
def test_documents_name_the_command_of_the_suite(file):
    assert COMMAND in (ROOT / file).read_text()


def test_ci_runs_every_part_of_the_suite():
    script = (ROOT / "tests" / "run.sh").read_text()
    (parts,) = re.findall(r"^    all\)\n((?: +\w+\n)+)", script, re.MULTILINE)
    run = re.findall(rf"^{COMMAND} (\w+)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert parts.split() == ["lint", "jax", "torch", "tensorflow"]
    assert sorted(run) == sorted(parts.split())


def test_run_script_runs_every_test_on_tensorflow():
    calls = pytest_calls()
    assert set(calls) == {"jax", "torch", "tensorflow"}
    assert not [option for option in CHOOSING if option in calls["tensorflow"]]


@pytest.mark.parametrize(
    ("backend", "marker"), [("jax", "backends"), ("torch", '"backends and not slow"')]
)
def test_run_script_chooses_by_marker_on_other_backends(backend, marker):
    chosen = pytest_calls()[backend].replace(f" -m {marker}", "", 1)
    assert chosen != pytest_calls()[backend]
    assert not [option for option in CHOOSING if option in chosen]


def test_configuration_deselects_no_test(pytestconfig):
    assert pytestconfig.getini("testpaths") == ["tests"]
    assert not [option for option in CHOOSING if option in " ".join(pytestconfig.getini("addopts"))]
    for ini in ("collect_imported_tests", "norecursedirs", "python_files", "python_functions"):
        assert ini not in (ROOT / "pyproject.toml").read_text()


def test_every_test_function_is_in_a_collected_file():
    for file in ROOT.rglob("*.py"):
        if any(part.startswith((".", "build")) for part in file.relative_to(ROOT).parts):
            continue
        defines_tests = any(
            isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
            for node in ast.walk(ast.parse(file.read_text()))
        )
        collected = file.is_relative_to(ROOT / "tests") and file.name.startswith("test_")
        assert defines_tests == collected, file


def test_one_backend_marks_have_reasons():
    """A file of these folders runs on every backend, unless it has the marker with a reason."""
    for name in ("layers", "models", "preprocessing"):
        for file in (ROOT / "tests" / name).glob("test_*.py"):
            text = file.read_text()
            reasons = re.findall(r"mark\.one_backend\((.*)", text)
            assert all(reason.startswith('"') for reason in reasons), file
            assert "mark.backends" not in text, f"{file}: conftest.py sets this marker"
