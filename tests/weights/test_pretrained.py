"""The rows of the catalog, and downloads from a local server without a network."""

import errno
import hashlib
import http.server
import re
import socket
import threading
import time
import urllib.error
import urllib.request

import goldens
import keras
import numpy as np
import pytest

import keras_mixers as km
from keras_mixers.models import published
from keras_mixers.weights import catalog, download, locate
from keras_mixers.weights.formats import FORMATS
from keras_mixers.weights.roles import index_weights

rows = pytest.mark.parametrize("row", catalog.CHECKPOINTS, ids=lambda row: row.name)


def test_catalog_names_and_urls_are_unique():
    for what in ("name", "url"):
        found = [getattr(row, what) for row in catalog.CHECKPOINTS]
        assert len(set(found)) == len(found)


@rows
def test_catalog_rows_are_complete(row):
    assert row.url.startswith("https://")
    assert row.variant in km.variants(row.family)
    assert row.format == {".safetensors": "timm", ".npz": "google"}[row.url[row.url.rindex(".") :]]
    assert row.sha256 is None or re.fullmatch("[0-9a-f]{64}", row.sha256)
    assert (row.top1 is None) == (row.top1_source is None)
    assert row.top1 is None or 60 < row.top1 < 92
    assert row.num_classes in (0, 1000, 21_843)
    assert row.preprocessing.size == row.arguments.get("input_shape", (224, 224, 3))[:2]
    assert row.name in km.pretrained(row.family)


@rows
def test_catalog_arguments_build_the_model(row, abstract_weights):
    """The model has depth 1, and each of its weights has a name in the row's format."""
    builder = getattr(km, row.family)
    model = builder(row.variant, num_classes=row.num_classes, **{"depth": 1, **row.arguments})
    backbone = index_weights(model)
    forms = [form for form in FORMATS if form.name.lower().startswith(row.format)]
    form = next(form for form in forms if set(backbone.mixers) <= form.mixers)
    assert all(form.for_role(role) for role in backbone.roles), row.name


@rows
def test_check_arguments_accepts_only_the_rows_model(row, monkeypatch):
    for family in (km.models.vit, km.models.mlp_mixer, km.models.conv_mixer):
        monkeypatch.setattr(family, "assemble", lambda architecture, *_: architecture)
        monkeypatch.setattr(family, "filled", lambda model, source: model)
    builder = getattr(km, row.family)
    variant = km.variants(row.family)[row.variant]
    published.check_arguments(row, variant, builder(row.variant, **row.arguments))
    with pytest.raises(ValueError, match="`depth` must be"):
        wrong = builder(row.variant, **{**row.arguments, "depth": 7})
        published.check_arguments(row, variant, wrong)


def test_find_accepts_names_and_tags():
    name = "vit_base_patch16_224.augreg_in21k_ft_in1k"
    tag = "augreg_in21k_ft_in1k"
    shape = (224, 224, 3)
    assert locate.find("ViT", "B/16", name, shape).name == name
    assert locate.find("ViT", "B/16", tag, shape).name == name
    assert locate.find("ViT", "B/16", tag, (384, 384, 3)).name == name.replace("224", "384")
    assert locate.find("ViT", "B/16", tag, (320, 320, 3)).name == name
    with pytest.raises(ValueError, match=r"`weights` must be for the variant 'S/16'.*for 'B/16'"):
        locate.find("ViT", "S/16", name, shape)
    with pytest.raises(ValueError, match=r"augreg_in1kk'\. Did you mean 'augreg_in1k'"):
        locate.find("ViT", "B/16", "augreg_in1kk", shape)
    with pytest.raises(ValueError, match="`family` must be one of 'ViT'"):
        km.pretrained("VIT")


def test_builders_refuse_weights_of_other_architectures():
    name = "google_vit_b16_imagenet21k"
    with pytest.raises(ValueError, match="`activation` must be 'gelu_tanh' for weights='google_v"):
        km.ViT("B/16", weights=name, representation_size=768)
    with pytest.raises(ValueError, match="`representation_size` must be 768.*=None"):
        km.ViT("B/16", weights=name, activation="gelu_tanh")
    for argument, value in (
        ("activation", "relu"),
        ("epsilon", 1e-3),
        ("num_heads", 6),
        ("head_dim", 32),
        ("score", "dot"),
        ("depth", 6),
        ("hidden_dim", 384),
    ):
        with pytest.raises(ValueError, match=f"`{argument}` must be .* for weights='vit_base"):
            km.ViT("B/16", weights="augreg_in1k", **{argument: value})


class Server(http.server.BaseHTTPRequestHandler):
    """Serves the first `cut` bytes of `content`, or a byte each `pause`, and counts requests."""

    content, cut, count, status, states_length, pause = b"", None, 0, 200, True, 0

    def do_GET(self):
        type(self).count += 1
        if "moved" in self.path:
            self.send_response(302)
            self.send_header("Location", self.url)
            self.end_headers()
            return
        self.send_response(self.status)
        if self.states_length:
            self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        while self.pause:
            self.wfile.write(b"x")
            time.sleep(self.pause)
        self.wfile.write(self.content[: self.cut])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A local server with the timm_vit golden, and an empty cache."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    handler = type("Here", (Server,), {})
    handler.content = (goldens.FOLDER / "timm_vit.safetensors").read_bytes()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        handler.url = f"http://127.0.0.1:{server.server_port}/file.safetensors"
        yield handler
        server.shutdown()


def a_row(server, **more):
    digest = hashlib.sha256(server.content).hexdigest()
    row = {"name": "here.test", "url": server.url, "sha256": digest, **more}
    return catalog.Checkpoint(**{**vars(catalog.CHECKPOINTS[0]), **row})


def cached(tmp_path):
    return sorted(path.name for path in (tmp_path / "home" / "keras_mixers").iterdir())


def test_download_runs_once_with_progress_bar(server, tmp_path, capsys):
    path = locate.download(a_row(server))
    assert path.read_bytes() == server.content
    assert "Downloading data from http://127.0.0.1" in capsys.readouterr().out
    assert locate.download(a_row(server)) == path
    assert server.count == 1
    assert cached(tmp_path) == ["here.test.safetensors"]


def test_download_recovers_from_a_cut_file(server, tmp_path):
    server.cut = 1000
    row = a_row(server, sha256=None)
    with pytest.raises(OSError, match=r"could not be downloaded.*give its path as `weights`"):
        locate.download(row)
    assert cached(tmp_path) == []
    server.cut = None
    assert locate.download(row).read_bytes() == server.content


def test_download_detects_cut_without_content_length(server, tmp_path):
    server.cut, server.states_length = 1000, False
    with pytest.raises(ValueError, match="damaged or cut short"):
        locate.download(a_row(server, sha256=None))
    assert cached(tmp_path) == []


def test_download_interrupted_leaves_no_file(server, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.utils.Progbar, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        locate.download(a_row(server))
    assert cached(tmp_path) == []


def test_download_refuses_a_wrong_digest(server, tmp_path):
    wrong = "0" * 64
    row = a_row(server, sha256=wrong)
    with pytest.raises(
        ValueError, match=f"published sha256 {wrong}.*Received: http.* with [0-9a-f]"
    ):
        locate.download(row)
    assert cached(tmp_path) == []
    path = locate.download(a_row(server))
    path.write_bytes(b"tampered with")
    with pytest.raises(ValueError, match="delete the file to download it again"):
        locate.download(a_row(server))


def test_download_reports_server_errors(server, tmp_path):
    server.status = 404
    with pytest.raises(OSError, match=r"file\.safetensors could not be downloaded.*404"):
        locate.download(a_row(server))
    assert cached(tmp_path) == []


def test_builder_downloads_and_loads_weights(server, monkeypatch, capsys):
    arguments = {"num_heads": 4, "hidden_dim": 64, "mlp_dim": 256, "depth": 2}
    row = a_row(server, variant="Ti/16", arguments=arguments)
    monkeypatch.setattr(locate, "CHECKPOINTS", (row,))
    model = goldens.make("timm_vit.safetensors", weights="test")
    expected = goldens.answers("timm_vit.safetensors")
    np.testing.assert_allclose(np.asarray(model(expected["image"])), expected["logits"], atol=1e-5)
    assert "timm ViT" not in capsys.readouterr().out, "no report, because no weight was changed"
    goldens.make("timm_vit.safetensors", weights="here.test", input_shape=(48, 48, 3))
    assert "resized from 4 x 4 to 6 x 6" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name", ["timm_vit.safetensors", "timm_mixer.safetensors", "timm_convmixer.safetensors"]
)
def test_builder_accepts_a_path(name):
    for path in (goldens.FOLDER / name, str(goldens.FOLDER / name)):
        model = goldens.make(name, weights=path)
        expected = goldens.answers(name)
        found = np.asarray(model(expected["image"]))
        np.testing.assert_allclose(found, expected["logits"], atol=1e-5)


def test_download_gives_up_a_stalled_server(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "PERIOD", 0.3)
    with socket.socket() as silent:  # accepts a connection and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/file.safetensors"
        with pytest.raises(OSError, match="could not be downloaded .*timed out"):
            locate.download(a_row(server, url=url))
    assert cached(tmp_path) == []


@pytest.mark.parametrize(("pause", "message"), [(2, "timed out"), (0.05, "bytes in 0.3 seconds")])
def test_download_gives_up_a_slow_server(pause, message, server, tmp_path, monkeypatch):
    """The server sends one byte, waits, and so on."""
    monkeypatch.setattr(download, "PERIOD", 0.3)
    server.pause = pause
    with pytest.raises(OSError, match=f"could not be downloaded .*{message}"):
        locate.download(a_row(server))
    assert cached(tmp_path) == []


def test_download_follows_a_redirect(server):
    row = a_row(server, url=server.url.replace("file", "moved"))
    assert locate.download(row).read_bytes() == server.content


@pytest.mark.parametrize("url", ["http://host/file", "HTTP://host/file", "ftp://host/file"])
def test_download_refuses_redirects_from_https(url):
    request = urllib.request.Request("https://host/file")
    with pytest.raises(urllib.error.URLError, match="redirect from https to"):
        download.Redirects().redirect_request(request, None, 302, "Found", {}, url)
    again = download.Redirects().redirect_request(
        request, None, 302, "Found", {}, "https://other/file"
    )
    assert again.full_url == "https://other/file"


def test_download_refuses_a_folder_in_the_cache(server, tmp_path):
    folder = tmp_path / "home" / "keras_mixers" / "here.test.safetensors"
    folder.mkdir(parents=True)
    (folder / "mine").write_text("kept")
    with pytest.raises(IsADirectoryError, match=r"here\.test\.safetensors"):
        locate.download(a_row(server))
    assert (folder / "mine").read_text() == "kept"
    assert server.count == 0


def test_download_removes_what_a_killed_process_left(server, tmp_path):
    left = tmp_path / "home" / "keras_mixers" / ".keras_mixers-abcdefgh.tmp"
    left.mkdir(parents=True)
    (left / "here.test.safetensors").write_bytes(b"half")
    locate.download(a_row(server))
    assert cached(tmp_path) == ["here.test.safetensors"]


def test_download_names_the_path_on_a_full_disk(server, tmp_path, limited_files):
    with limited_files(100_000), pytest.raises(OSError, match=r"here\.test\.safetensors") as caught:
        locate.download(a_row(server))
    assert caught.value.errno == errno.EFBIG
    assert cached(tmp_path) == []
