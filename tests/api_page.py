"""Write the pages of the API from the docstrings, with pdoc.

    pip install -e ".[docs]"
    python tests/api_page.py            # writes build/api/index.html
    python tests/api_page.py folder     # writes folder/index.html

The pages show the names that `public_api.txt` lists, with the annotations of the source.
"""

import html
import inspect
import os
import pathlib
import re
import sys
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jinja2
import keras
import keras_tuner
import pdoc
import public_api

import keras_mixers as km

FOLDER = pathlib.Path(__file__).parents[1] / "build" / "api"
NAMES = public_api.names()
MODULES = {module.__name__: module for module in public_api.MODULES}
TEMPLATE = """\
{% extends "default/module.html.jinja2" %}
{% macro is_public(doc) %}{% if is_shown(doc) %}true{% endif %}{% endmacro %}
{% macro decorators(doc) %}{% endmacro %}
{% macro inherited(cls) %}{% endmacro %}
{% macro class(cls) %}
    <span class="def">class</span> <span class="name">{{ cls.qualname }}</span>
    {{- cls.signature | format_signature(colon=False) | linkify if cls.signature }}
{% endmacro %}
"""
# Keras calls the methods of these classes, so a user of the package needs only the constructor.
CALLED_BY_KERAS = (
    keras.layers.Layer,
    keras.Metric,
    keras.Loss,
    keras.Optimizer,
    keras.optimizers.schedules.LearningRateSchedule,
    keras.callbacks.Callback,
)
FOR_KERAS = ("get_config", "from_config")


class Module(pdoc.doc.Module):
    """A module whose submodules are the public ones; a function may have the name of its file."""

    @property
    def submodules(self):
        prefix = f"{self.modulename}."
        return [Module(module) for name, module in MODULES.items() if name.startswith(prefix)]


def build(folder=None):
    """The pages, `{path in the folder: text}`, also written into the folder if one is given.

    Raises:
        Warning: if pdoc warns of a name that it cannot document.
    """
    for module in MODULES.values():
        for name in module.__all__:  # pdoc does not call the module's `__getattr__`
            vars(module)[name] = getattr(module, name)
    documented = {name: Module(module) for name, module in MODULES.items()}
    for module in documented.values():
        for doc in module.flattened_own_members:
            describe(doc)
    pdoc.render.configure(docformat="google", show_source=False)
    templates = jinja2.DictLoader({"module.html.jinja2": TEMPLATE})
    pdoc.render.env.loader = jinja2.ChoiceLoader([templates, pdoc.render.env.loader])
    pdoc.render.env.globals["is_shown"] = is_shown
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pages = {
            path_of(name): linked(pdoc.render.html_module(module, documented), name)
            for name, module in documented.items()
        }
        pages["index.html"] = pdoc.render.html_index(documented)
        pages["search.js"] = pdoc.render.search_index(documented)
    for path, text in pages.items() if folder else ():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    return pages


def describe(doc):
    """Give a class, its methods, or a function the signatures that the source has."""
    thing = NAMES.get(f"{doc.modulename}.{doc.qualname}")
    if doc.kind == "function":
        doc.__dict__["signature"] = signature(thing)
    elif doc.kind == "class":
        # The builders make an ImageModel, so its constructor tells nothing.
        doc.signature = None if thing is km.ImageModel else signature(thing)
        ours = [
            each for each in doc.members.values() if each.taken_from[0].startswith("keras_mixers")
        ]
        doc.__dict__["own_members"] = ours
        for member in ours:
            if member.kind == "function" and is_shown(member):
                member.__dict__["signature"] = signature(member.obj, {"self", "cls"})


def signature(thing, left_out=()):
    """The signature of a thing in pdoc's class, without some parameters."""
    found = public_api.signature(thing)
    parameters = [each for name, each in found.parameters.items() if name not in left_out]
    returned = found.return_annotation if inspect.isroutine(thing) else inspect.Signature.empty
    return pdoc.doc._PrettySignature(parameters, return_annotation=returned)


def is_ours(member):
    """Whether a class of this package defines the member; Keras and a stored function do not."""
    defined = getattr(member.obj, "__qualname__", f".{member.name}").endswith(f".{member.name}")
    return defined and member.taken_from[0].startswith("keras_mixers")


def is_shown(doc):
    """Whether a page shows a module, a name or a member of a class."""
    if doc.kind == "module":
        return doc.fullname in MODULES
    owner, _, name = doc.qualname.rpartition(".")
    if not owner:
        return f"{doc.modulename}.{name}" in NAMES
    cls = NAMES[f"{doc.modulename}.{owner}"]
    if issubclass(cls, CALLED_BY_KERAS) and not issubclass(cls, keras.Model):
        return False
    if not is_ours(doc) or not doc.docstring or name.startswith("_") or name in FOR_KERAS:
        return False
    inherited = doc.taken_from[1] != doc.qualname
    if inherited or issubclass(cls, keras_tuner.HyperModel):  # whose other methods are for tuners
        return re.search(rf"\b{name}\b", inspect.getdoc(cls)) is not None
    return True


def path_of(module):
    """The path of the page of a module: `keras_mixers/data.html`."""
    return f"{module.replace('.', '/')}.html"


def linked(page, module):
    """A page whose public names in backticks, and whose papers on arXiv, are links."""

    def link(match):
        target = target_of(html.unescape(match[1]), module)
        if target is None:
            return match[0]
        name, _, anchor = target.partition("#")
        address = os.path.relpath(path_of(name), pathlib.Path(path_of(module)).parent)
        return f'<code><a href="{address}{"#" if anchor else ""}{anchor}">{match[1]}</a></code>'

    page = re.sub(r"<code>([^<]+)</code>", link, page)
    return re.sub(
        r"arXiv (\d{4}\.\d{4,5})", r'<a href="https://arxiv.org/abs/\1">arXiv \1</a>', page
    )


def target_of(text, module):
    """Where the documentation of a name in backticks is, `"module#name"`; None if nowhere."""
    dotted = re.match(r"(?:km|keras_mixers)((?:\.\w+)+)", text)
    if dotted:
        name = f"keras_mixers{dotted[1]}"
        if name in MODULES:
            return name
        while name not in NAMES and name != "keras_mixers":
            name = name.rpartition(".")[0]
        return "#".join(name.rsplit(".", 1)) if name in NAMES else None
    found = re.fullmatch(r"(\w*[A-Z_]\w*)(?:\(.*\))?", text)  # short names are those of arguments
    for owner in (module, *MODULES) if found else ():
        if f"{owner}.{found[1]}" in NAMES:
            return f"{owner}#{found[1]}"
    return None


def problems(pages):
    """Links to what no page has, and names of the package in backticks that do not exist."""
    identifiers = {path: set(re.findall(r'\bid="([^"]+)"', text)) for path, text in pages.items()}
    found = []
    for path, text in pages.items():
        for address in re.findall(r'\bhref="([^":$]*)"', text):
            file, _, anchor = address.partition("#")
            to = os.path.normpath(pathlib.Path(path).parent / file) if file else path
            if to not in pages or (anchor and anchor not in identifiers[to]):
                found.append(f"{path}: the link {address}")
        for name in re.findall(r"<code>(?:<a [^>]*>)?((?:km|keras_mixers)\.[\w.]+)", text):
            if not exists(name):
                found.append(f"{path}: the name {name}")
    return sorted(set(found))


def exists(name):
    """Whether a name such as `km.data.load` is that of a public thing, or of its attribute."""
    target = target_of(name, "keras_mixers")
    if target is None:
        return False
    rest = name.replace("km.", "keras_mixers.", 1).removeprefix(target.replace("#", "."))
    thing = NAMES.get(target.replace("#", "."), MODULES.get(target))
    for attribute in filter(None, rest.rstrip(".").split(".")):
        if not hasattr(thing, attribute) and attribute not in getattr(thing, "__annotations__", ()):
            return False
        thing = getattr(thing, attribute, None)
    return True


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1]) if sys.argv[1:] else FOLDER
    broken = problems(build(folder))
    if broken:
        raise SystemExit("\n".join(broken))
    print(f"{folder / 'index.html'}: open it in a browser")
