"""examples/train_distributed.py, in processes on JAX."""

import os
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest
from run_example import EXAMPLES

import keras_mixers as km


@pytest.mark.slow
def test_train_distributed_has_the_losses_of_one_process(tmp_path, digits_folder):
    """Two processes on loopback, and one process, train with the same batches."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    small = ["--epochs", "2", "--pattern", "M", "--hidden-dim", "16", "--image-size", "8"]
    program = [sys.executable, EXAMPLES / "train_distributed.py", *small]
    two = ["--processes", "2", "--coordinator", coordinator, "--process-id"]
    # XLA compiles fast, because each program runs only a few times, and the processes share it.
    quick = {
        "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    started = [
        subprocess.Popen(
            [*program, *flags],
            cwd=tmp_path,
            env={**os.environ, **quick},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for flags in ([*two, "0", "--output", "two"], [*two, "1"], ["--output", "one"])
    ]
    losses = []
    for process in started:
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-3000:]
        losses.append([float(loss) for loss in output.split("losses: ")[1].split("\n")[0].split()])
    assert losses[0] == losses[1]
    np.testing.assert_allclose(losses[0], losses[2], rtol=1e-4)
    assert losses[0][1] < losses[0][0]

    # TensorFlow exports what JAX trained.
    two, one = (
        keras.models.load_model(tmp_path / folder / "model.keras") for folder in ("two", "one")
    )
    for weight, other in zip(two.weights, one.weights, strict=True):
        np.testing.assert_allclose(weight.numpy(), other.numpy(), atol=1e-4, err_msg=weight.path)
    assert km.export(two, tmp_path / "two.onnx").largest_difference < 1e-4
