"""examples/serve.py and benchmark_serve.py."""

import asyncio
import io
import json
import signal
import socket
import subprocess
import sys
import threading
import types

import keras
import numpy as np
import onnxruntime
import pytest
from PIL import Image
from run_example import EXAMPLES, load_example

import keras_mixers as km

NAMES = ["red", "green", "blue"]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """An ONNX file with the mean of each channel as a logit."""
    images = keras.Input((16, 24, 3))
    logits = keras.layers.GlobalAveragePooling2D(name="logits")(images)
    path = tmp_path_factory.mktemp("serve") / "model.onnx"
    preprocessing = km.Preprocessing((16, 24), crop_fraction=0.7, mean=0.5, std=0.1)
    model = keras.Model(images, keras.layers.Dense(3, None, True, "identity")(logits))
    km.export(model, path, preprocessing=preprocessing, class_names=NAMES)
    return path


@pytest.fixture(scope="module")
def serve():
    pytest.importorskip("uvicorn", reason="needs starlette, uvicorn and prometheus-client")
    return load_example("serve")


@pytest.fixture
def service(serve, file, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as `main` does
    limits = {
        "workers": 1,
        "batch": 4,
        "queue": 2,
        "megabytes": 0.02,
        "megapixels": 0.1,
        "seconds": 0.5,
    }
    service = serve.Service(types.SimpleNamespace(file=file, top=2, threads=2, **limits))
    with asyncio.Runner() as runner:
        service.run = runner.run
        yield service


def ask(service, *bodies):
    """`[(status, JSON)]` for requests at the same time; each body is a list of chunks."""

    async def one(body):
        sent, chunks = [], iter(body)
        scope = {"type": "http", "method": "POST", "path": "/classify", "headers": []}

        async def receive():
            chunk = next(chunks, None)
            if chunk is None:
                await asyncio.sleep(60)  # the client is slow
            return {"type": "http.request", "body": chunk, "more_body": chunk is not body[-1]}

        async def send(message):
            sent.append(message)

        await application({**scope, "query_string": b"", "root_path": ""}, receive, send)
        return sent[0]["status"], json.loads(sent[1]["body"])

    async def all_of_them():
        async with service.lifespan(None):
            return await asyncio.gather(*map(one, bodies))

    application = service.application()
    return service.run(all_of_them())


def image(width, height):
    pixels = np.random.default_rng(width).integers(0, 256, (3, 4, 3), dtype="uint8")
    return Image.fromarray(pixels).resize((width, height))


def content(image, **options):
    stream = io.BytesIO()
    image.save(stream, "PNG", **options)
    return stream.getvalue()


def test_serve_gives_the_probabilities_of_the_file(service, file):
    """The file itself resizes in its graph, here for wide, high and small images."""
    session = onnxruntime.InferenceSession(file)
    for size in [(91, 40), (31, 80), (44, 103), (10, 9), (34, 22)]:
        pixels = np.asarray(image(*size))
        (expected,) = session.run(["probabilities"], {"images": pixels[None]})
        body = content(image(*size))
        [(status, answer)] = ask(service, [body[:100], body[100:]])
        best = np.argsort(-expected[0])[:2]
        assert status == 200
        assert [c["name"] for c in answer["classes"]] == [NAMES[i] for i in best]
        values = [c["probability"] for c in answer["classes"]]
        np.testing.assert_allclose(values, expected[0][best], atol=1e-6)


def test_serve_reads_orientation_alpha_and_grey(service):
    upright = service.classifier.prepare(content(image(40, 30)), 1e6)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    turned = content(image(40, 30).transpose(Image.Transpose.ROTATE_90), exif=exif)
    np.testing.assert_array_equal(service.classifier.prepare(turned, 1e6), upright)
    clear = service.classifier.prepare(content(Image.new("RGBA", (40, 30))), 1e6)
    assert clear.min() == 255
    grey = service.classifier.prepare(content(Image.new("L", (40, 30), 7)), 1e6)
    assert grey.shape == upright.shape == (22, 34, 3)
    assert set(grey.ravel()) == {7}


def test_serve_refuses_what_exceeds_a_limit(service):
    good, benchmark = content(image(40, 30)), load_example("benchmark_serve")
    for body, status, reason in [
        ([good[:-40]], 400, "not a readable JPEG, PNG or WebP image"),
        ([b"<svg/>"], 400, "JPEG, PNG or WebP image; send the file with curl --data-binary"),
        ([b""], 400, "the body is empty; send the file with curl --data-binary"),
        ([content(Image.new("RGB", (400, 300)))], 413, "400 x 300 pixels"),
        ([benchmark.png(30_000, 30_000)], 413, "30000 x 30000 pixels"),
        ([benchmark.png(9_000, 1)], 413, "9000 x 1 pixels"),
        ([benchmark.webp(16_383)], 413, "16383 x 16383 pixels"),
        ([b"start", bytes(20_000), b"end"], 413, "more than 0.02 MB"),
        ([good[:50], None], 408, "did not arrive in time"),
    ]:
        service.args.seconds = 0.1 if status == 408 else 60
        [(found, answer)] = ask(service, body)
        assert found == status
        assert reason in answer["error"]
    service.args.seconds = 60
    # Of three requests at a time, the third is one too many, and the others get their answers.
    statuses = [status for status, _ in ask(service, [good], [good], [good])]
    assert statuses == [200, 200, 503]
    assert service.active == 0
    assert service.registry.get_sample_value("serve_requests_total", {"status": "413"}) == 5


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (".", "takes an .onnx file"),
        ("none", "file not found: none"),
        ("other.onnx", "onnxruntime cannot load other.onnx: "),
        ("other.onnx --top 0", "argument --top: must be above 0, and not 0"),
        ("other.onnx --batch -1", "argument --batch: must be above 0"),
        ("other.onnx --seconds inf", "argument --seconds: must be above 0"),
        ("other.onnx --threads few", "argument --threads: invalid int value: 'few'"),
    ],
)
def test_serve_refuses_other_files_and_flags(serve, file, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "other.onnx").write_text("not ONNX")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["serve.py", *file.split()])
    with pytest.raises(SystemExit) as end:
        serve.main()
    assert message in f"{end.value}{capsys.readouterr().err}"


def test_serve_computes_what_waits_as_one_batch(service):
    images = np.random.default_rng(0).integers(0, 256, (6, 22, 34, 3), dtype="uint8")

    async def compute():
        rows = asyncio.gather(*map(service.batches, images))
        await asyncio.sleep(0)  # so that all wait before the first is computed
        async with service.lifespan(None):
            return await rows

    np.testing.assert_allclose(service.run(compute()), service.classifier(images), atol=1e-6)
    sample = service.registry.get_sample_value
    assert (sample("serve_batch_images_count"), sample("serve_batch_images_sum")) == (2, 6)


def test_serve_answers_and_counts_what_the_runtime_refuses(service, monkeypatch):
    monkeypatch.setattr(service.classifier, "prepare", lambda *_: np.zeros((9, 9, 2), "uint8"))
    [(status, answer)] = ask(service, [b"image"])
    assert (status, answer) == (500, {"error": "the server failed; see its log"})
    assert service.registry.get_sample_value("serve_requests_total", {"status": "500"}) == 1
    monkeypatch.undo()
    monkeypatch.setattr(service.batches, "classifier", lambda images: images[:0])
    assert ask(service, [content(image(40, 30))])[0][0] == 500
    monkeypatch.undo()
    assert ask(service, [content(image(40, 30))])[0][0] == 200


def test_serve_ends_its_threads_after_an_error(service):
    before = threading.active_count()
    with pytest.raises(InterruptedError), service.batches.running(2):
        assert threading.active_count() == before + 2
        raise InterruptedError
    assert threading.active_count() == before


def test_benchmark_reads_sizes_of_images():
    size = load_example("benchmark_serve").size
    assert size("1080x1920") == (1080, 1920)
    for text in ("640", "640x", "1x2x3"):
        with pytest.raises(ValueError):
            size(text)


WITHOUT = """
import runpy, sys
for module in ("keras", "keras_mixers", "tensorflow", "jax", "onnx"):
    sys.modules[module] = None  # importing it fails
sys.argv[1:] = {arguments!r}
runpy.run_path({example!r}, run_name="__main__")
"""


@pytest.mark.slow
def test_serve_finishes_its_requests_on_sigterm(serve, file):
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    arguments = [str(file), "--port", str(address[1])]
    program = WITHOUT.format(arguments=arguments, example=str(EXAMPLES / "serve.py"))
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    try:
        next(line for line in process.stderr if "running on" in line)
        body = content(image(40, 30))
        head = f"POST /classify HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        with socket.create_connection(address) as connection:
            connection.sendall(head.encode() + body[:100])
            with socket.create_connection(address) as other:
                other.sendall(b"GET /health HTTP/1.0\r\n\r\n")
                assert b'"ok"' in other.makefile("rb").read()  # so the server has the first request
            process.send_signal(signal.SIGTERM)
            next(line for line in process.stderr if "Shutting down" in line)
            next(line for line in process.stderr if "Waiting" in line)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address)
            connection.sendall(body[100:])
            answer = connection.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert set(NAMES) == {
            c["name"] for c in json.loads(answer.split(b"\r\n\r\n")[1])["classes"]
        }
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()
