"""The process of one contestant of benchmark.py: a model of one framework, timed on request.

A request is a line of JSON on stdin; its answer is a line on stdout. The first request describes
the model. The others are:

- `["train", steps, batch]`, `["predict", steps, batch]`, `["call", steps, batch]`: seconds of each
  step;
- `["matmul", steps, side]`: seconds of each product of two square matrices;
- `["first_step", batch]`: seconds of the first training step;
- `["memory"]`: bytes in use now, and at most since the last such request;
- `["count_flops"]`: multiply-adds of an image.

Keras receives images in host memory, as users pass them. The images of timm are on its device.
"""

import json
import os
import pathlib
import platform
import sys
import time

import numpy as np
from benchmark_models import BUILDERS

# The instruction sets that decide the speed of matrix products, by their flags in /proc/cpuinfo.
INSTRUCTION_SETS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512_bf16": "AVX-512 BF16",
    "amx_int8": "AMX int8",
    "amx_bf16": "AMX BF16",
    "asimd": "NEON",
    "bf16": "Arm BF16",
}


class KerasModel:
    """A Keras model: of keras_mixers, of plain Keras layers, or of keras-hub."""

    def __init__(self, spec):
        import keras

        self.keras, self.spec = keras, spec
        self.uses_tensorflow = keras.backend.backend() == "tensorflow"
        keras.config.set_dtype_policy(spec["dtype"])
        self.model = BUILDERS[spec["contestant"]](spec)
        keras.config.set_dtype_policy("float32")
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.model.compile(keras.optimizers.AdamW(1e-3), loss)
        self.compiled = None

    def train(self, steps, batch):
        return self.between_ends("train_batch", self.model.fit, self.data(steps + 1, batch), steps)

    def predict(self, steps, batch):
        inputs, *_ = self.data(steps + 1, batch)
        return self.between_ends("predict_batch", self.model.predict, [inputs], steps)

    def between_ends(self, what, run, data, steps):
        """Seconds from the end of one step to the end of the next, inside `fit` or `predict`."""
        clock, ends = self.keras.callbacks.Callback(), []

        def on_end(_, logs):
            # Because JAX returns before the step has ended, wait for a result.
            np.asarray(self.keras.tree.flatten(logs)[0])
            ends.append(time.perf_counter())

        setattr(clock, f"on_{what}_end", on_end)
        options = {"steps_per_epoch" if what == "train_batch" else "steps": steps + 1}
        if not self.uses_tensorflow:
            options = {"batch_size": len(data[0]) // (steps + 1)}
            options |= {"shuffle": False} if what == "train_batch" else {}
        run(*data, verbose=0, callbacks=[clock], **options)
        return np.diff(ends).tolist()

    def data(self, steps, batch):
        """Images and labels for a number of steps: a dataset on TensorFlow, otherwise arrays."""
        images, labels = batch_of(batch, self.spec)
        if not self.uses_tensorflow:
            return [np.concatenate([images] * steps), np.tile(labels, steps)]
        import tensorflow as tf

        options = tf.data.Options()
        options.autotune.enabled = False  # because autotuning can delay the end of `fit` by seconds
        dataset = tf.data.Dataset.from_tensors((images, labels)).repeat()
        return [dataset.with_options(options)]

    def call(self, steps, batch):
        """Seconds of each compiled call of the model, without the loops of Keras."""
        images, _ = batch_of(batch, self.spec)
        model = self.model
        if self.uses_tensorflow:
            import tensorflow as tf

            self.compiled = self.compiled or tf.function(lambda x: model(x, training=False))
            images = tf.constant(images)
            return seconds(lambda: self.compiled(images).numpy(), steps)
        import jax

        self.compiled = self.compiled or jax.jit(
            lambda *state: model.stateless_call(*state, training=False)[0]
        )
        state = [
            [variable.value for variable in variables]
            for variables in (model.trainable_variables, model.non_trainable_variables)
        ]
        images = jax.numpy.asarray(images)
        return seconds(lambda: self.compiled(*state, images).block_until_ready(), steps)

    def first_step(self, batch):
        """Seconds of the first training step, with tracing and compilation."""
        start = time.perf_counter()
        self.train(0, batch)
        return time.perf_counter() - start

    def matmul(self, steps, side):
        """Seconds of each product of two square matrices."""
        numbers = np.random.default_rng(0).normal(size=(side, side)).astype("float32")
        dtype = self.keras.dtype_policies.get(self.spec["dtype"]).compute_dtype
        if self.uses_tensorflow:
            import tensorflow as tf

            square, product = tf.cast(numbers, dtype), tf.function(lambda x: tf.matmul(x, x))
            return seconds(lambda: product(square)[0, 0].numpy(), steps)
        import jax

        square, product = jax.numpy.asarray(numbers, dtype), jax.jit(lambda x: x @ x)
        return seconds(lambda: product(square).block_until_ready(), steps)

    def count_flops(self):
        import keras_mixers as km

        return km.count_flops(self.model)

    def device_memory(self):
        """Bytes on the GPU: now, and at most since the last call (on JAX, since the start).

        None without a GPU.
        """
        if self.uses_tensorflow:
            import tensorflow as tf

            if not tf.config.list_physical_devices("GPU"):
                return None
            info = tf.config.experimental.get_memory_info("GPU:0")
            tf.config.experimental.reset_memory_stats("GPU:0")
            return [info["current"], info["peak"]]
        import jax

        stats = jax.devices()[0].memory_stats()
        return stats and [stats["bytes_in_use"], stats["peak_bytes_in_use"]]

    def parameters(self):
        return sum(int(np.prod(weight.shape)) for weight in self.model.trainable_weights)

    def versions(self):
        backend = __import__(self.keras.backend.backend())
        return f"keras {self.keras.__version__}, {backend.__name__} {backend.__version__}"

    def device(self):
        if self.uses_tensorflow:
            import tensorflow as tf

            gpus = tf.config.list_physical_devices("GPU")
            details = tf.config.experimental.get_device_details(gpus[0]) if gpus else {}
            return details.get("device_name", cpu())
        import jax

        device = jax.devices()[0]
        return cpu() if device.platform == "cpu" else device.device_kind


class TimmModel:
    """The model of timm with the same sizes, on PyTorch."""

    def __init__(self, spec):
        import torch

        self.torch, self.spec = torch, spec
        # Because TensorFlow and JAX also compute float32 products on GPUs in TF32.
        torch.set_float32_matmul_precision("high")
        self.on = "cuda" if torch.cuda.is_available() else "cpu"
        model = BUILDERS[spec["contestant"]](spec).to(self.on)
        self.format = torch.channels_last if spec["channels_last"] else torch.contiguous_format
        self.model = model.to(memory_format=self.format)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 1e-3)
        self.run = torch.compile(self.model, dynamic=False) if self.on == "cuda" else self.model
        self.batches = {}

    def batch(self, size):
        if size not in self.batches:
            images, labels = batch_of(size, self.spec)
            images = self.torch.tensor(images.transpose(0, 3, 1, 2), device=self.on)
            labels = self.torch.tensor(labels, device=self.on)
            self.batches[size] = images.contiguous(memory_format=self.format), labels
        return self.batches[size]

    def precision(self):
        on = self.spec["dtype"] != "float32"
        return self.torch.autocast(self.on, self.torch.bfloat16, enabled=on)

    def train(self, steps, batch):
        images, labels = self.batch(batch)
        self.model.train()

        def step():
            self.optimizer.zero_grad()
            with self.precision():
                logits = self.run(images)
            loss = self.torch.nn.functional.cross_entropy(logits.float(), labels)
            loss.backward()
            self.optimizer.step()
            loss.item()

        return seconds(step, steps)

    def predict(self, steps, batch):
        images, _ = self.batch(batch)
        self.model.eval()

        def step():
            with self.torch.inference_mode(), self.precision():
                self.run(images).cpu()

        return seconds(step, steps)

    call = predict

    def first_step(self, batch):
        return sum(self.train(1, batch))

    def matmul(self, steps, side):
        dtype = self.torch.float32 if self.spec["dtype"] == "float32" else self.torch.bfloat16
        square = self.torch.randn(side, side, device=self.on, dtype=dtype)
        return seconds(lambda: (square @ square)[0, 0].item(), steps)

    def device_memory(self):
        """Bytes on the GPU: now, and at most since the last call; None without a GPU."""
        cuda = self.torch.cuda
        if self.on == "cpu":
            return None
        found = [cuda.memory_allocated(), cuda.max_memory_allocated()]
        cuda.reset_peak_memory_stats()
        return found

    def parameters(self):
        return sum(weight.numel() for weight in self.model.parameters())

    def versions(self):
        import timm

        return f"timm {timm.__version__}, torch {self.torch.__version__}"

    def device(self):
        return self.torch.cuda.get_device_name() if self.on == "cuda" else cpu()


def batch_of(size, spec):
    """Random images `(size, H, W, C)` and labels."""
    random = np.random.default_rng(0)
    images = random.normal(size=(size, *spec["input_shape"])).astype("float32")
    return images, random.integers(0, spec["num_classes"], size)


def cpu():
    """The processor, its instruction sets, and how many of its cores this process uses (Linux)."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    about = dict(line.replace("\t", "").split(":", 1) for line in lines if ":" in line)
    flags = about.get("flags", about.get("Features", "")).split()
    name = about.get("model name", platform.machine()).strip()
    sets = ", ".join(title for flag, title in INSTRUCTION_SETS.items() if flag in flags)
    return f"{len(os.sched_getaffinity(0))} cores of {name} ({sets})"


def seconds(step, steps):
    """Call `step` several times and return the seconds of each call."""
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return times


def memory(model):
    """Bytes on the device, or of this process: now, and at most since the last request."""
    on_device = model.device_memory()
    if on_device:
        return on_device
    status = pathlib.Path("/proc/self/status").read_text().splitlines()
    kilobytes = dict(line.split(":") for line in status)
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    return [1024 * int(kilobytes[key].split()[0]) for key in ("VmRSS", "VmHWM")]


def main():
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # because what libraries print to stdout is not an answer
    start = time.perf_counter()
    spec = json.loads(sys.stdin.readline())
    model = TimmModel(spec) if spec["contestant"] == "timm" else KerasModel(spec)
    built = time.perf_counter() - start
    about = {
        "build_s": round(built, 1),
        "parameters": model.parameters(),
        "versions": model.versions(),
        "device": model.device(),
    }
    print(json.dumps(about), file=answers)
    for line in sys.stdin:
        request, *arguments = json.loads(line)
        answer = memory(model) if request == "memory" else getattr(model, request)(*arguments)
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
