"""Files of several parts, torch files as training writes them, and layers with LoRA."""

import argparse
import collections
import json
import pathlib

import goldens
import keras
import numpy as np
import pytest
from backends import ON_TORCH
from keras import ops

import keras_mixers as km

VIT = "timm_vit.safetensors"


def on_torch(test):
    """A test of torch's files, on one backend, because reading them does not depend on it."""
    only = pytest.mark.skipif(not ON_TORCH, reason="torch's files are read the same everywhere")
    return pytest.mark.backends(only(test))


@pytest.fixture(scope="module")
def model():
    return goldens.make(VIT)


def load(model, path, atol=1e-5):
    """The report of a load into a model whose weights were wrong before."""
    for weight in model.weights:
        weight.assign(np.full(weight.shape, 7, "float32"))
    report = km.load_weights(model, path)
    goldens.assert_golden(model, VIT, atol)
    return report


# Torch files.


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def state(torch):
    return {key: torch.from_numpy(array.copy()) for key, array in goldens.arrays(VIT).items()}


def under(prefix, state):
    return {prefix + key: tensor for key, tensor in state.items()}


def wrong(state):
    return {key: tensor + 1 for key, tensor in state.items()}


NESTED = {
    "": lambda state: state,
    "model": lambda state: {"model": collections.OrderedDict(state), "epoch": 3},
    "model.state_dict.module": lambda s: {"model": {"state_dict": under("module.", s)}, "x": None},
    "state_dict_ema": lambda s: {"state_dict": wrong(s), "state_dict_ema": s, "model": wrong(s)},
    "model_ema.module": lambda s: {"model_ema": under("module.", s), "model": wrong(s)},
    "teacher.backbone": lambda s: {
        "student": under("module.backbone.", wrong(s)),
        "teacher": under("backbone.", s),
    },
    "module": lambda state: {"module": state},
}


@on_torch
@pytest.mark.parametrize("part", NESTED)
@pytest.mark.parametrize("zipped", [True, False])
def test_torch_dictionaries_are_searched(part, zipped, model, torch, state, tmp_path):
    if not zipped and part not in ("", "model_ema.module"):
        return  # because the form of the file does not depend on its content
    path = tmp_path / "model.pth"
    torch.save(NESTED[part](state), path, _use_new_zipfile_serialization=zipped)
    report = load(model, path)
    assert report.part == part
    assert (f"weights set from '{part}'" in str(report)) == bool(part)


@on_torch
def test_objects_next_to_torch_weights_are_ignored(model, torch, state, tmp_path):
    objects = {
        "args": argparse.Namespace(lr=0.1, output=pathlib.Path("run"), best=np.float64(3)),
        "best": np.float32(81.5),
        "history": np.arange(6.0).reshape(2, 3),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]},
        "epoch": 3,
        "names": ["a", "b"],
        "dtype": torch.float32,
    }
    parameters = {key: torch.nn.Parameter(tensor) for key, tensor in state.items()}
    path = tmp_path / "model.pth"
    torch.save({"model": parameters, **objects}, path)
    assert load(model, path).skipped == {}


@on_torch
@pytest.mark.parametrize(("dtype", "atol"), [("float16", 3e-3), ("bfloat16", 3e-2)])
def test_torch_dtypes_load(dtype, atol, model, torch, state, tmp_path):
    path = tmp_path / "model.pth"
    torch.save({key: tensor.to(getattr(torch, dtype)) for key, tensor in state.items()}, path)
    load(model, path, atol)
    expected = state["head.weight"].to(getattr(torch, dtype)).float().numpy().T
    np.testing.assert_array_equal(model.get_layer("head").get_weights()[0], expected)


@on_torch
def test_torch_float64_keeps_its_precision(torch, state, tmp_path):
    model = goldens.make(VIT, dtype="float64")
    state["norm.bias"] = torch.linspace(0, 1, 64, dtype=torch.float64)
    torch.save(state, tmp_path / "model.pth")
    km.load_weights(model, tmp_path / "model.pth")
    found = ops.convert_to_numpy(model.get_layer("norm").beta)
    np.testing.assert_array_equal(found, state["norm.bias"].numpy())


class Evil:
    """Pickles as a call of a function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def recursive():
    loop = {}
    loop["a"] = loop
    return loop


def wide():
    """Has 10 ** 30 paths, in a file of a few hundred bytes."""
    value = {}
    for _ in range(30):
        value = {str(i): value for i in range(10)}
    return value


def hostile(torch, folder):
    """`{case: (what the file holds, part of the message)}`."""
    array = np.array([1], dtype=object)
    dtype = np.dtype([("a", object)])
    return {
        "system": (Evil(pathlib.os.system, f"touch {folder}/run"), "asks for '(posix|nt).system'"),
        "eval": (Evil(eval, f"open('{folder}/run', 'w')"), "asks for 'eval'"),
        "getattr": (Evil(getattr, array, "tofile"), "asks for 'getattr'"),
        "open": (Evil(open, f"{folder}/run", "w"), "asks for '.*open'"),
        "load": (Evil(np.load, f"{folder}/run"), "asks for 'numpy.*load'"),
        "module": (torch.nn.Linear(2, 2), "asks for 'torch.nn.modules.linear.Linear'"),
        "recursive": (recursive(), "damaged .*dictionaries that hold each other"),
        "wide": (wide(), "damaged .*too many entries"),
        "long": ({"x" * 2000: {"a": torch.ones(1)}}, "damaged .*too many entries"),
        "objects": ({"a": array, "b": dtype}, "must hold tensors by name.*<class 'dict'>"),
        "list": ([torch.ones(2)], "must hold tensors by name.*<class 'list'>"),
        "sparse": ("sparse", "at 'norm.bias': TypeError"),
        "meta": ("meta", "at 'norm.bias': "),
    }


CASES = [
    "system", "eval", "getattr", "open", "load", "module", "recursive", "wide", "long", "objects",
    "list", "sparse", "meta",
]  # fmt: skip


@on_torch
@pytest.mark.parametrize("case", CASES)
def test_hostile_torch_files_are_refused(case, model, torch, state, tmp_path):
    value, message = hostile(torch, tmp_path)[case]
    if case == "sparse":
        value = state | {"norm.bias": state["norm.bias"].to_sparse()}
    elif case == "meta":
        value = state | {"norm.bias": state["norm.bias"].to("meta")}
    elif "asks for" in message:
        value = {"model": state, "extra": value}
    path = tmp_path / "model.pth"
    torch.save(value, path)
    with goldens.unchanged(model), pytest.raises(ValueError, match=f"(?s){message}"):
        km.load_weights(model, path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.pth"]


@on_torch
def test_loading_leaves_torch_as_strict_as_before(model, torch, state, tmp_path):
    path = tmp_path / "model.pth"
    torch.save({"model": state, "args": argparse.Namespace()}, path)
    load(model, path)
    with pytest.raises(Exception, match="argparse.Namespace"):
        torch.load(path, weights_only=True)


@on_torch
def test_torch_shards_load(model, torch, state, tmp_path):
    files = {}
    for i, keys in enumerate(np.array_split(sorted(state), 2)):
        torch.save({str(key): state[key] for key in keys}, tmp_path / f"part-{i}.bin")
        files |= dict.fromkeys(keys.tolist(), f"part-{i}.bin")
    path = tmp_path / "pytorch_model.bin.index.json"
    path.write_text(json.dumps({"weight_map": files}))
    assert load(model, path).loaded == len(model.weights)


# Indexes.


def test_shards_load(model, tmp_path):
    report = load(model, goldens.write_shards(VIT, tmp_path))
    assert (report.format, report.part) == ("timm ViT", "")
    assert report.loaded == len(model.weights)


def changed(change):
    """Change `{key: file}` of the index of a file in two parts."""

    def write(path):
        index = json.loads(path.read_text())
        change(index["weight_map"])
        path.write_text(json.dumps(index))

    return write


def text(content):
    return lambda path: path.write_text(content)


FIRST, SECOND = "model-0.safetensors", "model-1.safetensors"
BAD = {
    "missing file": (lambda path: (path.parent / SECOND).unlink(), f"needs the file '{SECOND}'"),
    "missing key": (changed(lambda m: m.update(new=FIRST)), f"{FIRST} lacks 'new'"),
    "unknown key": (changed(lambda m: m.pop("cls_token")), f"{SECOND} also has 'cls_token'"),
    "wrong file": (changed(lambda m: m.update(cls_token=FIRST)), f"{FIRST} lacks 'cls_token'"),
    "parent": (changed(lambda m: m.update(a="../w.safetensors")), "in its own folder.*'a' in"),
    "root": (changed(lambda m: m.update(a="/etc/passwd")), "in its own folder"),
    "windows": (changed(lambda m: m.update(a="..\\w")), "in its own folder"),
    "drive": (changed(lambda m: m.update(a="c:w")), "in its own folder"),
    "dots": (changed(lambda m: m.update(a="..")), "in its own folder"),
    "null": (changed(lambda m: m.update(a="a\0b")), "in its own folder"),
    "number": (changed(lambda m: m.update(a=3)), "in its own folder"),
    "itself": (
        changed(lambda m: m.update(a="model.safetensors.index.json")),
        "must name .safetensors or torch files.*names 'model.safetensors.index.json'",
    ),
    "empty": (text('{"weight_map": {}}'), "damaged.*`weight_map`"),
    "list": (text('{"weight_map": ["a"]}'), "damaged.*`weight_map`"),
    "other": (text("{}"), "damaged.*`weight_map`"),
    "no json": (text("{"), "damaged"),
    "deep": (text('{"weight_map":' + "[" * 100_000), "damaged.*nested too deeply"),
    "cut": (
        lambda path: (path.parent / FIRST).write_bytes((path.parent / FIRST).read_bytes()[:-9]),
        "damaged or cut short.*model-0",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_indexes_are_refused(case, model, tmp_path):
    path = goldens.write_shards(VIT, tmp_path / "folder")
    (tmp_path / "w.safetensors").write_bytes((goldens.FOLDER / VIT).read_bytes())
    change, message = BAD[case]
    change(path)
    error = FileNotFoundError if case == "missing file" else ValueError
    with goldens.unchanged(model), pytest.raises(error, match=f"(?s){message}"):
        km.load_weights(model, path)


def test_shards_that_change_while_they_are_read_are_refused(model, tmp_path, monkeypatch):
    from keras_mixers.weights import load as module

    path, read = goldens.write_shards(VIT, tmp_path), module.read

    def replacing(assignment):
        (tmp_path / "new").write_bytes((tmp_path / SECOND).read_bytes())
        (tmp_path / "new").replace(tmp_path / SECOND)
        return read(assignment)

    monkeypatch.setattr(module, "read", replacing)
    with goldens.unchanged(model), pytest.raises(ValueError, match=f"must not change .*{SECOND}"):
        km.load_weights(model, path)


# Layers with LoRA.


def with_lora(dtype="float32"):
    """A model with the golden weights and trained LoRA matrices in two layers and the patches."""
    model = goldens.make(VIT, dtype=dtype)
    km.load_weights(model, goldens.FOLDER / VIT)
    layers = [
        model.get_layer("patch_embed").projection,
        model.get_layer("block_0_attention").mixer.qkv,
        model.get_layer("head"),
    ]
    for i, layer in enumerate(layers):
        layer.enable_lora(3, lora_alpha=1.5)
        for matrix in (layer.lora_kernel_a, layer.lora_kernel_b):
            matrix.assign(np.random.default_rng(i).normal(size=matrix.shape) / 4)
    return model, layers


def logits(model):
    return ops.convert_to_numpy(model(goldens.answers(VIT)["image"], training=False))


def test_lora_is_merged_when_weights_are_saved(tmp_path):
    model, layers = with_lora()
    assert np.abs(logits(model) - goldens.answers(VIT)["logits"]).max() > 0.1
    path = km.save_weights(model, tmp_path / "merged.safetensors")
    saved, original = goldens.read(path), goldens.arrays(VIT)
    assert saved.keys() == original.keys()
    a, b = (ops.convert_to_numpy(v) for v in (layers[1].lora_kernel_a, layers[1].lora_kernel_b))
    expected = original["blocks.0.attn.qkv.weight"] + 0.5 * (a @ b).T
    np.testing.assert_allclose(saved["blocks.0.attn.qkv.weight"], expected, atol=1e-6)
    plain = goldens.make(VIT)
    assert not km.load_weights(plain, path).untouched
    np.testing.assert_allclose(logits(plain), logits(model), atol=1e-5)


def test_merged_lora_has_the_precision_of_the_kernel(tmp_path):
    model, layers = with_lora("mixed_bfloat16")
    path = km.save_weights(model, tmp_path / "merged.safetensors")
    kernel, a, b = (v.numpy().astype("float64") for v in layers[2].weights if "bias" not in v.name)
    found = goldens.read(path)["head.weight"]
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, (kernel + 0.5 * a @ b).T, rtol=1e-6)


@pytest.mark.parametrize("kind", ["safetensors", "keras"])
def test_lora_matrices_keep_their_values(kind, tmp_path):
    path = goldens.FOLDER / VIT
    if kind == "keras":
        plain = goldens.make(VIT)
        km.load_weights(plain, path)
        plain.save(path := tmp_path / "plain.keras")
    model, layers = with_lora()
    matrices = [m for each in layers for m in (each.lora_kernel_a, each.lora_kernel_b)]
    before = [matrix.numpy() for matrix in matrices]
    expected = logits(model)
    for variable in model.weights:
        if variable.name in ("kernel", "bias"):
            variable.assign(np.zeros(variable.shape))
    report = km.load_weights(model, path)
    assert report.loaded == len(model.weights) - len(matrices)
    assert report.untouched.keys() == {matrix.path for matrix in matrices}
    assert set(report.untouched.values()) == {"a LoRA matrix, which stays as it is"}
    for matrix, value in zip(matrices, before, strict=True):
        np.testing.assert_array_equal(matrix.numpy(), value)
    np.testing.assert_allclose(logits(model), expected, atol=1e-5)


def test_keras_files_of_models_with_lora_are_merged(tmp_path):
    model, _ = with_lora()
    model.save(tmp_path / "model.keras")
    plain = goldens.make(VIT)
    km.load_weights(plain, tmp_path / "model.keras")
    np.testing.assert_allclose(logits(plain), logits(model), atol=1e-5)


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method:UserWarning")
def test_quantized_kernels_are_not_saved(tmp_path):
    model = keras.models.clone_model(goldens.make(VIT))
    model.quantize("int8")
    model.get_layer("head").enable_lora(2)
    with pytest.raises(ValueError, match="none for .*"):
        km.save_weights(model, tmp_path / "w.safetensors")
    assert not list(tmp_path.iterdir())
