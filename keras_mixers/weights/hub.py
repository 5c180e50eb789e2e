"""Weights from the Hugging Face hub, downloaded by the huggingface_hub library."""

import pathlib
import re

from keras_mixers import arguments
from keras_mixers.weights import shards
from keras_mixers.weights.source import Source

HUB = "hf://"
SOURCE = re.compile(
    r"(?P<name>[\w.-]{1,96}/[\w.-]{1,96})(@(?P<revision>[\w.-]{1,96}))?(/(?P<file>[\w./-]{1,400}))?",
    re.ASCII,
)
INDEX = ".index.json"
# The files of a repository that hold its weights, the preferred one first.
FILES = (
    "model.safetensors",
    "model.safetensors" + INDEX,
    "pytorch_model.bin",
    "pytorch_model.bin" + INDEX,
)


def local_file(source):
    """The path of a source on this machine; downloads `hf://owner/name@revision/file`.

    Without a file it is the first of `FILES` that the repository has. With an index, the files that
    it names are downloaded too.

    Raises:
        ValueError: if the source begins with `hf://` and does not have this form.
        ImportError: if it begins with `hf://` and huggingface_hub is not installed.
        OSError: if the file cannot be downloaded.
    """
    if not source.startswith(HUB):
        return source
    name, revision, file = parts(source)
    path = download(name, file, revision) if file else download_first(name, revision)
    if path.name.endswith(INDEX):
        with Source(path) as index:
            for shard in sorted(set(shards.read_index(index).values())):
                shard_file = pathlib.PurePosixPath(file or path.name).with_name(shard)
                download(name, str(shard_file), revision)
    return path


def parts(source):
    """(owner/name, revision, file) of a source that begins with `hf://`; the last two may be None.

    Raises:
        ValueError: if the source does not have the form of `local_file`.
    """
    found = SOURCE.fullmatch(source.removeprefix(HUB))
    if not found or {".", "..", ""} & set(re.split("[/@]", found[0])):
        raise ValueError(
            "`source` must be 'hf://owner/name', 'hf://owner/name@revision' or"
            f" 'hf://owner/name@revision/file'. {arguments.received(source=source)}"
        )
    return found["name"], found["revision"], found["file"]


def download_first(name, revision):
    """The path of the first of `FILES` that a repository has.

    Raises:
        OSError: if the repository has none of them, or the file cannot be downloaded.
    """
    for file in FILES:
        try:
            return download(name, file, revision)
        except FileNotFoundError as error:
            last = error
    raise FileNotFoundError(
        f"`source` must name a repository with one of the files {', '.join(FILES)}, or a file as in"
        f" 'hf://{name}/file'. Received: '{HUB}{name}', and at last: {last}"
    ) from last


def download(name, file, revision=None):
    """The path of a file of a repository, downloaded into the cache of huggingface_hub.

    Args:
        name: the repository, `"owner/name"`.
        file: the path of the file in the repository.
        revision: a branch, a tag or a commit; None for the main branch.

    Raises:
        ImportError: if huggingface_hub is not installed.
        FileNotFoundError: if the repository does not have the file, or if it is not in the cache
            and the hub cannot be reached.
        PermissionError: if the repository is gated and the user has no access.
        OSError: if the repository or revision does not exist, or the download fails.
    """
    at = f"'{HUB}{name}{f'@{revision}' if revision else ''}/{file}'"
    log_in = "log in with `hf auth login` or set the environment variable HF_TOKEN"
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        raise ImportError(f"{at} needs huggingface_hub: pip install 'keras_mixers[hub]'") from None
    try:
        return pathlib.Path(huggingface_hub.hf_hub_download(name, file, revision=revision))
    except errors.GatedRepoError as error:
        raise PermissionError(
            f"{at} is in a gated repository. Accept its licence on https://huggingface.co/{name},"
            f" and {log_in}"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise OSError(
            f"{at}: the hub has no repository {name!r}, or it is private; if it is, {log_in}"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise OSError(f"{at}: the repository has no revision {revision!r}") from error
    except errors.LocalEntryNotFoundError as error:
        raise FileNotFoundError(
            f"{at} is not in the cache and could not be downloaded: {arguments.reason(error)}"
        ) from error
    except errors.EntryNotFoundError as error:
        raise FileNotFoundError(f"{at}: the repository has no such file") from error
    except errors.HfHubHTTPError as error:
        raise OSError(f"{at} could not be downloaded: {arguments.reason(error)}") from error
