"""The output folder of a run."""

import argparse

import pytest

from keras_mixers import files
from keras_mixers.commands import folders


def test_locked_folder_excludes_others_and_is_removed_if_empty(tmp_path):
    folder = tmp_path / "new" / "out"
    with folders.locked(folder):
        assert folder.is_dir()
        with pytest.raises(ValueError, match="no other process uses.*new/out"):
            with folders.locked(folder):
                pass
        assert folder.is_dir()
    assert not list(tmp_path.iterdir())
    with folders.locked(folder):
        (folder / "result").write_text("")
    assert (folder / "result").exists()
    lock = files.Lock.of(folder)
    assert lock is not None, "the folder is unlocked at the end"
    lock.release()


def test_finished_run_is_not_overwritten(tmp_path, capsys):
    args = argparse.Namespace(output=tmp_path, overwrite=False)
    folders.refuse_to_overwrite(args, "model.keras")
    (tmp_path / "model.keras").write_text("")
    with pytest.raises(ValueError, match="--overwrite must be given: .*model.keras is the result"):
        folders.refuse_to_overwrite(args, "table.csv", "model.keras")
    args.overwrite = True
    folders.refuse_to_overwrite(args, "model.keras")
    (tmp_path / "logs").mkdir()
    folders.print_content(tmp_path)
    assert capsys.readouterr().out == f"{tmp_path}/ contains logs/, model.keras\n"


def test_data_of_a_run_includes_the_csv_file(tmp_path):
    file = tmp_path / "photos.csv"
    args = argparse.Namespace(dataset=str(file))
    info = argparse.Namespace(class_names=("cat", "dog"), num_train=2, num_validation=1)
    described = []
    for label in ("cat", "dog", "dog"):
        file.write_text(f"path,label\n1.jpg,{label}\n")
        described.append(folders.describe_data(args, info))
    assert described[0] != described[1] == described[2]
