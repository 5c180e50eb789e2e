"""Atomic files: what is at a path after an error, a kill or a full disk."""

import errno
import os
import pathlib
import resource
import signal
import subprocess
import sys
import textwrap

import pytest

from keras_mixers import files

FOLDER = {"saved_model.pb": "graph", "variables/variables.index": "index"}


def write_folder(path, content):
    for name, text in content.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def read_folder(path):
    return {str(f.relative_to(path)): f.read_text() for f in path.rglob("*") if f.is_file()}


def names(path):
    return [file.name for file in path.iterdir()]


def run(code, *arguments, **options):
    """Start a Python process with `files` imported; it loads neither Keras nor TensorFlow."""
    code = f"import importlib.util, os, pathlib, sys, time\n{LOAD_FILES}\n" + textwrap.dedent(code)
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], **options)


LOAD_FILES = f"""
spec = importlib.util.spec_from_file_location("files", {files.__file__!r})
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
"""


def kill_inside(code, *arguments):
    """Kill a process with SIGKILL as soon as it prints a line."""
    with run(code, *arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline()
        process.kill()
        assert process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("content", [{}, {"notes.txt": "mine"}, FOLDER])
def test_replacing_never_replaces_a_folder_by_a_file(tmp_path, content):
    path = tmp_path / "runs"
    path.mkdir()
    write_folder(path, content)
    with pytest.raises(IsADirectoryError, match="runs"), files.replacing(path):
        pytest.fail("the body must not run")
    assert read_folder(path) == content
    assert names(tmp_path) == ["runs"]


def test_replacing_checks_the_path_again_after_the_body(tmp_path):
    path = tmp_path / "new"
    with pytest.raises(IsADirectoryError, match="new"), files.replacing(path) as temporary:
        temporary.write_text("file")
        path.mkdir()
        (path / "notes.txt").write_text("mine")
    assert read_folder(path) == {"notes.txt": "mine"}
    assert names(tmp_path) == ["new"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_replacing_does_not_replace_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileExistsError, match="pipe"), files.replacing(tmp_path / "pipe"):
        pytest.fail("the body must not run")
    assert (tmp_path / "pipe").is_fifo()


def test_replacing_writes_through_a_link(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "last").write_text("old")
    (tmp_path / "link").symlink_to("runs/last")
    with files.replacing(tmp_path / "link") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "runs" / "last").read_text() == "new"


@pytest.mark.parametrize("can_exchange", [True, False])
def test_replacing_replaces_a_folder_if_it_may(tmp_path, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr(files, "exchange", lambda first, second: False)
    path = tmp_path / "model"
    write_folder(path, FOLDER)
    new = {"saved_model.pb": "new"}
    with files.replacing(path, lambda folder: folder == path) as temporary:
        write_folder(temporary, new)
        assert read_folder(path) == FOLDER
    assert read_folder(path) == new
    assert names(tmp_path) == ["model"]


def test_replacing_undoes_the_fallback_if_its_second_rename_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "exchange", lambda first, second: False)
    path = tmp_path / "model"
    write_folder(path, FOLDER)
    with pytest.raises(OSError), files.replacing(path, lambda folder: True):
        pass  # the body writes nothing, so that there is nothing to rename
    assert read_folder(path) == FOLDER
    assert names(tmp_path) == ["model"]


def test_exchange_never_leaves_the_path_empty(tmp_path):
    """A reader in another process sees the folder at each moment of 500 exchanges."""
    path = tmp_path / "model"
    write_folder(path, FOLDER)
    if not files.exchange(path, path):
        pytest.skip(reason="the file system cannot exchange two paths")
    code = """
        print("ready", flush=True)
        missing = 0
        while not pathlib.Path(sys.argv[2]).exists():
            missing += not pathlib.Path(sys.argv[1], "saved_model.pb").exists()
        sys.exit(missing > 0)
    """
    with run(code, path, tmp_path / "end", stdout=subprocess.PIPE) as reader:
        assert reader.stdout.readline()
        other = tmp_path / "other"
        write_folder(other, FOLDER)
        for _ in range(500):
            files.exchange(other, path)
        (tmp_path / "end").touch()
        assert reader.wait() == 0


def test_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "weights"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), files.replacing(path) as temporary:
        temporary.write_text("new")
        temporary.with_name("weights.data").write_text("companion")
        raise KeyboardInterrupt
    assert read_folder(tmp_path) == {"weights": "old"}


def test_error_in_the_last_step_removes_the_companions(tmp_path):
    path = tmp_path / "weights"
    with pytest.raises(FileNotFoundError), files.replacing(path) as temporary:
        temporary.with_name("weights.data").write_text("companion")
    assert names(tmp_path) == []


@pytest.mark.parametrize("where", ["temporary", "open file"])
def test_full_disk_names_the_path_and_leaves_the_old_file(tmp_path, where):
    path = tmp_path / "weights"
    path.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))
    try:
        with pytest.raises(OSError) as error, files.replacing(path) as temporary:
            if where == "temporary":
                raise OSError(errno.ENOSPC, "No space left on device", str(temporary))
            temporary.write_bytes(bytes(2_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert error.value.filename == str(path)
    assert error.value.errno in (errno.ENOSPC, errno.EFBIG)
    assert read_folder(tmp_path) == {"weights": "old"}


def test_error_of_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as error, files.replacing(tmp_path / "weights"):
        pathlib.Path(tmp_path, "source").read_text()
    assert error.value.filename == str(tmp_path / "source")


@pytest.mark.skipif(files.fcntl is None, reason="the system has no locks on folders")
def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    path = tmp_path / "weights"
    path.write_text("old")
    code = """
        with files.replacing(sys.argv[1]) as temporary:
            temporary.write_text("half")
            print("written", flush=True)
            time.sleep(60)
    """
    kill_inside(code, path)
    assert len(names(tmp_path)) == 2  # the file and what the killed process left
    with files.replacing(tmp_path / "another") as temporary:
        temporary.write_text("new")
    assert read_folder(tmp_path) == {"weights": "old", "another": "new"}


def test_leftovers_do_not_include_hidden_folders_of_users(tmp_path):
    mine = [".keras_mixers-notes", ".keras_mixers-settings", ".keras_mixers"]
    for name in mine:
        (tmp_path / name).mkdir()
    files.remove_leftovers(tmp_path)
    assert sorted(names(tmp_path)) == sorted(mine)


@pytest.mark.skipif(files.fcntl is None, reason="the system has no locks on folders")
def test_folder_of_a_running_process_is_not_removed(tmp_path):
    code = """
        with files.replacing(sys.argv[1]) as temporary:
            temporary.write_text("first half")
            print("written", flush=True)
            sys.stdin.readline()
            temporary.write_text("whole")
    """
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with run(code, tmp_path / "weights", **pipes) as writer:
        assert writer.stdout.readline()
        files.remove_leftovers(tmp_path)
        with files.replacing(tmp_path / "another") as temporary:
            temporary.write_text("new")
        writer.communicate(b"\n")
        assert writer.returncode == 0
    assert read_folder(tmp_path) == {"weights": "whole", "another": "new"}


@pytest.mark.skipif(files.fcntl is None, reason="the system has no locks on folders")
def test_lock_excludes_other_processes_and_ends_with_a_kill(tmp_path):
    code = """
        lock = files.Lock.of(sys.argv[1])
        print(lock is not None, flush=True)
        time.sleep(60)
    """
    with run(code, tmp_path, stdout=subprocess.PIPE) as owner:
        assert owner.stdout.readline() == b"True\n"
        assert files.Lock.of(tmp_path) is None
        owner.kill()
        owner.wait()
    lock = files.Lock.of(tmp_path)
    assert lock.descriptor is not None
    lock.release()
    assert files.Lock.of(tmp_path / "missing") is None


def test_two_folders_of_one_process_both_live(tmp_path):
    with files.temporary_folder(tmp_path) as first, files.temporary_folder(tmp_path) as second:
        assert first != second
        assert first.is_dir() and second.is_dir()
    assert names(tmp_path) == []
