"""Weights from the Hugging Face hub, without a network: a fake library, and a local server."""

import hashlib
import http.server
import sys
import threading
import types

import goldens
import pytest

import keras_mixers as km
from keras_mixers.weights import hub

VIT = "timm_vit.safetensors"


class FakeHub:
    """Keeps files by their names, as the part of huggingface_hub that the package uses."""

    class HfHubHTTPError(OSError):
        pass

    class RepositoryNotFoundError(HfHubHTTPError):
        pass

    class GatedRepoError(RepositoryNotFoundError):
        pass

    class RevisionNotFoundError(HfHubHTTPError):
        pass

    class EntryNotFoundError(Exception):
        pass

    class LocalEntryNotFoundError(FileNotFoundError, EntryNotFoundError):
        pass

    def __init__(self, folder):
        self.folder, self.asked, self.error = folder, [], None
        self.errors = self

    def hf_hub_download(self, name, file, revision):
        self.asked.append((name, file, revision))
        if self.error:
            raise self.error("the server said so")
        if not (self.folder / file).is_file():
            raise self.EntryNotFoundError(file)
        return str(self.folder / file)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", FakeHub(tmp_path))
    return sys.modules["huggingface_hub"]


def test_hub_sources_name_revision_and_file(fake, tmp_path):
    (tmp_path / "best.v2.safetensors").write_bytes((goldens.FOLDER / VIT).read_bytes())
    model = goldens.make(VIT)
    km.load_weights(model, "hf://timm/some_vit@v1.0-b/best.v2.safetensors")
    goldens.assert_golden(model, VIT)
    assert fake.asked == [("timm/some_vit", "best.v2.safetensors", "v1.0-b")]


@pytest.mark.parametrize("folder", ["", "sub"])
def test_hub_indexes_bring_their_files(folder, fake, tmp_path):
    goldens.write_shards(VIT, tmp_path / folder)
    where = f"@main/{folder}/model.safetensors.index.json" if folder else ""
    model = goldens.make(VIT)
    km.load_weights(model, f"hf://timm/some_vit{where}")
    goldens.assert_golden(model, VIT)
    names = ["model.safetensors.index.json", "model-0.safetensors", "model-1.safetensors"]
    names = [f"{folder}/{name}" for name in names] if folder else ["model.safetensors", *names]
    assert [file for _, file, _ in fake.asked] == names
    assert {revision for *_, revision in fake.asked} == {"main" if folder else None}


def test_hub_prefers_safetensors(fake, tmp_path):
    for name in reversed(hub.FILES[:3]):
        (tmp_path / name).write_text('{"weight_map": {"a": "pytorch_model.bin"}}')
        assert hub.local_file("hf://timm/some_vit").name == name


def test_hub_repositories_need_a_known_file(fake):
    with pytest.raises(FileNotFoundError, match="one of the files model.safetensors, .*at last: "):
        hub.local_file("hf://timm/some_vit")
    assert [file for _, file, _ in fake.asked] == list(hub.FILES)


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (
            "GatedRepoError",
            PermissionError,
            "gated.*licence on https://huggingface.co/me/it.*log in",
        ),
        ("RepositoryNotFoundError", OSError, "no repository 'me/it', or it is private.*log in"),
        ("RevisionNotFoundError", OSError, "hf://me/it@v1/model.*no revision 'v1'"),
        ("EntryNotFoundError", FileNotFoundError, "'hf://me/it@v1/f.pth': .* no such file"),
        ("LocalEntryNotFoundError", FileNotFoundError, "not in the cache .*the server said so"),
        ("HfHubHTTPError", OSError, "could not be downloaded: the server said so"),
    ],
)
def test_hub_errors_say_what_to_do(error, raised, message, fake):
    fake.error = getattr(fake, error)
    file = "/f.pth" if error == "EntryNotFoundError" else ""
    with pytest.raises(raised, match=message) as caught:
        hub.local_file(f"hf://me/it@v1{file}")
    assert type(caught.value) is raised
    assert len(fake.asked) == (len(hub.FILES) if error == "LocalEntryNotFoundError" else 1)


BAD = [
    "some_vit", "/some_vit", "timm/", "timm/some vit", "timm/" + "x" * 1000, "../some_vit", "a/b@",
    "a/b@/c", "a/b@m/../c", "a/b@../c", "a/b//c", "a/b/c/", "a/b@m@n", "a/b/./c",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD, ids=lambda name: name[:12])
def test_hub_sources_of_another_form_are_refused(name, fake):
    with pytest.raises(ValueError, match="`source` must be 'hf://owner/name', 'hf://owner/name@re"):
        hub.local_file(f"hf://{name}")
    assert not fake.asked


def test_hub_sources_need_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"keras_mixers\[hub\]"):
        hub.local_file("hf://timm/some_vit")


class Server(http.server.BaseHTTPRequestHandler):
    """Answers as the hub does; `files` has the content of each file, or the code of an error."""

    files = types.MappingProxyType({})

    def do_HEAD(self):
        content = self.files.get(self.path, "EntryNotFound")
        failed = isinstance(content, str)
        self.send_response(403 if failed else 200)
        if failed:
            self.send_header("X-Error-Code", content)
            content = b""
        self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return content

    def do_GET(self):
        self.wfile.write(self.do_HEAD())

    def log_message(self, *_):
        pass


def test_hub_files_come_through_huggingface_hub(tmp_path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    folder = goldens.write_shards(VIT, tmp_path).parent
    files = {f"/me/vit/resolve/v1/{path.name}": path.read_bytes() for path in folder.glob("model*")}
    files["/me/gated/resolve/main/model.safetensors"] = "GatedRepo"
    handler = type("Here", (Server,), {"files": files})
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            url + "/{repo_id}/resolve/{revision}/{filename}",
        )
        model = goldens.make(VIT)
        km.load_weights(model, "hf://me/vit@v1")
        with pytest.raises(PermissionError, match="hf://me/gated/model.safetensors"):
            hub.local_file("hf://me/gated")
        with pytest.raises(FileNotFoundError, match="no such file"):
            hub.download("me/vit", "config.json", "v1")
        server.shutdown()
    goldens.assert_golden(model, VIT)
