"""The process of one runtime of support_table.py: it runs exported files on request.

    python support_table_runtime.py RUNTIME NPM_FOLDER < jobs.json

The first line on stdout is the version, as JSON. Each file adds one line: its outputs as nested
lists, `{name: list}`, or the refusal as a string. It needs only NumPy and the runtime, so that it
runs in any Python from 3.10.
"""

import contextlib
import importlib.metadata
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np

# The same function for browsers and for Node.
RUN_IN_JAVASCRIPT = """async (ort, model, images, names) => {
  const session = await ort.InferenceSession.create(model);
  const array = images.dtype === "uint8" ? Uint8Array : Float32Array;
  const tensor = new ort.Tensor(images.dtype, array.from(images.data), images.dims);
  const outputs = await session.run({ images: tensor }, names);
  await session.release();
  return names.map((name) => [name, outputs[name].dims, Array.from(outputs[name].data)]);
}"""
NODE = """const ort = require("onnxruntime-node"), run = %s;
console.log(JSON.stringify(ort.env.versions.node));
require("readline").createInterface({ input: process.stdin }).on("line", async (line) => {
  const { path, images, names } = JSON.parse(line);
  const answer = await run(ort, path, images, names).catch((error) => String(error.message));
  console.log(JSON.stringify(answer));
});"""
ORIGIN = "http://runtime.localhost"  # the route below answers all its requests
# Chromium needs --no-sandbox to run as root in a container.
FLAGS = ["--no-sandbox", "--disable-gpu"]
TYPES = {".mjs": "text/javascript", ".wasm": "application/wasm"}


@contextlib.contextmanager
def onnxruntime(_):
    import onnxruntime

    def run(path, images, names):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return dict(zip(names, session.run(names, {"images": images}), strict=True))

    yield onnxruntime.__version__, run


@contextlib.contextmanager
def onnxruntime_node(npm):
    command = ["node", "-e", NODE % RUN_IN_JAVASCRIPT]
    process = subprocess.Popen(
        command, cwd=npm, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def answer():
        line = process.stdout.readline()
        if not line:
            sys.exit(f"node ended with {process.wait()}")
        return json.loads(line)

    def run(path, images, names):
        request = {"path": path, "images": described(images), "names": names}
        print(json.dumps(request), file=process.stdin, flush=True)
        return from_javascript(answer())

    yield answer(), run
    process.stdin.close()
    process.wait()


@contextlib.contextmanager
def onnxruntime_web(npm):
    from playwright.sync_api import sync_playwright

    package = pathlib.Path(npm, "node_modules", "onnxruntime-web")
    version = json.loads((package / "package.json").read_text())["version"]

    def respond(route):
        name = route.request.url[len(ORIGIN) + 1 :]
        file = package / "dist" / name
        if name and file.is_file():
            route.fulfill(body=file.read_bytes(), content_type=TYPES[file.suffix])
        else:
            route.fulfill(body="", content_type="text/html")

    with sync_playwright() as playwright:
        installed = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=installed, args=FLAGS)
        page = browser.new_page()
        page.route("**/*", respond)
        page.goto(ORIGIN)
        page.evaluate(
            "async () => { window.ort = await import('/ort.wasm.min.mjs');"
            " ort.env.wasm.numThreads = 1; }"
        )

        def run(path, images, names):
            content = list(pathlib.Path(path).read_bytes())
            arguments = [content, described(images), names]
            call = f"([m, i, n]) => ({RUN_IN_JAVASCRIPT})(ort, Uint8Array.from(m), i, n)"
            return from_javascript(page.evaluate(call, arguments))

        yield f"{version} in Chromium {browser.version.split('.')[0]}", run
        browser.close()


@contextlib.contextmanager
def openvino(_):
    import openvino

    def run(path, images, names):
        # Because the default is bfloat16 on processors that have it.
        options = {"INFERENCE_PRECISION_HINT": "f32"}
        outputs = openvino.Core().compile_model(path, "CPU", options)({"images": images})
        return {name: outputs[name] for name in names}

    yield importlib.metadata.version("openvino"), run


@contextlib.contextmanager
def opencv(_):
    import cv2

    def run(path, images, names):
        net = cv2.dnn.readNetFromONNX(path)
        net.setInput(images, "images")
        return dict(zip(names, net.forward(names), strict=True))

    yield cv2.__version__, run


@contextlib.contextmanager
def litert(_):
    from ai_edge_litert.interpreter import Interpreter

    yield importlib.metadata.version("ai-edge-litert"), in_interpreter(Interpreter)


@contextlib.contextmanager
def tensorflow(_):
    import tensorflow as tf

    def run(path, images, names):
        if path.endswith(".tflite"):
            return in_interpreter(tf.lite.Interpreter)(path, images, names)
        loaded = tf.saved_model.load(path)
        return loaded.signatures["serving_default"](images=tf.constant(images))

    yield tf.__version__, run


def in_interpreter(interpreter):
    """A function that runs a .tflite file."""

    def run(path, images, names):
        return interpreter(path).get_signature_runner("serving_default")(images=images)

    return run


def described(images):
    """An array as JSON for JavaScript."""
    return {"dtype": str(images.dtype), "dims": images.shape, "data": images.ravel().tolist()}


def from_javascript(answer):
    """The outputs as arrays; raises the refusal."""
    if isinstance(answer, str):
        raise RuntimeError(answer)
    return {name: np.asarray(data, "float64").reshape(dims) for name, dims, data in answer}


RUNTIMES = {
    "onnxruntime": onnxruntime,
    "onnxruntime-web": onnxruntime_web,
    "onnxruntime-node": onnxruntime_node,
    "openvino": openvino,
    "opencv": opencv,
    "litert": litert,
    "tensorflow": tensorflow,
}


def answers(runtime, npm, jobs):
    """Yield the runtime's version, then the outputs or the refusal of each file."""
    with RUNTIMES[runtime](npm) as (version, run):
        yield version
        for job in jobs:
            try:
                outputs = run(job["path"], np.load(job["arrays"])["images"], job["names"])
                yield {name: np.asarray(outputs[name]).tolist() for name in job["names"]}
            except Exception as error:  # the refusal is the answer
                yield str(error) or type(error).__name__


def main():
    lines = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # because what libraries print to stdout is not an answer
    for answer in answers(*sys.argv[1:], json.load(sys.stdin)):
        print(json.dumps(answer), file=lines)


if __name__ == "__main__":
    main()
