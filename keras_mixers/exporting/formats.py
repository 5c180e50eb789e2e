"""The table of export formats.

A format is a module that holds:
    FORMAT: the format's name in an `ExportReport`.
    SUFFIX: how its paths end; "" for a format that is a folder.
    REFUSES: `{option: what to do instead}` for each option of `export` that the format does not
        support. A key may also be a tuple of options that the format does not support together.
    save(serving, path, progress): write the file; return the format's own fields of the report.
    load(path): open the file in its own runtime, as a function `images -> {name: output}`.
    other_content(folder): only for a folder: what in it `export` did not write, as text, or None.
    finish(path): clean up after the new file has replaced the old one.
"""

from keras_mixers.exporting import onnx, saved_model, tflite, web

FORMATS = (onnx, tflite, saved_model, web)


BY_NAME = {module.FORMAT: module for module in FORMATS}


def format_of(path, name=None):
    """The format of a name, or that the suffix of `path` names.

    Any other suffix is part of the name of a SavedModel's folder.
    """
    by_suffix = {module.SUFFIX: module for module in FORMATS if module.SUFFIX}
    return BY_NAME[name] if name else by_suffix.get(path.suffix.lower(), saved_model)
