"""Classify images over HTTP with a file of `km.export`, without Keras or TensorFlow.

    pip install onnxruntime pillow starlette uvicorn prometheus-client
    keras-mixers export out/model.keras out/model.onnx
    python examples/serve.py out/model.onnx
    curl --data-binary @cat.jpg localhost:8000/classify

`/classify` takes a JPEG, PNG or WebP file as the body and returns the most probable classes.
`/health` answers while the server works, and `/metrics` has counts and times for Prometheus.

Images of all sizes share a batch, because Pillow resizes each one in a thread to the size to which
the file would resize it. The file then only cuts out the centre, and its outputs are the same.
A batch holds what has arrived while earlier ones were computed, so that no request waits for
others. A CPU computes most with several batches at a time and one thread for each. By default there
are twice as many as cores: on a busy machine with two cores, four batches at a time got 1.5 cores,
and two got 1.25.

On SIGTERM the server refuses new connections, finishes the requests that it has, and exits with 0.
Memory: up to (--queue x --megabytes), 16 bytes for each pixel of --megapixels in each of --threads
threads, and what the model needs for --batch images in each of --workers threads.
"""

import argparse
import asyncio
import concurrent.futures
import contextlib
import io
import json
import logging
import math
import os
import pathlib
import queue
import signal
import sys
import threading
import time

try:
    import numpy as np
    import onnxruntime
    import prometheus_client as prometheus
    import uvicorn
    from PIL import Image, ImageOps
    from starlette.applications import Starlette
    from starlette.requests import ClientDisconnect
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route
    from uvicorn.protocols.http.h11_impl import H11Protocol
except ImportError as error:
    needed = "onnxruntime pillow starlette uvicorn prometheus-client"
    raise SystemExit(f"serve.py: {error.name} is missing; run: pip install {needed}") from None

LOG = logging.getLogger("uvicorn.error")  # uvicorn writes it to stderr
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's names, by the number of channels
LARGEST_HEAD = 2**14  # bytes of a request line and its headers
SECONDS_FOR_HEAD = 5
REMEDY = "send the file with curl --data-binary @cat.jpg"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", type=pathlib.Path, help="an ONNX file with preprocessing and names")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)

    def add(flag, default, meaning):
        parser.add_argument(flag, type=positive(type(default)), default=default, help=meaning)

    add("--top", 5, "classes in a response")
    add("--batch", 4, "most images in a batch")
    add("--workers", 2 * os.cpu_count(), "batches at a time")
    add("--queue", 64, "most requests at a time; then 503")
    add("--megabytes", 8.0, "of the largest body")
    add("--megapixels", 32.0, "of the largest image")
    add("--seconds", 10.0, "for a request; then 408 or 503")
    add("--threads", min(4, os.cpu_count()), "that decode")
    return parser.parse_args()


def positive(kind):
    """How argparse reads a positive int or float."""

    def read(text):
        value = kind(text)
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"must be above 0, and not {text}")
        return value

    read.__name__ = kind.__name__  # which argparse names if `text` is not a number
    return read


class Refused(Exception):
    """A request that is answered with an error: `Refused(status, reason)`."""


class Classifier:
    """The ONNX file: prepares one image, and computes the probabilities of a batch."""

    def __init__(self, file, workers):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = max(1, os.cpu_count() // workers)
        # Otherwise threads without work use the processor, which other requests need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self.session = onnxruntime.InferenceSession(file, options, ["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises many types for other files
            raise SystemExit(f"serve.py: onnxruntime cannot load {file}: {error}") from None
        facts = self.session.get_modelmeta().custom_metadata_map
        if not {"preprocessing", "class_names"} <= facts.keys():
            raise SystemExit(
                f"serve.py: {file} must contain preprocessing and class names; km.export(model,"
                " path, preprocessing=..., class_names=...) writes such a file"
            )
        if isinstance(self.session.get_inputs()[0].shape[0], int):
            raise SystemExit(f"serve.py: {file} must take any batch; km.export(..., batch=None)")
        self.names = json.loads(facts["class_names"])
        preprocessing = json.loads(facts["preprocessing"])
        self.size, self.crop_mode = preprocessing["size"], preprocessing["crop_mode"]
        self.resized = [math.floor(side / preprocessing["crop_fraction"]) for side in self.size]
        self.kernel = Image.Resampling[preprocessing["interpolation"].upper()]
        self.mode = MODES[self.session.get_inputs()[0].shape[3]]

    def __call__(self, images):
        """`(N, rows, columns, channels)`, bytes -> `(N, classes)`."""
        return self.session.run(["probabilities"], {"images": images})[0]

    def prepare(self, body, most_pixels):
        """The image of a file as bytes, `(*self.resized, channels)`."""
        if not body:
            raise Refused(400, f"the body is empty; {REMEDY}")
        try:
            with Image.open(io.BytesIO(body), formats=("JPEG", "PNG", "WEBP")) as image:
                if self.pixels_to_hold(*image.size) > most_pixels:
                    raise Refused(413, f"the image has {image.width} x {image.height} pixels")
                if image.mode.startswith(("I", "F")):
                    raise Refused(400, "the image has more than 8 bits for each channel")
                ImageOps.exif_transpose(image, in_place=True)
                return self.resize(self.in_mode(image))
        except Refused:
            raise
        except Exception:  # Pillow raises many types for damaged files
            reason = "the body is not a readable JPEG, PNG or WebP image"
            raise Refused(400, f"{reason}; {REMEDY}") from None

    def pixels_to_hold(self, *sides):
        """The largest image on the way from sides that may be swapped, before any is decoded.

        A line of pixels grows when it is resized.
        """
        most = math.prod(sides)
        for height, width in (sides, sides[::-1]):
            resized = self.resized_size(height, width)
            most = max(most, height * resized[1], math.prod(resized))
        return most

    def in_mode(self, image):
        """Grey, RGB or RGBA, without alpha over white."""
        if self.mode != "RGBA" and image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image if image.mode == self.mode else image.convert(self.mode)

    def resize(self, image):
        """Resize as the file does, and cut off only what leaves its central crop the same."""
        rows, columns = self.resized
        height, width = self.resized_size(image.height, image.width)
        top = round((height - self.size[0]) / 2) - round((rows - self.size[0]) / 2)
        left = round((width - self.size[1]) / 2) - round((columns - self.size[1]) / 2)
        # Channel by channel with alpha, by which Pillow multiplies colours.
        bands = image.split() if image.mode == "RGBA" else [image]
        # The width first, as in the file, because Pillow 13 begins with the height of high images.
        middle = (left, 0, left + columns, image.height)
        bands = [band.resize((width, image.height), self.kernel).crop(middle) for band in bands]
        middle = (0, top, columns, top + rows)
        bands = [band.resize((columns, height), self.kernel).crop(middle) for band in bands]
        return np.dstack(bands)

    def resized_size(self, height, width):
        """`(height, width)` after the resize, which keeps the ratio unless it squashes."""
        rows, columns = self.resized
        if self.crop_mode == "squash":
            return rows, columns
        if rows == columns:
            return rows * height // min(height, width), rows * width // min(height, width)
        ratio = min(height / rows, width / columns)
        return round(height / ratio), round(width / ratio)


class Batches:
    """Computes the images that wait, in batches, in threads that each compute one at a time."""

    def __init__(self, classifier, most, sizes):
        self.classifier, self.most, self.sizes = classifier, most, sizes
        self.waiting = queue.SimpleQueue()

    async def __call__(self, image):
        """The probabilities of one image."""
        result = concurrent.futures.Future()
        self.waiting.put((image, result))
        return await asyncio.wrap_future(result)

    @contextlib.contextmanager
    def running(self, workers):
        """A context in which threads compute what waits."""
        threads = [threading.Thread(target=self.run, daemon=True) for _ in range(workers)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            for _ in threads:
                self.waiting.put(None)  # which ends one thread
            for thread in threads:
                thread.join()

    def run(self):
        # Not in the event loop, which each batch would wait for before and after it is computed.
        while (batch := self.batch()) != [None]:
            in_time = [each for each in batch if each[1].set_running_or_notify_cancel()]
            if in_time:
                self.compute(*zip(*in_time, strict=True))

    def batch(self):
        """What waits, at most `most` images, but at least one image or None."""
        found = [self.waiting.get()]
        with contextlib.suppress(queue.Empty):
            while found[-1] and len(found) < self.most:
                found.append(self.waiting.get_nowait())
        if len(found) > 1 and found[-1] is None:
            self.waiting.put(found.pop())
        return found

    def compute(self, images, results):
        self.sizes.observe(len(images))
        try:
            rows = self.classifier(np.stack(images))
            answers = list(zip(rows, results, strict=True))
        except Exception as error:  # only the requests of this batch fail
            for result in results:
                result.set_exception(error)
            return
        for row, result in answers:
            result.set_result(row)


class Service:
    """The three addresses."""

    def __init__(self, args):
        self.args, self.classifier, self.active = args, Classifier(args.file, args.workers), 0
        self.registry = registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=registry)
        active = prometheus.Gauge("serve_active", "Requests at this time", registry=registry)
        active.set_function(lambda: self.active)
        self.answers = prometheus.Counter(
            "serve_requests", "Answers", ["status"], registry=registry
        )
        self.times = prometheus.Histogram("serve_seconds", "Of a request", registry=registry)
        sizes = prometheus.Summary("serve_batch_images", "In a batch", registry=registry)
        self.batches = Batches(self.classifier, args.batch, sizes)
        self.decoders = concurrent.futures.ThreadPoolExecutor(args.threads)

    async def classify(self, request):
        start = time.perf_counter()
        self.active += 1
        try:
            status, content = 200, await self.answer(request)
        except Refused as refused:
            status, reason = refused.args
            content = {"error": reason}
        except ClientDisconnect:
            status, content = 499, {}
        except Exception:  # only this request fails
            LOG.exception("an image could not be classified")
            status, content = 500, {"error": "the server failed; see its log"}
        finally:
            self.active -= 1
        self.answers.labels(status).inc()
        self.times.observe(time.perf_counter() - start)
        # An error may leave a part of the body unread, so the connection ends.
        headers = {} if status == 200 else {"connection": "close"}
        return JSONResponse(content, status, headers)

    async def answer(self, request):
        if self.active > self.args.queue:
            raise Refused(503, "the server is busy")
        stage = 408, "the body did not arrive in time"
        try:
            async with asyncio.timeout(self.args.seconds):
                body = await self.body(request)
                stage = 503, "the server is busy"
                image = await asyncio.get_running_loop().run_in_executor(
                    self.decoders, self.classifier.prepare, body, self.args.megapixels * 1e6
                )
                probabilities = await self.batches(image)
        except TimeoutError:
            raise Refused(*stage) from None
        best = np.argsort(-probabilities, kind="stable")[: self.args.top]
        named = [(self.classifier.names[i], round(float(probabilities[i]), 6)) for i in best]
        return {"classes": [{"name": name, "probability": value} for name, value in named]}

    async def body(self, request):
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self.args.megabytes * 1e6:
                raise Refused(413, f"the body has more than {self.args.megabytes} MB")
        return bytes(body)

    async def health(self, _request):
        return JSONResponse({"status": "ok", "file": self.args.file.name})

    async def metrics(self, _request):
        content = prometheus.generate_latest(self.registry)
        return Response(content, media_type=prometheus.CONTENT_TYPE_LATEST)

    @contextlib.asynccontextmanager
    async def lifespan(self, _app):
        with self.batches.running(self.args.workers):
            yield

    def application(self):
        routes = [
            Route("/classify", self.classify, methods=["POST"]),
            Route("/health", self.health),
            Route("/metrics", self.metrics),
        ]
        return Starlette(routes=routes, lifespan=self.lifespan)


class Protocol(H11Protocol):
    """Closes a connection that does not send the head of a request in time.

    uvicorn has no limit for this: its `timeout_keep_alive` ends with the first byte.
    """

    def connection_made(self, transport):
        super().connection_made(transport)
        self.expect_head()

    def expect_head(self):
        self.late = self.loop.call_later(SECONDS_FOR_HEAD, self.transport.close)

    def handle_events(self):
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:  # the head is complete
            self.late.cancel()

    def on_response_complete(self):
        self.expect_head()
        super().on_response_complete()

    def connection_lost(self, error):
        self.late.cancel()
        super().connection_lost(error)


def main():
    args = parse_arguments()
    Image.MAX_IMAGE_PIXELS = None  # because `prepare` has its own limit
    if args.file.is_dir():
        raise SystemExit(f"serve.py: {args.file} is a folder; serve.py takes an .onnx file")
    if not args.file.is_file():
        raise SystemExit(f"serve.py: file not found: {args.file}")
    config = uvicorn.Config(
        Service(args).application(),
        host=args.host,
        port=args.port,
        http=Protocol,
        ws="none",
        access_log=False,
        h11_max_incomplete_event_size=LARGEST_HEAD,
        timeout_graceful_shutdown=math.ceil(args.seconds),
    )
    # When it has finished, uvicorn raises the signal again for this handler.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.Server(config).run()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("\nserve.py: interrupted") from None
