"""examples/train_distributed.py: several processes on JAX, signals, a kill, and a resume."""

import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from run_example import EXAMPLES, load_example, run_example

import keras_mixers as km
from keras_mixers.commands import train

SMALL = ["--model", "M", "--depth", "1", "--hidden-dim", "16", "--image-size", "8"]
RUN = [*SMALL, "--recipe", "recipe.json", "--save-every", "3", "--no-export"]
BACKUP = "backup.weights.h5"
# Each process has two devices. XLA compiles fast, because each program runs only a few times, and
# the processes share it.
QUICK = {
    "KERAS_BACKEND": "jax",
    "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    " --xla_force_host_platform_device_count=2",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
}
# Runs the launcher, which calls `layout_map` in all processes. Here this call also checks that an
# error of one process reaches both, and that each process loads its parts of weights.
CHECKED = """
import runpy, sys
sys.path[:0] = {folders!r}
import jax, keras_mixers as km
from keras_mixers.training import processes
from sharded_loading import check_load

def only_in(index, error):
    if jax.process_index() == index:
        raise error

def layout_map(mesh, build, **axes):
    assert processes.highest(jax.process_index()) == 1
    assert processes.first(jax.process_index) in (0, None)
    for action, message in (
        (lambda: only_in(1, OSError(28, "no space", "file")), "[Errno 28] no space: 'file'"),
        (lambda: only_in(0, KeyError("k")), "'k'"),
        (lambda: processes.check_equal(bytes(jax.process_index()), "differ"), "differ"),
    ):
        try:
            processes.together(action) if message != "differ" else action()
        except Exception as error:
            print("Raised:", type(error).__name__, error)
            assert message in str(error)
        else:
            raise AssertionError(message)
    km.training.layout_map = layouts_of
    check_load()
    return layouts_of(mesh, build, **axes)

layouts_of, km.training.layout_map = km.training.layout_map, layout_map
sys.argv = ["train_distributed.py", *sys.argv[1:]]
runpy.run_path({launcher!r}, run_name="__main__")
"""


# A process that is lost in the middle of its work, and one that waits for it.
LOST = """
import os, signal, sys
sys.path.insert(0, {folder!r})
from joining import joined

with joined("script.py", sys.argv[1], 2, int(sys.argv[2]), 60):
    import jax
    from jax.experimental import multihost_utils
    for step in range(10):
        multihost_utils.process_allgather(step)
        if step == 5 and jax.process_index() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def start_two(folder, flags):
    """Start `python flags(address, index)` as process 0 and 1; their output is in out0, out1."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = {**os.environ, **QUICK, "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")}
    started = []
    for i in range(2):
        with (folder / f"out{i}").open("w") as output:
            command = [sys.executable, "-c", *flags(address, str(i))]
            streams = {"stdout": output, "stderr": subprocess.STDOUT}
            started.append(subprocess.Popen(command, cwd=folder, env=environment, **streams))
    return started


def resume_in_two_processes(folder, program, flags):
    """Resume the run in the folder "whole" in "cut", until SIGTERM to process 1: exit statuses."""
    whole, path = folder / "whole" / BACKUP, folder / "cut" / BACKUP
    deadline = time.monotonic() + 120
    while not whole.exists():
        assert time.monotonic() < deadline, "the whole run has written no backup"
        time.sleep(0.01)
    path.parent.mkdir()
    for file in (whole, whole.with_name("flags.json")):
        shutil.copy(file, path.parent)
    before = path.stat().st_mtime_ns
    two = ["--processes", "2", "--coordinator"]
    processes = start_two(
        folder, lambda address, i: [program, *flags, *two, address, "--process-id", i]
    )
    while path.stat().st_mtime_ns == before and processes[1].poll() is None:
        time.sleep(0.01)
    processes[1].send_signal(signal.SIGTERM)
    return [process.wait(120) for process in processes]


ON_JAX = keras.backend.backend() == "jax"
needs_jax = pytest.mark.skipif(not ON_JAX, reason="several processes need JAX")


@pytest.mark.slow
@pytest.mark.backends
@needs_jax
def test_train_distributed_resumes_with_other_processes(tmp_path, digits_folder, monkeypatch):
    """A run goes from one process to two with sharded weights, and back; another is not cut."""
    recipe = km.Recipe(epochs=2, learning_rate=2e-3, ema_decay=0.9, label_smoothing=0.1)
    recipe.save(tmp_path / "recipe.json")
    launcher = str(EXAMPLES / "train_distributed.py")
    training = pathlib.Path(__file__).parents[1] / "training"
    sharded = CHECKED.format(folders=[str(EXAMPLES), str(training)], launcher=launcher)
    resume = [*RUN, "--output", "cut", "--resume"]
    # Other tests in this process need no distribution.
    monkeypatch.setattr(keras.distribution, "set_distribution", lambda distribution: None)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        flags = [*resume, "--fully-sharded"]
        two = pool.submit(resume_in_two_processes, tmp_path, sharded, flags)
        whole, message = run_example(
            "train_distributed.py", *RUN, "--output", "whole", "--processes", "1", cwd=tmp_path
        )
    assert not message
    output = [(tmp_path / f"out{i}").read_text() for i in range(2)]
    assert two.result() == [143, 143], output[0][-3000:]
    assert "Ending this process too, because another received SIGTERM" in output[0]
    assert "Finishing this step, then saving" in output[1]
    raised = [re.findall(r"Raised: (\w+)", text) for text in output]
    assert raised[0] == ["OSError", "KeyError", "ValueError"]
    assert raised[1] == ["OSError", "RuntimeError", "ValueError"]

    cut, message = run_example("train_distributed.py", *resume, "--processes", "1", cwd=tmp_path)
    assert not message
    whole, cut = (
        np.array(re.search("losses: (.*)", text)[1].split(), float) for text in (whole, cut)
    )
    # In an epoch that is resumed, Keras's loss is the mean of the later batches.
    np.testing.assert_allclose(whole[-1], cut[-1], rtol=1e-5)
    models = [keras.models.load_model(tmp_path / name / "model.keras") for name in ("whole", "cut")]
    for weight, same in zip(*(model.weights for model in models), strict=True):
        # Adam makes whole steps of gradients that are only rounding errors.
        np.testing.assert_allclose(*map(np.asarray, (weight, same)), atol=1e-3, err_msg=weight.path)
    files = {"flags.json", "history.png", "model.keras", "recipe.json"}
    assert {file.name for file in (tmp_path / "cut").iterdir()} == files


@pytest.mark.slow
@pytest.mark.backends
@needs_jax
def test_joined_process_names_the_loss_of_another(tmp_path):
    program = LOST.format(folder=str(EXAMPLES))
    first, second = start_two(tmp_path, lambda address, i: [program, address, i])
    assert second.wait(60) == -signal.SIGKILL
    assert first.wait(60) == 1
    message = "script.py: another process has ended or cannot be reached"
    assert message in (tmp_path / "out0").read_text()


def test_train_distributed_has_the_flags_of_the_command():
    command = argparse.ArgumentParser()
    train.add_flags(command)
    theirs, ours = map(meaning, (command, load_example("train_distributed").training_parser()))
    assert theirs.keys() - ours.keys() == {"deterministic", "mirrored", "tensorboard"}
    assert ours.keys() - theirs.keys() == {"export"}
    assert ours["dataset"] == {**theirs["dataset"], "default": "digits"}
    same = ours.keys() & theirs.keys() - {"dataset", "help"}
    assert {name: ours[name] for name in same} == {name: theirs[name] for name in same}


def meaning(parser):
    """What each flag of a parser accepts and does, by its name."""
    names = ("default", "choices", "help", "metavar")
    return {
        action.dest: {name: getattr(action, name) for name in names} for action in parser._actions
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--processes", "2"], "--processes needs --coordinator and --process-id"),
        (["--process-id", "1"], "--coordinator and --process-id need --processes"),
        (["--coordinator", "node1"], "--coordinator: must be host:port, not node1"),
        (
            ["--processes", "2", "--process-id", "2", "--coordinator", "node1:9911"],
            "--process-id must be from 0 to one less than --processes. Received: 2 of 2",
        ),
        (["--model-parallel", "0"], "--model-parallel: must be 1 or more, not 0"),
        (["--recipe", "smal"], "train_distributed.py: --recipe must be a JSON file or one of"),
    ],
)
def test_train_distributed_names_a_wrong_flag(arguments, message, tmp_path):
    _, found = run_example("train_distributed.py", *arguments, cwd=tmp_path)
    assert message in found
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "batch_size", "message"),
    [
        ({"model_parallel": 3}, 8, "--model-parallel must divide the number of devices, 4.*: 3"),
        ({"model_parallel": 1}, 6, "--batch-size must be a multiple of 4,.*: 6"),
    ],
)
def test_train_distributed_names_flags_that_do_not_fit_the_devices(
    flags, batch_size, message, monkeypatch
):
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: [f"gpu:{i}" for i in range(4)])
    args = argparse.Namespace(fully_sharded=False, **flags)
    recipe = km.Recipe(epochs=1, batch_size=batch_size)
    with pytest.raises(ValueError, match=message):
        load_example("train_distributed").find_distribution(args, recipe)


@pytest.fixture
def images():
    """17 images, their labels, and batches of 8."""
    import tensorflow as tf

    random = np.random.default_rng(0)
    arrays = random.normal(size=(17, 2)).astype("float32"), random.integers(0, 3, 17)
    return *arrays, tf.data.Dataset.from_tensor_slices(arrays).batch(8)


@pytest.mark.parametrize("parts", [1, 2])
def test_whole_batches_give_loss_and_accuracy_of_all_images(images, parts):
    """The second part of the last batch, which has one image, is empty."""
    import tensorflow as tf

    *arrays, dataset = images
    info = argparse.Namespace(num_validation=17, num_classes=3)
    whole_batches = load_example("train_distributed").whole_batches
    if parts == 1:
        batches = whole_batches(dataset, (8, 24), info)
    else:
        first = dataset.map(lambda *batch: tuple(array[:4] for array in batch))
        second = dataset.take(2).map(lambda *batch: tuple(array[4:] for array in batch))
        second = second.concatenate(second.take(0)).apply(
            tf.data.experimental.assert_cardinality(2)
        )
        second = second.concatenate(dataset.map(lambda *batch: tuple(x[:0] for x in batch)).take(1))
        halves = [whole_batches(half, (4, 24), info) for half in (first, second)]
        batches = tf.data.Dataset.zip(*halves).map(
            lambda *pair: tuple(tf.concat(values, 0) for values in zip(*pair, strict=True))
        )
    assert [len(batch[0]) for batch in batches] == [8, 8, 8]
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.compile("sgd", km.training.Crossentropy(0.1), metrics=[km.training.Accuracy()])
    expected = model.evaluate(*arrays, batch_size=17, verbose=0)
    np.testing.assert_allclose(model.evaluate(batches, verbose=0), expected, rtol=1e-6)


@pytest.mark.parametrize("file", ["slurm.sh", "kubernetes.yaml"])
def test_cluster_files_use_flags_of_the_launcher(file, tmp_path):
    text = (EXAMPLES / "cluster" / file).read_text()
    command = text[text.index("python examples/train_distributed.py") :]
    flags = re.findall(r"--[a-z-]+", command)
    assert "--resume" in flags
    output, _ = run_example("train_distributed.py", "--help", cwd=tmp_path)
    assert set(flags) <= set(re.findall(r"--[a-z-]+", output))
