"""The public names and their arguments, as `public_api.txt` lists them.

After a change of the public API, regenerate the list with

    python tests/public_api.py

and commit it together with the line of .github/CHANGELOG.md that tells users of the change.
"""

import ast
import dataclasses
import inspect
import pathlib

import keras_mixers as km

FILE = pathlib.Path(__file__).with_suffix(".txt")
MODULES = (km, km.layers, km.data, km.probe, km.training, km.tuning, km.visualize)


class SourceText(str):
    """An annotation as it is written in the source: its repr has no quotes."""

    __repr__ = str.__str__


def names():
    """Every public name and the thing that it names: `{"keras_mixers.ViT": ViT, ...}`."""
    return {
        f"{module.__name__}.{name}": getattr(module, name)
        for module in MODULES
        for name in module.__all__
    }


def listing():
    """One line for each public name, with its arguments: `keras_mixers.ViT(variant: str, ...)`."""
    lines = [
        f"{name}{signature(thing)}" if callable(thing) else name for name, thing in names().items()
    ]
    return "\n".join(sorted(lines)) + "\n"


def signature(thing):
    """The signature with annotations as source text, because the names of objects differ.

    Python 3.13 keeps `pathlib.Path` in another module, and Keras moves its private modules.
    """
    found = inspect.signature(thing)
    written = annotations(thing)
    parameters = [
        parameter.replace(annotation=written.get(name, inspect.Parameter.empty))
        for name, parameter in found.parameters.items()
    ]
    returned = written.get("return", inspect.Signature.empty)
    return found.replace(parameters=parameters, return_annotation=returned)


def annotations(thing):
    """The annotations of a function, or of a class's arguments: `{name: text}`."""
    if dataclasses.is_dataclass(thing):
        bodies = [parsed(base).body for base in thing.__mro__ if dataclasses.is_dataclass(base)]
        fields = [node for body in bodies for node in body if isinstance(node, ast.AnnAssign)]
        found = {node.target.id: node.annotation for node in fields}
    else:
        function = parsed(inspect.unwrap(thing.__init__ if inspect.isclass(thing) else thing))
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        found = {node.arg: node.annotation for node in arguments} | {"return": function.returns}
    return {name: SourceText(ast.unparse(node)) for name, node in found.items() if node}


def parsed(thing):
    """The syntax tree of a class, a function or a method."""
    source = inspect.getsource(thing)
    if source.startswith(" "):  # a text in it may have a line without indentation
        return ast.parse(f"class Owner:\n{source}").body[0].body[0]
    return ast.parse(source).body[0]


if __name__ == "__main__":
    FILE.write_text(listing())
