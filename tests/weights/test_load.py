"""Published layouts load, and the models give the answers of the original implementations."""

import re
import sys
import types
import zipfile

import goldens
import keras
import ml_dtypes
import numpy as np
import pytest

import keras_mixers as km
from keras_mixers.weights import checkpoint, roles
from keras_mixers.weights.plan import make_plan

every = pytest.mark.parametrize("name", goldens.GOLDENS)


def answer(model, images):
    return np.asarray(model(images, training=False))


@every
def test_every_key_is_used_once_and_every_weight_set_once(name):
    path = goldens.FOLDER / name
    model = goldens.make(name)
    entries = checkpoint.read_entries(path, checkpoint.container(path))
    plan = make_plan(entries, roles.index_weights(model), path, "keep", False, None)
    used = [entry.key for assignment in plan.assignments for entry in assignment.entries]
    assert sorted([*used, *plan.skipped]) == sorted(entries)
    filled = [assignment.weight.variable.path for assignment in plan.assignments]
    assert sorted(filled) == sorted(weight.path for weight in model.weights)


def by_hand():
    """The timm_vit golden's architecture out of single layers, with names of its own."""
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            km.layers.PatchEmbed(64, 8, name="cut"),
            km.layers.PrefixTokens(),
            km.layers.PositionEmbedding(4, num_prefix=1),
            *(
                km.layers.Residual(mixer)
                for _ in range(2)
                for mixer in (km.layers.MultiHeadSelfAttention(4), km.layers.ChannelMixing(256))
            ),
            keras.layers.LayerNormalization(epsilon=1e-6),
            km.layers.SelectToken(),
            keras.layers.Dense(10),
        ]
    )


def nested():
    backbone = goldens.make("timm_vit.safetensors", num_classes=0)
    images = keras.Input((32, 32, 3))
    return keras.Model(images, keras.layers.Dense(10, name="mine")(backbone(images)))


@pytest.mark.parametrize("make", [by_hand, nested])
def test_any_functional_model_with_our_layers(make):
    model = make()
    report = km.load_weights(model, goldens.FOLDER / "timm_vit.safetensors", head="keep")
    goldens.assert_golden(model, "timm_vit.safetensors")
    assert report.loaded == len(model.weights)


def test_a_model_read_back(tmp_path):
    goldens.make("timm_vit.safetensors").save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    km.load_weights(model, goldens.FOLDER / "timm_vit.safetensors")
    goldens.assert_golden(model, "timm_vit.safetensors")


def test_layers_of_the_users_own_are_left_and_told():
    backbone = goldens.make("timm_vit.safetensors", num_classes=0)
    x = keras.layers.Dense(20, activation="relu", name="mine")(backbone.output)
    model = keras.Model(backbone.input, keras.layers.Dense(3, name="classes")(x))
    before = [w.numpy() for layer in ("mine", "classes") for w in model.get_layer(layer).weights]
    report = km.load_weights(model, goldens.FOLDER / "timm_vit.safetensors")
    after = [w.numpy() for layer in ("mine", "classes") for w in model.get_layer(layer).weights]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
    assert set(report.untouched) == {
        f"{layer}/{kind}" for layer in ("mine", "classes") for kind in ("kernel", "bias")
    }
    assert set(report.skipped) == {"head.weight", "head.bias"}


def test_mixed_precision_and_bfloat16_models():
    for dtype, atol in (("mixed_bfloat16", 0.1), ("bfloat16", 0.2)):
        model = goldens.make("timm_vit.safetensors", dtype=dtype)
        km.load_weights(model, goldens.FOLDER / "timm_vit.safetensors")
        expected = goldens.answers("timm_vit.safetensors")
        found = np.asarray(keras.ops.cast(model(expected["image"]), "float32"))
        np.testing.assert_allclose(found, expected["logits"], atol=atol)


# Heads.


def test_a_head_that_fits_is_filled_and_another_left():
    path = goldens.FOLDER / "timm_vit.safetensors"
    model = goldens.make("timm_vit.safetensors", num_classes=3)
    before = model.get_layer("head").get_weights()
    report = km.load_weights(model, path)
    assert report.skipped["head.weight"] == "'head.weight' has 10 classes, the model has 3"
    assert set(report.untouched) == {"head/kernel", "head/bias"}
    for one, other in zip(before, model.get_layer("head").get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="`head`='keep' needs a head that fits: 'head.weight' has"):
        km.load_weights(model, path, head="keep")

    model = goldens.make("timm_vit.safetensors")
    before = model.get_layer("head").get_weights()
    report = km.load_weights(model, path, head="skip")
    assert set(report.skipped.values()) == {"head='skip'"}
    np.testing.assert_array_equal(before[0], model.get_layer("head").get_weights()[0])


@every
def test_a_model_for_features_loads_without_a_head(name):
    more = {"distillation_token": True} if "distilled" in name else {}
    model = goldens.make(name, num_classes=0, **more)
    report = km.load_weights(model, goldens.FOLDER / name)
    assert not report.untouched
    assert any("head" in key for key in report.skipped)


def test_a_head_behind_pre_logits_does_not_fit_one_without():
    name = "google_vit_prelogits.npz"
    model = goldens.make(name, representation_size=None)
    report = km.load_weights(model, goldens.FOLDER / name)
    assert set(report.untouched) == {"head/kernel", "head/bias"}
    assert "pre_logits/kernel" in report.skipped
    with pytest.raises(ValueError, match="pre_logits is only in the file"):
        km.load_weights(model, goldens.FOLDER / name, head="keep")


# Other layouts of the same weights.

TOKEN = "google_vit_token.npz"


def big_vision_numbers(key):
    """(1, 3, 2) behind the modules' names becomes (0, 0, 1)."""
    key = key.replace("MultiHeadDotProductAttention_1", "MultiHeadDotProductAttention_0")
    return key.replace("MlpBlock_3", "MlpBlock_0").replace("LayerNorm_2", "LayerNorm_1")


def scanned(arrays):
    """All blocks in one array along a leading axis."""
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
def test_layouts_of_google_vit(layout, tmp_path):
    path = goldens.write(LAYOUTS[layout](goldens.arrays(TOKEN)), tmp_path / "vit.npz")
    model = goldens.make(TOKEN)
    report = km.load_weights(model, path)
    goldens.assert_golden(model, TOKEN)
    assert not report.untouched
    assert set(report.skipped.values()) <= {"optimizer state", "text tower"}


def test_positions_without_the_class_token(tmp_path):
    """big_vision's files have none for it: as if its position were zero."""
    arrays = goldens.arrays(TOKEN)
    key = "Transformer/posembed_input/pos_embedding"
    grid_only = {"pos_embedding" if k == key else k: v for k, v in arrays.items()}
    grid_only["pos_embedding"] = arrays[key][:, 1:]
    grid_only["cls"] = arrays["cls"] + arrays[key][:, :1]  # the sum is what the blocks see
    path = goldens.write(grid_only, tmp_path / "vit.npz")
    for position_prefix in (True, False):
        model = goldens.make(TOKEN, position_prefix=position_prefix)
        report = km.load_weights(model, path)
        goldens.assert_golden(model, TOKEN)
        assert bool(report.adapted) == position_prefix


def test_a_model_whose_class_token_has_no_position_takes_one_that_has():
    model = goldens.make(TOKEN, position_prefix=False)
    report = km.load_weights(model, goldens.FOLDER / TOKEN)
    goldens.assert_golden(model, TOKEN)
    assert report.adapted == {
        "tokens.class": "position added to the token",
        "positions": "positions of prefix tokens added to the tokens",
    }


def test_bfloat16_in_an_npz(tmp_path):
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
def test_other_floats_in_safetensors(dtype, tmp_path):
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


def test_the_older_layout_of_google_mixer(tmp_path):
    name = "google_mixer.npz"
    path = goldens.write(older_mixer(goldens.arrays(name)), tmp_path / "mixer.npz")
    model = goldens.make(name)
    km.load_weights(model, path)
    goldens.assert_golden(model, name)


def hugging_face(arrays, wrapper="vit."):
    """timm's arrays under Hugging Face's names, query, key and value apart."""
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
def test_hugging_face_names(name, wrapper, tmp_path):
    arrays = hugging_face(goldens.arrays(name), wrapper)
    model = goldens.make(name)
    report = km.load_weights(model, goldens.write(arrays, tmp_path / "hf.safetensors"))
    assert report.format == "Hugging Face ViT"
    goldens.assert_golden(model, name)


def locuslab(arrays, depth):
    """timm's arrays under the numbers of the authors' Sequential."""
    found = {}
    for key, array in arrays.items():
        key = key.removeprefix("stem.").replace("head", str(5 + depth))
        block = re.fullmatch(r"blocks\.(\d+)\.(.+)", key)
        found[f"module.{int(block[1]) + 3}.{block[2]}" if block else f"module.{key}"] = array
    return found


def test_locuslab_names(tmp_path):
    name = "timm_convmixer.safetensors"
    arrays = locuslab(goldens.arrays(name), depth=3)
    # Their head lies at 5 + depth: stem 0 to 2, blocks, pooling, flatten, head.
    assert "module.8.weight" in arrays
    model = goldens.make(name)
    report = km.load_weights(model, goldens.write(arrays, tmp_path / "conv.safetensors"))
    assert report.format == "locuslab ConvMixer"
    goldens.assert_golden(model, name)


class Tensor:
    """What is asked of a torch tensor."""

    def __init__(self, array):
        self.array, self.shape = array, array.shape
        self.dtype = f"torch.{array.dtype}"

    def float(self):
        return self

    def numpy(self):
        return self.array


@pytest.mark.parametrize("wrapper", [None, "model", "state_dict"])
def test_torch_files_go_through_torch_as_weights_only(wrapper, tmp_path, monkeypatch):
    name = "timm_convmixer.safetensors"
    state = {key: Tensor(array) for key, array in goldens.arrays(name).items()}
    asked = []

    def load(path, **how):
        asked.append(how)
        return {wrapper: state, "epoch": 3} if wrapper else state

    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(load=load))
    path = tmp_path / "model.pth.tar"
    path.write_bytes(b"\x80\x02}q\x00.")
    model = goldens.make(name)
    km.load_weights(model, path)
    goldens.assert_golden(model, name)
    assert asked == [{"map_location": "cpu", "weights_only": True}]


def test_without_torch_a_torch_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "model.pth"
    path.write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(ImportError, match=r"only torch can read safely.*\.safetensors"):
        km.load_weights(goldens.make("timm_vit.safetensors"), path)


@pytest.mark.parametrize("file", ["model.keras", "model.weights.h5"])
def test_keras_own_files(file, tmp_path):
    name = "timm_vit.safetensors"
    source = goldens.make(name)
    km.load_weights(source, goldens.FOLDER / name)
    (source.save if file.endswith("keras") else source.save_weights)(tmp_path / file)
    model = goldens.make(name)
    km.load_weights(model, tmp_path / file)
    goldens.assert_golden(model, name)

    other = goldens.make(name, mlp_dim=128)
    before = other.get_weights()
    with pytest.raises(ValueError, match="which is unchanged"):
        km.load_weights(other, tmp_path / file)
    for one, again in zip(before, other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, again)
    with pytest.raises(ValueError, match="must have their defaults"):
        km.load_weights(model, tmp_path / file, adapt=True)


def test_the_report_reads_well():
    model = goldens.make("timm_vit.safetensors", num_classes=3, input_shape=(48, 48, 3))
    report = km.load_weights(model, goldens.FOLDER / "timm_vit.safetensors", adapt=True)
    reason = "'head.weight' has 10 classes, the model has 3"
    assert str(report) == (
        "timm ViT: 30 weights set\n"
        "  adapted: positions: resized from 4 x 4 to 6 x 6 (bicubic_antialias)\n"
        f"  skipped in the file: head.bias, head.weight: {reason}\n"
        f"  untouched in the model: head/kernel, head/bias: {reason}"
    )


# Models that are not quite a backbone and a head.

VIT = "timm_vit.safetensors"


def of_users(features, *dense):
    """A backbone without its head, and layers of the user's own behind it."""
    x = features.output
    for layer in dense:
        x = layer(x)
    return keras.Model(features.input, x)


def test_a_head_behind_a_hidden_layer_is_the_users_own():
    hidden = keras.layers.Dense(64, activation="relu", name="hidden")
    model = of_users(goldens.make(VIT, num_classes=0), hidden, keras.layers.Dense(10, name="out"))
    report = km.load_weights(model, goldens.FOLDER / VIT)
    assert {path.split("/")[0] for path in report.untouched} == {"hidden", "out"}
    with pytest.raises(ValueError, match="`head`='keep'.*no head that reads the features"):
        km.load_weights(model, goldens.FOLDER / VIT, head="keep")


def test_a_head_behind_dropout_is_the_head():
    head = [keras.layers.Dropout(0.5), keras.layers.Dense(10, name="out")]
    model = of_users(goldens.make(VIT, num_classes=0), *head)
    km.load_weights(model, goldens.FOLDER / VIT, head="keep")
    goldens.assert_golden(model, VIT)


def test_distilled_heads_behind_dropout():
    name = "timm_deit_distilled.safetensors"
    body = goldens.make(name)
    normed = body.get_layer("norm").output
    heads = [
        keras.layers.Dense(10, name=f"out_{i}")(
            keras.layers.Dropout(0.1)(km.layers.SelectToken(i)(normed))
        )
        for i in (0, 1)
    ]
    model = keras.Model(body.input, keras.layers.Average()(heads))
    km.load_weights(model, goldens.FOLDER / name, head="keep")
    goldens.assert_golden(model, name)
    on_average = of_users(goldens.make(name, num_classes=0), keras.layers.Dense(10, name="out"))
    report = km.load_weights(on_average, goldens.FOLDER / name)
    assert set(report.untouched) == {"out/kernel", "out/bias"}


def test_norms_of_the_users_own_are_left():
    norm = keras.layers.LayerNormalization(name="mine")
    model = of_users(goldens.make(VIT, num_classes=0), norm, keras.layers.Dense(10, name="out"))
    report = km.load_weights(model, goldens.FOLDER / VIT)
    assert {"mine/gamma", "mine/beta"} <= set(report.untouched)

    images = keras.Input((32, 32, 3))
    conv = goldens.make("timm_convmixer.safetensors")
    scaled = keras.layers.BatchNormalization(name="mine")(images)
    model = keras.Model(images, conv(scaled))
    report = km.load_weights(model, goldens.FOLDER / "timm_convmixer.safetensors")
    assert len(report.untouched) == 4
    assert report.loaded == len(conv.weights)


def test_damaged_heads_are_no_other_heads(tmp_path):
    arrays = goldens.arrays(VIT)
    for change, message in (
        ({"head.bias": None}, "'head.bias' for head/bias"),
        ({"head.weight": arrays["head.weight"].T}, r"'head.weight' has shape \(64, 10\)"),
    ):
        changed = {k: change.get(k, v) for k, v in arrays.items()}
        changed = {k: v for k, v in changed.items() if v is not None}
        path = goldens.write(changed, tmp_path / "vit.safetensors")
        with pytest.raises(ValueError, match=message):
            km.load_weights(goldens.make(VIT), path)


def test_head_keep_needs_a_head():
    with pytest.raises(ValueError, match="`head`='keep' needs a head that fits: the model has no"):
        km.load_weights(goldens.make(VIT, num_classes=0), goldens.FOLDER / VIT, head="keep")


def test_distilled_positions_fold_into_both_tokens():
    name = "timm_deit_distilled.safetensors"
    model = goldens.make(name, position_prefix=False)
    report = km.load_weights(model, goldens.FOLDER / name)
    goldens.assert_golden(model, name)
    assert {"tokens.class", "tokens.distillation", "positions"} == set(report.adapted)


@pytest.mark.parametrize("damage", ["deeper", "shallower", "nan"])
@pytest.mark.parametrize("file", ["model.keras", "model.weights.h5"])
def test_keras_files_that_do_not_fit(file, damage, tmp_path):
    model = goldens.make(VIT)
    model.compile("adam", "mse", run_eagerly=True)
    model.fit(np.zeros((2, 32, 32, 3)), np.zeros((2, 10)), verbose=0)
    depth = {"deeper": 3, "shallower": 1, "nan": 2}[damage]
    other = goldens.make(VIT, depth=depth)
    if damage == "nan":
        bias = other.get_layer("head").bias
        bias.assign([np.nan] * 10)
    (other.save if file.endswith("keras") else other.save_weights)(tmp_path / file)
    before = [v.numpy() for v in [*model.variables, *model.optimizer.variables]]
    message = {"deeper": "no place in the model", "shallower": "missing in the file"}
    with pytest.raises(ValueError, match=message.get(damage, "`source` must be finite")):
        km.load_weights(model, tmp_path / file)
    for one, again in zip(before, [*model.variables, *model.optimizer.variables], strict=True):
        np.testing.assert_array_equal(one, again.numpy())


def test_keras_files_by_any_name(tmp_path):
    source = goldens.make(VIT)
    source.save(tmp_path / "model.keras")
    (tmp_path / "model.keras").rename(tmp_path / "weights.bin")
    model = goldens.make(VIT)
    km.load_weights(model, tmp_path / "weights.bin")
    for one, other in zip(source.weights, model.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_a_torch_zip_is_known_by_its_pickle(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.pth.tar", "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    assert checkpoint.container(tmp_path / "model.pth.tar") == "torch"


def test_float64_models_round_trip(tmp_path):
    model = goldens.make(VIT, dtype="float64")
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=weight.shape) for weight in model.weights])
    again = goldens.make(VIT, dtype="float64")
    km.load_weights(again, km.save_weights(model, tmp_path / "w.safetensors"))
    for one, other in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
