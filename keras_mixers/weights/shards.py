"""Indexes of weights in several files, `model.safetensors.index.json`.

Source: Hugging Face's documentation of transformers, "Sharded checkpoints". The object
`weight_map` of the index names the file of each array. The files are next to the index.
"""

import re

from keras_mixers.arguments import shown
from keras_mixers.serialization import parse_json
from keras_mixers.weights.entries import MOST_ARRAYS
from keras_mixers.weights.source import reading

LARGEST_INDEX = 2**24  # bytes
# A plain name cannot lead out of the folder.
NAME = re.compile(r"\w[\w.-]{0,200}", re.ASCII)


def read_index(source):
    """`{key: name of its file}`.

    Raises:
        ValueError: if the file is damaged, or names a file outside of its folder.
    """
    with reading(source):
        if source.size > LARGEST_INDEX:
            raise ValueError(f"an index of {source.size} bytes")
        index = parse_json(source.read(0, source.size).tobytes().decode())
        files = index.get("weight_map") if isinstance(index, dict) else None
        if not files or not isinstance(files, dict) or len(files) > MOST_ARRAYS:
            raise ValueError("an index must have a `weight_map`, an object of keys and files")
    for key, name in files.items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ValueError(
                "`source` must name files in its own folder. Received:"
                f" {shown(key)} in {shown(name)}: '{source.path}'"
            )
    return files


def merged(source, files, entries):
    """`{key: Entry}` of all the files of an index.

    Args:
        source: the `Source` of the index, for errors.
        files: `{key: name of its file}` of the index.
        entries: `{name of a file: {key: Entry}}`.

    Raises:
        ValueError: if a file lacks a key, or has one that the index puts elsewhere or nowhere.
    """
    for name, held in entries.items():
        named = {key for key, file in files.items() if file == name}
        lacking, unnamed = sorted(named - set(held)), sorted(set(held) - named)
        if lacking or unnamed:
            verb, keys = ("lacks", lacking) if lacking else ("also has", unnamed)
            raise ValueError(
                "`source` must put each array into the file that has it. Received: source="
                f"'{source.path}', where {name} {verb} {', '.join(map(shown, keys[:3]))}"
            )
    return {key: entry for held in entries.values() for key, entry in held.items()}
