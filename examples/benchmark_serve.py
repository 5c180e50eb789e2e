"""Measure examples/serve.py against a plain loop, and send it hostile requests.

    python examples/benchmark_serve.py out/model.onnx                # 1, 8 and 64 clients
    python examples/benchmark_serve.py out/model.onnx --hostile 1000

The plain loop is `http.server` with one thread for each connection, whose handler decodes the image
and gives it to onnxruntime, which resizes it. Each client sends one JPEG file after the other, over
one connection. Server and clients share the processor. On a busy machine, compare the server's
processor time for each request, because a process with more threads gets more of the processor.
"""

import argparse
import asyncio
import collections
import http.server
import io
import json
import os
import pathlib
import random
import statistics
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
from PIL import Image

HERE = pathlib.Path(__file__)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", type=pathlib.Path, help="an ONNX file with preprocessing and names")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    sizes = [(640, 480), (1280, 960), (1080, 1920)]
    text = "widths and heights, such as 224x224"
    parser.add_argument("--images", type=size, nargs="+", default=sizes, help=text)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--hostile", type=int, default=0, help="send this many hostile requests")
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--plain", action="store_true", help="run the plain loop (used inside)")
    return parser.parse_args()


def size(text):
    """(width, height) of a text such as `640x480`."""
    width, height = map(int, text.split("x"))
    return width, height


def run_plain(args):
    """Serve in a plain loop until the process is killed."""
    import onnxruntime

    session = onnxruntime.InferenceSession(args.file)
    names = json.loads(session.get_modelmeta().custom_metadata_map["class_names"])
    mode = "L" if session.get_inputs()[0].shape[3] == 1 else "RGB"

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            image = np.asarray(Image.open(io.BytesIO(body)).convert(mode))
            image = image.reshape(1, *image.shape[:2], -1)
            (rows,) = session.run(["probabilities"], {"images": image})
            best = np.argsort(-rows[0])[:5]
            content = json.dumps({names[i]: float(rows[0][i]) for i in best}).encode()
            head = "HTTP/1.1 200 OK\r\ncontent-length: " + str(len(content))
            self.wfile.write(head.encode() + b"\r\n\r\n" + content)

    http.server.ThreadingHTTPServer.request_queue_size = 128  # by default 5 connections may wait
    http.server.ThreadingHTTPServer(("127.0.0.1", args.port), Handler).serve_forever()


def photo(width, height):
    """A JPEG file of a smooth random image."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype="uint8")
    file = io.BytesIO()
    Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC).save(
        file, "JPEG", quality=90
    )
    return file.getvalue()


def request(body, length=None):
    head = f"POST /classify HTTP/1.1\r\nhost: x\r\ncontent-length: {length or len(body)}\r\n\r\n"
    return head.encode() + body


async def answer(reader):
    """The status of one response."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    lengths = [int(line[15:]) for line in lines if line.startswith(b"content-length:")]
    await reader.readexactly(sum(lengths))
    return int(head.split()[1])


async def client(port, images, number, end, times, statuses):
    """Send images one after the other, and note the time of each answer."""
    requests = [request(image) for image in images]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < end:
        start = time.perf_counter()
        writer.write(requests[(number + len(times)) % len(requests)])
        statuses.append(await answer(reader))
        times.append(time.perf_counter() - start)
    writer.close()


async def measure(port, images, clients, seconds):
    """Requests per second, and the times of all requests in milliseconds."""
    times, statuses = [], []
    start = time.perf_counter()
    end = start + seconds
    await asyncio.gather(*(client(port, images, n, end, times, statuses) for n in range(clients)))
    rate = statuses.count(200) / (time.perf_counter() - start)
    return rate, sorted(1000 * value for value in times)


def png(width, height):
    """A PNG file of few bytes that claims a size."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)  # RGB with alpha
    pixels = zlib.compress(bytes((4 * width + 1) * height if width * height < 2**25 else 2**22))
    parts = chunk(b"IHDR", head), chunk(b"IDAT", pixels), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def webp(side):
    """A WebP file of few bytes that claims a size."""
    sides = struct.pack("<I", side - 1 | (side - 1) << 14)
    data = b"VP8L" + struct.pack("<I", 30) + b"\x2f" + sides + bytes(25)
    return b"RIFF" + struct.pack("<I", 4 + len(data)) + b"WEBP" + data


def damaged(body):
    """The bytes, 20 of them changed."""
    body = bytearray(body)
    for _ in range(20):
        body[random.randrange(len(body))] = random.randrange(256)
    return bytes(body)


def hostile_requests():
    """`{kind: function that makes what to send}`."""
    good, large, bomb = photo(640, 480), png(5_600, 5_600), png(30_000, 30_000)
    return {
        "truncated": lambda: request(good[: random.randrange(1, len(good))]),
        "damaged": lambda: request(damaged(good)),
        "noise": lambda: request(random.randbytes(5_000)),
        "text": lambda: request(b"<svg onload=alert(1)>"),
        "PNG bomb": lambda: request(bomb),
        "WebP bomb": lambda: request(webp(16_383)),
        "line of 60,000 pixels": lambda: request(png(60_000, 1)),
        "31 megapixels with alpha": lambda: request(large),
        "empty": lambda: request(b""),
        "announces 1 TB": lambda: request(good, 10**12),
        "body of 9 MB": lambda: request(bytes(9 * 10**6)),
        "long headers": lambda: b"POST /classify HTTP/1.1\r\nx: " + b"a" * 10**6,
        "no HTTP": lambda: random.randbytes(300) + b"\r\n\r\n",
        "wrong length": lambda: request(good, -5),
        "slow body": lambda: request(good[:100], len(good)),
        "slow head": lambda: b"POST /clas",
    }


async def attack(port, count):
    """Send hostile requests, 50 at a time; count the answers of each kind."""
    kinds, room = hostile_requests(), asyncio.Semaphore(50)
    answers = {kind: collections.Counter() for kind in kinds}

    async def send(kind):
        async with room:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(kinds[kind]())
                status = await asyncio.wait_for(answer(reader), 60)
                writer.close()
            except (OSError, EOFError) as error:
                status = "closed" if isinstance(error, ConnectionError | EOFError) else "no answer"
            answers[kind][status] += 1

    await asyncio.gather(*(send(list(kinds)[i % len(kinds)]) for i in range(count)))
    for kind, statuses in answers.items():
        print(f"{kind:>24}: " + ", ".join(f"{n} x {status}" for status, n in statuses.items()))


def memory(process):
    """The most memory that a process has had, in MB."""
    lines = pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1000 for line in lines if line.startswith("VmHWM"))


def processor_time(process):
    """Seconds that all threads of a process have computed."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main():
    args = parse_arguments()
    if args.plain:
        run_plain(args)
    images = [photo(*sides) for sides in args.images]
    servers = {
        "plain loop": [HERE, args.file, "--plain", "--port", str(args.port)],
        "serve.py": [HERE.with_name("serve.py"), args.file, "--port", str(args.port)],
    }
    for name, command in servers.items():
        if args.hostile and name != "serve.py":
            continue
        process = subprocess.Popen([sys.executable, *command])
        try:
            wait_for(args.port)
            if args.hostile:
                asyncio.run(attack(args.port, args.hostile))
                print(f"{args.hostile} hostile requests; at most {memory(process)} MB")
            for clients in args.clients:
                before = processor_time(process)
                rate, times = asyncio.run(measure(args.port, images, clients, args.seconds))
                each = 1000 * (processor_time(process) - before) / len(times)
                p50, p99 = statistics.median(times), times[int(0.99 * len(times))]
                print(
                    f"{name:>10}, {clients:2} clients: {rate:6.1f} requests/s,"
                    f" p50 {p50:6.1f} ms, p99 {p99:6.1f} ms; {each:5.1f} ms of processor time for"
                    f" each; {memory(process)} MB"
                )
        finally:
            process.terminate()
            process.wait()


def wait_for(port):
    """Wait until a server answers."""

    async def connect():
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                return writer.close()

    asyncio.run(asyncio.wait_for(connect(), 60))


if __name__ == "__main__":
    main()
