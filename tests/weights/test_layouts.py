"""Published layouts load, and the models compute the same as the original implementations."""

import contextlib
import re
import sys
import types
import zipfile

import goldens
import ml_dtypes
import numpy as np
import pytest

import keras_mixers as km
from keras_mixers.weights import checkpoint
from keras_mixers.weights.source import Source

TOKEN = "google_vit_token.npz"


def big_vision_numbers(key):
    """Replace the numbers (1, 3, 2) after the modules' names by (0, 0, 1)."""
    key = key.replace("MultiHeadDotProductAttention_1", "MultiHeadDotProductAttention_0")
    return key.replace("MlpBlock_3", "MlpBlock_0").replace("LayerNorm_2", "LayerNorm_1")


def scanned(arrays):
    """Stack the arrays of all blocks along a new first axis."""
    found = {}
    for key, array in arrays.items():
        if "encoderblock_0" in key:
            other = arrays[key.replace("encoderblock_0", "encoderblock_1")]
            found[key.replace("encoderblock_0", "encoderblock")] = np.stack([array, other])
        elif "encoderblock_1" not in key:
            found[key] = array
    return found


LAYOUTS = {
    "opt/target": lambda a: {f"opt/target/{k}": v for k, v in a.items()} | {"opt/state/step": 1.0},
    "big_vision": lambda a: {f"params/{big_vision_numbers(k)}": v for k, v in a.items()},
    "two towers": lambda a: {
        **{f"params/img/{big_vision_numbers(k)}": v for k, v in a.items()},
        "params/txt/embedding": np.ones(3),
        "params/t": np.ones(1),
    },
    "scan": lambda a: scanned({f"params/{big_vision_numbers(k)}": v for k, v in a.items()}),
    "scan, original numbers": scanned,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_google_vit_layouts_load(layout, tmp_path):
    path = goldens.write(LAYOUTS[layout](goldens.arrays(TOKEN)), tmp_path / "vit.npz")
    model = goldens.make(TOKEN)
    report = km.load_weights(model, path)
    goldens.assert_golden(model, TOKEN)
    assert not report.untouched
    assert set(report.skipped.values()) <= {"optimizer state", "text tower"}


def test_positions_without_class_token_load(tmp_path):
    """big_vision's files have no position for the class token, as if it were zero."""
    arrays = goldens.arrays(TOKEN)
    key = "Transformer/posembed_input/pos_embedding"
    grid_only = {"pos_embedding" if k == key else k: v for k, v in arrays.items()}
    grid_only["pos_embedding"] = arrays[key][:, 1:]
    grid_only["cls"] = arrays["cls"] + arrays[key][:, :1]  # the blocks receive only the sum
    path = goldens.write(grid_only, tmp_path / "vit.npz")
    for position_prefix in (True, False):
        model = goldens.make(TOKEN, position_prefix=position_prefix)
        report = km.load_weights(model, path)
        goldens.assert_golden(model, TOKEN)
        assert bool(report.adapted) == position_prefix


def test_class_token_position_is_added_to_token():
    model = goldens.make(TOKEN, position_prefix=False)
    report = km.load_weights(model, goldens.FOLDER / TOKEN)
    goldens.assert_golden(model, TOKEN)
    assert report.adapted == {
        "tokens.class": "position added to the token",
        "positions": "positions of prefix tokens added to the tokens",
    }


def test_npz_bfloat16_loads(tmp_path):
    arrays = {k: v.astype(ml_dtypes.bfloat16) for k, v in goldens.arrays(TOKEN).items()}
    path = goldens.write(arrays, tmp_path / "vit.npz")
    with np.load(path) as stored:
        assert stored["cls"].dtype == np.dtype("V2"), "two bytes without a type"
    model = goldens.make(TOKEN)
    km.load_weights(model, path)
    np.testing.assert_array_equal(
        model.get_layer("head").get_weights()[0], arrays["head/kernel"].astype("float32")
    )


@pytest.mark.parametrize("dtype", ["float16", "float64", ml_dtypes.bfloat16])
def test_safetensors_dtypes_load(dtype, tmp_path):
    name = "timm_vit.safetensors"
    arrays = {k: v.astype(dtype) for k, v in goldens.arrays(name).items()}
    model = goldens.make(name)
    km.load_weights(model, goldens.write(arrays, tmp_path / "vit.safetensors"))
    expected = arrays["head.weight"].astype("float32").T
    np.testing.assert_array_equal(model.get_layer("head").get_weights()[0], expected)


def older_mixer(arrays):
    found = {}
    for key, array in arrays.items():
        key = key.replace("stem/", "embedding/").replace(
            "pre_head_layer_norm", "Mixer/encoder_norm"
        )
        key = re.sub(r"MixerBlock_(\d)", r"Mixer/encoderblock_\1", key)
        dense = re.fullmatch(r"(.+_mixing)/Dense_(\d)/(kernel|bias)", key)
        if dense:
            key = f"{dense[1]}_phase_0/{dense[3]}{int(dense[2]) + 1}"
            array = array[None, ..., None]
        found[key] = array
    return found


def test_google_mixer_older_layout_loads(tmp_path):
    name = "google_mixer.npz"
    path = goldens.write(older_mixer(goldens.arrays(name)), tmp_path / "mixer.npz")
    model = goldens.make(name)
    km.load_weights(model, path)
    goldens.assert_golden(model, name)


def hugging_face(arrays, wrapper="vit."):
    """timm's arrays under Hugging Face's names, with query, key and value separate."""
    names = {
        "cls_token": "embeddings.cls_token",
        "dist_token": "embeddings.distillation_token",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj": "embeddings.patch_embeddings.projection",
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }
    found = {}
    for key, array in arrays.items():
        if ".attn.qkv." in key:
            block, kind = key.split(".")[1], key.split(".")[-1]
            for part, piece in zip(("query", "key", "value"), np.split(array, 3), strict=True):
                found[f"{wrapper}encoder.layer.{block}.attention.attention.{part}.{kind}"] = piece
            continue
        if key.startswith("head"):
            distilled = "dist_token" in arrays
            key = key.replace("head_dist.", "distillation_classifier.")
            key = key.replace("head.", "cls_classifier." if distilled else "classifier.")
            found[key] = array
            continue
        key = re.sub(r"^blocks\.", "encoder.layer.", re.sub(r"^norm\.", "layernorm.", key))
        for one, other in names.items():
            key = key.replace(one, other)
        found[wrapper + key] = array
    return found


@pytest.mark.parametrize("name", ["timm_vit.safetensors", "timm_deit_distilled.safetensors"])
@pytest.mark.parametrize("wrapper", ["vit.", "deit.", ""])
def test_hugging_face_names_load(name, wrapper, tmp_path):
    arrays = hugging_face(goldens.arrays(name), wrapper)
    model = goldens.make(name)
    report = km.load_weights(model, goldens.write(arrays, tmp_path / "hf.safetensors"))
    assert (report.format, report.part) == ("Hugging Face ViT", wrapper.rstrip("."))
    goldens.assert_golden(model, name)


def test_hugging_face_names_load_with_more_wrappers(tmp_path):
    """`vit.` precedes all names but the head's; the names' own `encoder.layer.` stays."""
    name = "timm_vit.safetensors"
    arrays = {
        f"module.model.{key}": array for key, array in hugging_face(goldens.arrays(name)).items()
    }
    assert "module.model.classifier.weight" in arrays
    model = goldens.make(name)
    report = km.load_weights(model, goldens.write(arrays, tmp_path / "hf.safetensors"))
    assert (report.format, report.part) == ("Hugging Face ViT", "module.model.vit")
    assert not report.skipped
    goldens.assert_golden(model, name)


def locuslab(arrays, depth):
    """timm's arrays under the numbers of the authors' Sequential."""
    found = {}
    for key, array in arrays.items():
        key = key.removeprefix("stem.").replace("head", str(5 + depth))
        block = re.fullmatch(r"blocks\.(\d+)\.(.+)", key)
        found[f"module.{int(block[1]) + 3}.{block[2]}" if block else f"module.{key}"] = array
    return found


def test_locuslab_names_load(tmp_path):
    name = "timm_convmixer.safetensors"
    arrays = locuslab(goldens.arrays(name), depth=3)
    # The head has number 5 + depth, after the stem (0 to 2), the blocks, pooling and flatten.
    assert "module.8.weight" in arrays
    model = goldens.make(name)
    report = km.load_weights(model, goldens.write(arrays, tmp_path / "conv.safetensors"))
    assert report.format == "locuslab ConvMixer"
    goldens.assert_golden(model, name)


class Tensor:
    """The part of a torch tensor that the package uses."""

    def __init__(self, array):
        self.array, self.shape = array, array.shape
        self.dtype = f"torch.{array.dtype}"

    def detach(self):
        return self

    def numpy(self):
        return self.array


@pytest.mark.parametrize("wrapper", [None, "model", "state_dict"])
def test_torch_files_are_read_as_weights_only(wrapper, tmp_path, monkeypatch):
    name = "timm_convmixer.safetensors"
    state = {key: Tensor(array) for key, array in goldens.arrays(name).items()}
    asked = []

    def load(path, **how):
        asked.append(how)
        return {wrapper: state, "epoch": 3} if wrapper else state

    serialization = types.SimpleNamespace(safe_globals=contextlib.nullcontext)
    torch = types.SimpleNamespace(load=load, Tensor=Tensor, serialization=serialization)
    monkeypatch.setitem(sys.modules, "torch", torch)
    path = tmp_path / "model.pth.tar"
    path.write_bytes(b"\x80\x02}q\x00.")
    model = goldens.make(name)
    km.load_weights(model, path)
    goldens.assert_golden(model, name)
    assert asked == [{"map_location": "cpu", "weights_only": True}]


def test_torch_files_need_torch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "model.pth"
    path.write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(ImportError, match=r"only torch .* can read safely.*\.safetensors"):
        km.load_weights(goldens.make("timm_vit.safetensors"), path)


def test_container_recognises_torch_zip_by_pickle(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.pth.tar", "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    with Source(tmp_path / "model.pth.tar") as source:
        assert checkpoint.container(source) == "torch"
