"""Weights that are saved under timm's or Google's names and loaded again have equal bits."""

import errno

import goldens
import numpy as np
import pytest
from cases import MODELS

import keras_mixers as km

every = pytest.mark.parametrize("name", goldens.GOLDENS)


def kind(name):
    return ("google", ".npz") if name.endswith("npz") else ("timm", ".safetensors")


@every
def test_save_weights_reproduces_golden_files(name, tmp_path):
    model = goldens.make(name)
    km.load_weights(model, goldens.FOLDER / name)
    form, suffix = kind(name)
    path = km.save_weights(model, tmp_path / f"again{suffix}", format=form)
    expected = original = goldens.arrays(name)
    if name == "google_vit_prelogits.npz":  # because its blocks have big_vision's numbers
        renumber = {"Attention_0": "Attention_1", "MlpBlock_0": "MlpBlock_3"}
        expected = {}
        for key, array in original.items():
            for old, new in renumber.items():
                key = key.replace(old, new)
            if "encoderblock" in key:
                key = key.replace("LayerNorm_1", "LayerNorm_2")
            expected[key] = array
    found = goldens.read(path)
    assert set(found) == set(expected)
    for key, array in expected.items():
        if "num_batches_tracked" not in key:
            np.testing.assert_array_equal(found[key], array, err_msg=key)
            assert found[key].dtype == array.dtype


SAVED = {
    "timm": [
        "vit", "vit_gap", "vit_map", "vit_sequence", "vit_registers", "vit_pre_logits",
        "deit_distilled", "deit3", "mlp_mixer", "conv_mixer",
    ],
    "google": ["vit", "vit_gap", "vit_map", "vit_sequence", "vit_pre_logits", "mlp_mixer"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("form", "case"),
    [(form, case) for form, ids in SAVED.items() for case in MODELS if case.id in ids],
    ids=lambda value: getattr(value, "id", value),
)
def test_round_trips_are_bit_equal(form, case, tmp_path):
    one, other = case.make(), case.make()
    for i, weight in enumerate(one.weights):
        weight.assign(np.random.default_rng(i).uniform(0.1, 1, weight.shape))
    path = tmp_path / ("w.npz" if form == "google" else "w.safetensors")
    report = km.load_weights(other, km.save_weights(one, path, format=form))
    assert not report.untouched
    for a, b in zip(one.weights, other.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)


def test_gmlp_round_trips_as_timm(tmp_path):
    model = km.Hybrid("GG", input_shape=(8, 12, 3), patch_size=4, hidden_dim=16, mlp_dim=24)
    path = km.save_weights(model, tmp_path / "gmlp.safetensors")
    assert goldens.read(path)["blocks.1.mlp_channels.gate.proj.weight"].shape == (6, 6)
    report = km.load_weights(model, path, head="keep")
    assert report.format == "timm gMLP"


def test_batch_norms_get_the_counter_of_torch(tmp_path):
    case = next(case for case in MODELS if case.id == "conv_mixer")
    arrays = goldens.read(km.save_weights(case.make(), tmp_path / "conv.safetensors"))
    counter = arrays["stem.2.num_batches_tracked"]
    assert counter.dtype == "int64"
    assert counter.shape == ()


@pytest.mark.parametrize(
    ("case", "form", "message"),
    [
        ("hybrid_MMA", "timm", "`format`='timm' must have names for the model's blocks.*attention"),
        ("conv_mixer", "google", "`format`='google' must have names.*conv_mixer"),
        ("deit3", "google", "Google ViT, which has none for block_0_attention/layer_scale/gamma"),
    ],
)
def test_save_weights_refuses_weights_without_names(case, form, message, tmp_path):
    model = next(each for each in MODELS if each.id == case).make()
    path = tmp_path / ("w.npz" if form == "google" else "w.safetensors")
    with pytest.raises(ValueError, match=message):
        km.save_weights(model, path, format=form)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("more", [{"gated_mlp": True}, {"rotary": km.layers.Rotary()}])
def test_google_has_no_gated_or_rotary_models(more, tmp_path):
    model = next(each for each in MODELS if each.id == "vit").make(**more)
    with pytest.raises(ValueError, match="`format`='google' must have the model's blocks"):
        km.save_weights(model, tmp_path / "w.npz", format="google")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("path", "form", "message"),
    [
        ("w.npz", "timm", r"`path` must end in '\.safetensors' for format='timm'.*w\.npz"),
        ("w.safetensors", "google", r"`path` must end in '\.npz'"),
        ("none/w.npz", "google", "`path` must lie in a folder that exists"),
        ("w.npz", "flax", "`format` must be one of 'timm', 'google'"),
    ],
)
def test_save_weights_refuses_bad_arguments(path, form, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        km.save_weights(MODELS[0].make(), tmp_path / path, format=form)
    with pytest.raises(TypeError, match="`path` must be a string or a path"):
        km.save_weights(MODELS[0].make(), 3)


def test_save_weights_keeps_old_file_on_failure(tmp_path, monkeypatch):
    path = km.save_weights(MODELS[0].make(), tmp_path / "w.npz", format="google")
    before = path.read_bytes()

    def fail(file, **_):
        file.write(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="the disk is full"):
        km.save_weights(MODELS[0].make(), path, format="google")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["w.npz"]


def test_save_weights_accepts_an_upper_case_suffix(tmp_path):
    path = km.save_weights(MODELS[0].make(), tmp_path / "W.NPZ", format="google")
    assert [file.name for file in tmp_path.iterdir()] == ["W.NPZ"]
    assert km.load_weights(MODELS[0].make(), path).loaded


@pytest.mark.parametrize(("name", "form"), [("w.npz", "google"), ("w.safetensors", "timm")])
def test_save_weights_names_the_path_on_a_full_disk(name, form, tmp_path, limited_files):
    model = MODELS[0].make()
    path = km.save_weights(model, tmp_path / name, format=form)
    before = path.read_bytes()
    for size in (0, 10, len(before) // 2, len(before) - 1):
        with limited_files(size), pytest.raises(OSError, match=name) as caught:
            km.save_weights(model, path, format=form)
        assert caught.value.errno == errno.EFBIG
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(("name", "form"), [("w.npz", "google"), ("w.safetensors", "timm")])
def test_save_weights_refuses_a_folder(name, form, tmp_path):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "mine").write_text("kept")
    with pytest.raises(ValueError, match="`path` must name a file, not a folder"):
        km.save_weights(MODELS[0].make(), folder, format=form)
    assert (folder / "mine").read_text() == "kept"


def test_safetensors_are_read_by_the_public_library(tmp_path):
    from safetensors import safe_open

    model = next(case for case in MODELS if case.id == "conv_mixer").make()
    path = km.save_weights(model, tmp_path / "w.safetensors")
    ours = goldens.read(path)
    with safe_open(path, "numpy") as file:
        assert file.metadata()["format"] == "pt"
        assert set(file.keys()) == set(ours)
        for key in file.keys():
            np.testing.assert_array_equal(file.get_tensor(key), ours[key])
