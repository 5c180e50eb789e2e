"""The rows of the catalog, and downloads from a local server without a network."""

import csv
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
from goldens import unnamed_roles

import keras_mixers as km
from keras_mixers.models import published
from keras_mixers.weights import catalog, download, locate

CHECKPOINTS = tuple(catalog.checkpoints().values())
CLASSES = (0, 1000, 11_221, 11_821, 21_841, 21_843, 115_217)
LICENSES = {
    None,
    "apache-2.0",
    "apple-amlr",
    "apple-ascl",
    "cc-by-nc-4.0",
    "dinov3-license",
    "fair-noncommercial-research-license",
    "mit",
    "nvidia-open-model-license",
}


def test_catalog_names_and_urls_are_unique():
    with catalog.rows.FILE.open() as file:
        names = [row["name"] for row in csv.DictReader(file)]
    assert len(set(names)) == len(names) == len(CHECKPOINTS)
    # Two architectures may share a file, if they differ in what the weights do not show.
    found = [(row.url, row.architecture) for row in CHECKPOINTS]
    assert len(set(found)) == len(found)


def test_catalog_rows_are_complete():
    for row in CHECKPOINTS:
        assert row.url.startswith("https://"), row
        assert row.variant in km.variants(row.family), row
        assert row.format == ("google" if row.url.endswith(".npz") else "timm"), row
        assert row.sha256 is None or re.fullmatch("[0-9a-f]{64}", row.sha256), row
        assert (row.top1 is None) == (row.top1_source is None), row
        assert row.top1 is None or (60 < row.top1 < 92 and row.num_classes == 1000), row
        is_clip = "clip" in row.name or "pe_core" in row.name  # whose head is a projection
        assert row.num_classes in CLASSES or is_clip, row
        assert row.preprocessing.size == row.arguments.get("input_shape", (224, 224, 3))[:2], row
        assert row.license in LICENSES, row
        assert row.name in km.pretrained(row.family), row


def test_catalog_has_the_facts_of_known_checkpoints():
    """One checkpoint for each kind of fact, as its source states it."""
    rows = km.pretrained()
    assert len(rows) >= 130
    assert rows["vit_base_patch16_224.augreg_in21k_ft_in1k"].url == (
        "https://huggingface.co/timm/vit_base_patch16_224.augreg_in21k_ft_in1k/resolve/main/"
        "model.safetensors"
    )
    assert rows["vit_base_patch16_224.mae"].non_commercial
    assert not rows["vit_small_patch14_dinov2.lvd142m"].non_commercial
    assert rows["eva_large_patch14_336.in22k_ft_in1k"].preprocessing.crop_mode == "squash"
    small = rows["vit_small_patch8_224.dino"]
    assert (small.architecture, small.tag) == ("vit_small_patch8_224", "dino")
    assert small.preprocessing.mean == (0.485, 0.456, 0.406)
    assert rows["convmixer_768_32.in1k"].sha256.startswith("62ed5ec9")
    assert rows["google_vit_b16_imagenet21k"].arguments["representation_size"] == 768
    assert rows["google_vit_b16_imagenet21k"].format == "google"


def test_class_names_are_those_of_imagenet():
    names = km.pretrained()["vit_base_patch16_224.augreg_in21k_ft_in1k"].class_names
    assert len({name.lower() for name in names}) == len(names) == 1000
    known = {0: "tench", 1: "goldfish", 264: "Cardigan Welsh corgi", 474: "cardigan"}
    known |= {134: "crane (bird)", 517: "crane (machine)", 281: "tabby", 999: "toilet tissue"}
    assert {index: names[index] for index in known} == known
    assert km.pretrained()["vit_base_patch16_224.augreg_in21k"].class_names is None


def test_arguments_of_googles_files_build_their_models(abstract_weights):
    """Each weight has a name in the format. The test of create_model has timm's models."""
    for row in CHECKPOINTS:
        if row.format == "google":
            settings = {**row.arguments, "num_classes": row.num_classes, "depth": 1}
            model = getattr(km, row.family)(row.variant, **settings)
            assert not unnamed_roles(model, "google"), row.name


def distinct(rows):
    """One row for each set of the builder's arguments."""
    return {(row.family, row.variant, repr(row.arguments)): row for row in rows}.values()


def test_check_arguments_accepts_only_the_rows_model(monkeypatch):
    for family in (km.models.vit, km.models.mlp_mixer, km.models.conv_mixer):
        monkeypatch.setattr(family, "assemble", lambda architecture, *_: architecture)
        monkeypatch.setattr(family, "filled", lambda model, *_source: model)
    for row in distinct(CHECKPOINTS):
        builder = getattr(km, row.family)
        variant = km.variants(row.family)[row.variant]
        published.check_arguments(row, variant, builder(row.variant, **row.arguments))
        with pytest.raises(ValueError, match="`depth` must be"):
            wrong = builder(row.variant, **{**row.arguments, "depth": 7})
            published.check_arguments(row, variant, wrong)


@pytest.mark.parametrize(
    ("architecture", "tag"),
    [
        ("vit_medium_patch16_reg4_gap_256", "sbb_in1k"),
        ("vit_medium_patch16_reg1_gap_256", "sbb_in1k"),
        ("vit_base_patch16_clip_224", "openai"),
        ("vit_base_patch16_clip_quickgelu_224", "openai"),
        ("vit_large_patch14_clip_quickgelu_336", "openai"),
    ],
)
def test_tag_means_the_weights_of_the_models_architecture(architecture, tag, monkeypatch):
    row = km.pretrained()[f"{architecture}.{tag}"]
    located = []
    monkeypatch.setattr(locate, "download", located.append)
    monkeypatch.setattr(km.models.vit, "assemble", lambda *_: None)
    monkeypatch.setattr(km.models.vit, "filled", lambda *_: None)
    km.ViT(row.variant, weights=tag, **row.arguments)
    assert located == [row]


def test_locate_accepts_names_and_tags():
    name = "vit_base_patch16_224.augreg_in21k_ft_in1k"
    tag = "augreg_in21k_ft_in1k"

    def found(weights, side=224, variant="B/16"):
        return locate.locate(weights, "ViT", variant, (side, side), lambda row: True).name

    assert found(name) == name
    assert found(tag) == name
    assert found(tag, 384) == name.replace("224", "384")
    assert found(tag, 320) == name
    ends_like_a_file = "beit3_base_patch16_224.pt"
    assert found(ends_like_a_file, variant="BEiT3-B/16") == ends_like_a_file
    with pytest.raises(FileNotFoundError, match="`weights` must be a file"):
        found("beit3.pt")
    with pytest.raises(ValueError, match=r"`weights` must be for the variant 'S/16'.*for 'B/16'"):
        found(name, variant="S/16")
    with pytest.raises(ValueError, match=r"augreg_in1kk'\. Did you mean 'augreg_in1k'"):
        found("augreg_in1kk")
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
    return catalog.Checkpoint(**{**vars(CHECKPOINTS[0]), **row})


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
    monkeypatch.setattr(locate, "checkpoints", lambda: {row.name: row})
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


def test_download_prints_the_licence_that_restricts_use(server, capsys):
    locate.download(a_row(server, name="here.mit", license="mit"))
    assert "licence" not in capsys.readouterr().out
    row = a_row(server, license="cc-by-nc-4.0", gated=True)
    assert row.non_commercial
    locate.download(row)
    assert capsys.readouterr().out.startswith(
        "The licence cc-by-nc-4.0 of here.test excludes commercial use and must be accepted on"
        " huggingface.co first\n"
    )


@pytest.mark.parametrize("status", [401, 403])
def test_download_of_a_gated_file_names_the_way_in(status, server, tmp_path):
    server.status = status
    with pytest.raises(OSError, match=rf"{status}.*`hf auth login`, and give 'hf://owner/name'"):
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
