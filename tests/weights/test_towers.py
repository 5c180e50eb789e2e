"""The names of the backbones in use today, in files of timm, Hugging Face and the authors."""

import functools
import re

import goldens
import numpy as np
import pytest
import towers

import keras_mixers as km
from keras_mixers.weights.formats import FORMATS

LISTED = {**goldens.GOLDENS, **{f"towers/{name}.safetensors": name for name in towers.TOWERS}}

QKV = "block_1_attention/attention/qkv"


@functools.cache
def filled(name):
    """(model, report) of a golden file."""
    model = towers.make(name)
    return model, km.load_weights(model, towers.path(name))


def assert_equal_weights(model, other, zero=()):
    """Assert that all weights are equal, except those at the paths `zero`, which are zero."""
    for one, two in zip(model.weights, other.weights, strict=True):
        expected = 0 * two.numpy() if one.path in zero else two.numpy()
        np.testing.assert_array_equal(one.numpy(), expected, err_msg=one.path)


def randomize(model):
    """Give each weight other values, so that a weight that is not loaded differs."""
    for i, weight in enumerate(model.weights):
        weight.assign(np.random.default_rng(i).uniform(1, 2, weight.shape))
    return model


def weight(model, path):
    return next(weight for weight in model.weights if weight.path == path).numpy()


def parts(array, names):
    """`{name: array}` of the equal parts of an array."""
    return dict(zip(names, np.split(array, len(names)), strict=True))


@pytest.mark.parametrize("name", LISTED)
def test_files_have_the_mark_of_one_format(name):
    keys = set(goldens.arrays(name))
    assert len([form.name for form in FORMATS if form.recognise(keys)]) == 1


@pytest.mark.parametrize("name", towers.TIMM)
def test_save_weights_reproduces_timms_files(name, tmp_path):
    model, report = filled(name)
    assert report.format == "timm ViT"
    assert not (report.adapted or report.skipped or report.untouched)
    found = goldens.read(km.save_weights(model, tmp_path / "w.safetensors"))
    expected = towers.arrays(name)
    assert set(found) == set(expected)
    for key, array in expected.items():
        assert found[key].dtype == array.dtype
        np.testing.assert_array_equal(found[key], array, err_msg=key)


FOLDED = {
    "positions": "positions of prefix tokens added to the tokens",
    "tokens.class": "position added to the token",
}
NO_BIAS = {"head.bias": "zero, because the original has no such bias"}
REPORTS = {
    "facebook_dinov2_reg4": ("DINO, EVA or MAE", FOLDED, {"mask_token"}),
    "hf_clip_vision": ("Hugging Face CLIP", NO_BIAS, set()),
    "hf_dinov2": ("Hugging Face DINOv2", {}, {"embeddings.mask_token"}),
    "hf_dinov2_registers": ("Hugging Face DINOv2", FOLDED, {"embeddings.mask_token"}),
    "hf_dinov3": ("Hugging Face DINOv3", {}, {"embeddings.mask_token"}),
    "hf_siglip_vision": ("Hugging Face SigLIP", {}, set()),
    "hf_vit_mae": ("Hugging Face ViT", {}, set()),
}


@pytest.mark.parametrize("name", REPORTS)
def test_reports_of_other_formats(name):
    _, report = filled(name)
    assert (report.format, report.adapted, set(report.skipped)) == REPORTS[name]
    assert not report.untouched


def test_text_towers_are_skipped_and_reported():
    _, report = filled("open_clip")
    assert report.format == "OpenCLIP"
    assert report.adapted == NO_BIAS
    text = {key for key in towers.arrays("open_clip") if not key.startswith("visual.")}
    assert len(text) == 18
    assert report.skipped == dict.fromkeys(text, "text tower or scale of similarities")


def test_parts_of_one_weight_are_in_order():
    """Queries before keys before values, and the gate before the other half."""
    model, _ = filled("eva02_base")
    arrays = towers.arrays("eva02_base")
    block = "blocks.1.attn."
    kernels = [arrays[f"{block}{name}_proj.weight"].T for name in "qkv"]
    np.testing.assert_array_equal(weight(model, f"{QKV}/kernel"), np.hstack(kernels))
    biases = [arrays[f"{block}{name}_proj.bias"] for name in "qv"]
    np.testing.assert_array_equal(weight(model, f"{QKV}/query_value_bias"), np.hstack(biases))
    fc1 = [arrays[f"blocks.1.mlp.fc1_{half}.weight"].T for half in "gx"]
    path = "block_1_channel_mixing/channel_mixing/fc1/kernel"
    np.testing.assert_array_equal(weight(model, path), np.hstack(fc1))


# The same weights by names that no golden file has.


def renamed(arrays, rules, prefix=""):
    """Arrays by other names; `rules` is `{regular expression: replacement}`."""
    found = {}
    for key, array in arrays.items():
        for pattern, other in rules.items():
            key = re.sub(pattern, other, key)
        found[prefix + key] = array
    return found


OLD_ATTENTION = {
    r"^layers\.": "encoder.layer.",
    r"attention\.q_proj": "attention.attention.query",
    r"attention\.k_proj": "attention.attention.key",
    r"attention\.v_proj": "attention.attention.value",
    r"attention\.o_proj": "attention.output.dense",
}


def old_mae(arrays):
    mlp = {r"mlp\.fc1": "intermediate.dense", r"mlp\.fc2": "output.dense"}
    found = renamed(arrays, OLD_ATTENTION | mlp, "vit.")
    assert "vit.encoder.layer.0.attention.attention.query.weight" in found
    names = ("mask_token", "decoder_layers.0.layernorm_before.weight")
    return found | {f"decoder.{name}": np.ones(48, "float32") for name in names}


def old_dinov2(arrays):
    found = renamed(arrays, OLD_ATTENTION, "dinov2.")
    return found | {"classifier.weight": np.ones((5, 96), "float32")}


def dinov2_giant_of_hugging_face(arrays):
    rules = {
        r"^blocks\.": "encoder.layer.",
        r"^cls_token": "embeddings.cls_token",
        r"^pos_embed": "embeddings.position_embeddings",
        r"^patch_embed\.proj": "embeddings.patch_embeddings.projection",
        r"^norm\.": "layernorm.",
        r"ls(\d)\.gamma": r"layer_scale\1.lambda1",
        r"mlp\.fc1": "mlp.weights_in",
        r"mlp\.fc2": "mlp.weights_out",
        r"attn\.proj": "attention.output.dense",
    }
    found = renamed(arrays, rules)
    for key in [key for key in found if ".attn.qkv." in key]:
        for name, array in parts(found.pop(key), ("query", "key", "value")).items():
            found[key.replace("attn.qkv", f"attention.attention.{name}")] = array
    return found


def dinov3_plus_of_hugging_face(arrays):
    rules = {
        r"^blocks\.": "layer.",
        r"^cls_token": "embeddings.cls_token",
        r"^reg_token": "embeddings.register_tokens",
        r"^patch_embed\.proj": "embeddings.patch_embeddings",
        r"gamma_(\d)": r"layer_scale\1.lambda1",
        r"mlp\.fc1_g": "mlp.gate_proj",
        r"mlp\.fc1_x": "mlp.up_proj",
        r"mlp\.fc2": "mlp.down_proj",
        r"attn\.proj": "attention.o_proj",
    }
    found = renamed(arrays, rules)
    for key in [key for key in found if ".attn.qkv." in key]:
        for name, array in parts(found.pop(key), "qkv").items():
            found[key.replace("attn.qkv", f"attention.{name}_proj")] = array
    # Released files have biases, which are zero.
    for i in range(2):
        for name in "qv":
            found[f"layer.{i}.attention.{name}_proj.bias"] = np.zeros(48, "float32")
    return found


TEXT = {
    "text_model.encoder.layers.0.layer_norm1.weight": np.ones(8, "float32"),
    "text_projection.weight": np.ones((8, 8), "float32"),
    "logit_scale": np.float32(1),
}


def whole_clip(arrays):
    ids = {"vision_model.embeddings.position_ids": np.arange(17)[None]}
    return arrays | TEXT | ids


def whole_siglip(arrays):
    return renamed(arrays, {}, "vision_model.") | TEXT | {"logit_bias": np.ones(1, "float32")}


def perception_encoder(arrays):
    rules = {
        r"^blocks\.": "transformer.resblocks.",
        r"^cls_token": "class_embedding",
        r"^pos_embed": "positional_embedding",
        r"^patch_embed\.proj": "conv1",
        r"^norm_pre": "ln_pre",
        r"^norm\.": "ln_post.",
        r"attn_pool\.norm": "attn_pool.layernorm",
        r"attn_pool\.latent": "attn_pool.probe",
        r"attn_pool\.proj": "attn_pool.attn.out_proj",
        r"\.norm(\d)": r".ln_\1",
        r"attn\.qkv\.": "attn.in_proj_",
        r"attn\.proj": "attn.out_proj",
        r"mlp\.fc1": "mlp.c_fc",
        r"mlp\.fc2": "mlp.c_proj",
    }
    found = renamed(arrays, rules)
    for kind in ("weight", "bias"):
        joined = [found.pop(f"attn_pool.{name}.{kind}") for name in ("q", "kv")]
        found[f"attn_pool.attn.in_proj_{kind}"] = np.concatenate(joined)
    found["proj"] = found.pop("head.weight").T
    del found["head.bias"]
    found["class_embedding"] = found["class_embedding"][0, 0]
    found["positional_embedding"] = found["positional_embedding"][0]
    return found


def dinov2_giant_of_authors(arrays):
    rules = {r"mlp\.fc1": "mlp.w12", r"mlp\.fc2": "mlp.w3", r"^blocks\.(\d)\.": r"blocks.0.\1."}
    more = {"mask_token": np.ones((1, 48), "float32"), "decoder_norm.bias": np.ones(8, "float32")}
    return renamed(arrays, rules) | more


def dinov3_plus_of_authors(arrays):
    rules = {
        "reg_token": "storage_tokens",
        r"gamma_(\d)": r"ls\1.gamma",
        r"mlp\.fc1_g": "mlp.w1",
        r"mlp\.fc1_x": "mlp.w2",
        r"mlp\.fc2": "mlp.w3",
    }
    found = renamed(arrays, rules)
    found["rope_embed.periods"] = np.ones(4, "float32")
    for i in range(2):
        found[f"blocks.{i}.attn.qkv.bias"] = np.zeros(144, "float32")
        found[f"blocks.{i}.attn.qkv.bias_mask"] = np.ones(144, "float32")
    return found


def eva02_of_authors(arrays):
    rules = {
        r"attn\.([qv])_proj\.bias": r"attn.\1_bias",
        r"mlp\.norm": "mlp.ffn_ln",
        r"mlp\.fc1_g": "mlp.w1",
        r"mlp\.fc1_x": "mlp.w2",
        r"mlp\.fc2": "mlp.w3",
        r"^fc_norm\.": "norm.",
    }
    more = {"rope.freqs_cos": np.ones((16, 16)), "lm_head.weight": np.ones((9, 48))}
    return renamed(arrays, rules) | {key: array.astype("float32") for key, array in more.items()}


# The golden file, its arrays by other names, and what the report says.
DERIVED = {
    "MAE of older versions": ("hf_vit_mae", old_mae, "Hugging Face ViT"),
    "DINOv2 of older versions": ("hf_dinov2", old_dinov2, "Hugging Face DINOv2"),
    "DINOv2 g": ("dinov2_giant", dinov2_giant_of_hugging_face, "Hugging Face DINOv2"),
    "DINOv3 S+": ("dinov3_plus", dinov3_plus_of_hugging_face, "Hugging Face DINOv3"),
    "CLIP with text": ("hf_clip_vision", whole_clip, "Hugging Face CLIP"),
    "SigLIP with text": ("hf_siglip_vision", whole_siglip, "Hugging Face SigLIP"),
    "Perception Encoder": ("pe_core", perception_encoder, "OpenCLIP"),
    "DINOv2 g of its authors": ("dinov2_giant", dinov2_giant_of_authors, "DINO, EVA or MAE"),
    "DINOv3 S+ of its authors": ("dinov3_plus", dinov3_plus_of_authors, "DINO, EVA or MAE"),
    "EVA-02 B of its authors": ("eva02_base", eva02_of_authors, "DINO, EVA or MAE"),
}


@pytest.mark.parametrize("case", DERIVED)
def test_other_names_load_the_same_weights(case, tmp_path):
    name, rename, form = DERIVED[case]
    arrays = rename(towers.arrays(name))
    expected, _ = filled(name)
    model = randomize(towers.make(name))
    path = goldens.write(arrays, tmp_path / "w.safetensors")
    report = km.load_weights(model, path)
    assert report.format == form
    assert not report.untouched
    assert report.adapted == (NO_BIAS if "CLIP" in form else {})
    assert_equal_weights(model, expected, zero=["head/bias"] if report.adapted else [])


def test_errors_name_the_width_and_the_registers(tmp_path):
    arrays = towers.arrays("dinov2_reg4")
    refuse(arrays, tmp_path, "dinov2", "num_registers=4 gives the model the file's")
    wider = {"hidden_dim": 96, "num_heads": 3}
    refuse(arrays, tmp_path, "dinov2_reg4", "the file has hidden_dim=48, the model has 96", **wider)


def test_attention_pooling_is_skipped_for_a_model_without_it():
    model = towers.make("siglip2_map", pool="gap")
    report = km.load_weights(model, towers.path("siglip2_map"))
    assert report.skipped["attn_pool.latent"] == "the model has no attention pooling"
    assert all(key.startswith("attn_pool.") for key in report.skipped)
    assert not report.untouched


# Biases that only one side has.

KEY = "blocks.1.attn.qkv.bias"
WITHOUT_KEY_BIAS = {"without_bias": ("key",)}


def loaded(arrays, tmp_path, name, **more):
    """(model, report) of arrays in a model of a golden file's architecture."""
    model = randomize(towers.make(name, **more))
    path = goldens.write(arrays, tmp_path / "w.safetensors")
    return model, km.load_weights(model, path)


def refuse(arrays, tmp_path, name, *messages, **more):
    """Assert that loading fails with all the messages and that no weight changes."""
    model = towers.make(name, **more)
    before = model.get_weights()
    path = goldens.write(arrays, tmp_path / "w.safetensors")
    with pytest.raises(ValueError) as caught:
        km.load_weights(model, path)
    for message in messages:
        assert message in str(caught.value)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def without(arrays, *keys):
    return {key: array for key, array in arrays.items() if key not in keys}


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"qkv_bias": True}, f"{QKV}/bias"),
        ({"qkv_bias": True, **WITHOUT_KEY_BIAS}, f"{QKV}/query_value_bias"),
    ],
)
def test_biases_that_no_block_has_are_zero(more, path, tmp_path):
    model, report = loaded(towers.arrays("dinov3"), tmp_path, "dinov3", **more)
    assert not weight(model, path).any()
    name = path.split("/")[-1]
    words = "zero, because the original has no such bias"
    assert report.adapted == {f"blocks.{i}.attention.qkv.{name}": words for i in range(2)}
    towers.assert_output(model, "dinov3")


def test_a_bias_that_one_block_lacks_is_an_error(tmp_path):
    arrays = without(towers.arrays("dinov2"), KEY)
    refuse(arrays, tmp_path, "dinov2", f"'{KEY}' for {QKV}/bias (144,)")


def test_other_biases_are_not_taken_for_zero(tmp_path):
    arrays = towers.arrays("dinov2")
    biases = [key for key in arrays if key.endswith("mlp.fc1.bias")]
    refuse(without(arrays, *biases), tmp_path, "dinov2", "missing in the file", biases[0])
    projection = without(towers.arrays("dinov2"), "patch_embed.proj.bias")
    refuse(projection, tmp_path, "dinov2", "'patch_embed.proj.bias' for patch_embed/")


def test_keys_without_a_bias_get_zero(tmp_path):
    arrays = towers.arrays("eva02_tiny")
    model, report = loaded(arrays, tmp_path, "eva02_tiny", without_bias=())
    query, value = (arrays[f"blocks.1.attn.{name}_bias"] for name in "qv")
    expected = np.concatenate([query, np.zeros(48), value])
    np.testing.assert_array_equal(weight(model, f"{QKV}/bias"), expected)
    assert set(report.adapted.values()) == {"zero for the keys, which have no bias in the file"}
    towers.assert_output(model, "eva02_tiny")


def test_a_bias_of_keys_must_be_zero_for_a_model_without_it(tmp_path):
    arrays = towers.arrays("dinov2")
    message = f"'{KEY}' must have zero biases of keys, because the model has none. Received: 48"
    first = arrays["blocks.0.attn.qkv.bias"]
    first[48:96] = 0
    refuse(arrays, tmp_path, "dinov2", message, **WITHOUT_KEY_BIAS)
    arrays[KEY][48:96] = 0
    model, _ = loaded(arrays, tmp_path, "dinov2", **WITHOUT_KEY_BIAS)
    expected = np.delete(arrays[KEY], np.s_[48:96])
    np.testing.assert_array_equal(weight(model, f"{QKV}/query_value_bias"), expected)


@pytest.mark.parametrize("more", [{}, WITHOUT_KEY_BIAS])
def test_masks_of_dinov3_are_applied(more, tmp_path):
    arrays = dinov3_plus_of_authors(towers.arrays("dinov3_plus"))
    mask = np.repeat(np.float32([1, 0, 1]), 48)
    for i in range(2):
        arrays[f"blocks.{i}.attn.qkv.bias"] = np.arange(144, dtype="float32")
        arrays[f"blocks.{i}.attn.qkv.bias_mask"] = mask
    model, report = loaded(arrays, tmp_path, "dinov3_plus", qkv_bias=True, **more)
    bias = arrays[KEY] * mask
    name = "query_value_bias" if more else "bias"
    expected = np.delete(bias, np.s_[48:96]) if more else bias
    np.testing.assert_array_equal(weight(model, f"{QKV}/{name}"), expected)
    assert report.skipped == {"rope_embed.periods": "rotary positions, which the model computes"}
    arrays["blocks.1.attn.qkv.bias_mask"] = np.ones(144, "float32")
    message = f"'{KEY}' must have zero biases of keys"
    if more:
        refuse(arrays, tmp_path, "dinov3_plus", message, qkv_bias=True, **more)


def test_biases_without_a_place_must_be_zero(tmp_path):
    arrays = dinov3_plus_of_authors(towers.arrays("dinov3_plus"))
    _, report = loaded(arrays, tmp_path, "dinov3_plus")
    assert report.skipped[KEY] == "zero, and the model has no such bias"
    assert report.skipped[f"{KEY}_mask"] == "a mask of biases that the model does not have"
    arrays[KEY][7] = 1
    message = f"'{KEY}' must be zero, because the model has no such bias. Received: 1 numbers"
    refuse(arrays, tmp_path, "dinov3_plus", message)


# Positions of the class token, where registers have none.


@pytest.mark.parametrize("name", ["facebook_dinov2_reg4", "hf_dinov2_registers"])
def test_registers_without_positions_load(name, tmp_path):
    """With positions for all prefix tokens, those of the registers are zero."""
    model = randomize(towers.make(name, position_prefix=True))
    report = km.load_weights(model, towers.path(name))
    assert report.adapted == {"positions": "zero positions for prefix tokens that have none"}
    towers.assert_output(model, name)
    folded, _ = filled(name)
    towers.assert_output(folded, name)


def test_positions_of_registers_are_kept_on_another_grid():
    name = "facebook_dinov2_reg4"
    model = towers.make(name, input_shape=(84, 84, 3), position_prefix=True)
    km.load_weights(model, towers.path(name), adapt=True)
    arrays = towers.arrays(name)
    table = model.get_layer("position_embedding").table.numpy()
    assert table.shape == (1, 5 + 36, 48)
    np.testing.assert_array_equal(table[:, 0], arrays["pos_embed"][:, 0])
    assert not table[:, 1:5].any()
    means = table[0, 5:].mean(), arrays["pos_embed"][0, 1:].mean()
    np.testing.assert_allclose(*means, atol=0.05)


# Names that depend on the model.


def test_learned_frequencies_of_all_blocks_are_one_array(tmp_path):
    sizes = {"hidden_dim": 48, "depth": 3, "num_heads": 2, "mlp_dim": 96, "num_classes": 0}
    model = km.ViT("RoPE-ViT-S/16-mixed", input_shape=(32, 32, 3), **sizes)
    randomize(model)
    path = km.save_weights(model, tmp_path / "w.safetensors")
    arrays = goldens.read(path)
    assert arrays["rope.freqs"].shape == (2, 3, 2, 12)
    for i in range(3):
        frequencies = weight(model, f"block_{i}_attention/attention/rotary_frequencies")
        np.testing.assert_array_equal(arrays["rope.freqs"][:, i], frequencies)
    other = km.ViT("RoPE-ViT-S/16-mixed", input_shape=(32, 32, 3), **sizes)
    km.load_weights(other, path)
    assert_equal_weights(other, model)
    arrays["rope.freqs"] = arrays["rope.freqs"][:, :2]
    with pytest.raises(ValueError, match=r"'rope\.freqs\.2' for block_2_attention"):
        km.load_weights(other, goldens.write(arrays, path))


EVA, VIT = ("gamma_1", "gamma_2"), ("ls1.gamma", "ls2.gamma")
NAMES = {
    "EVA02-CLIP-B/16": ["attn.q_proj.weight", "attn.norm.weight", "mlp.fc1_g.bias", *EVA],
    "EVA02-S/14": ["attn.qkv.weight", "attn.v_bias", "mlp.fc1.weight", *EVA],
    "BEiT3-B/16": ["attn.qkv.bias", "attn.norm.bias", "mlp.norm.bias", "mlp.fc1.bias", *VIT],
    "DINOv3-7B/16": ["attn.qkv.weight", "mlp.fc1_x.weight", *EVA],
    "PE-lang-L/14": ["attn.qkv.bias", "mlp.fc1.bias", *EVA],
    "TIPSv2-g/14": ["attn.qkv.bias", "mlp.fc1.bias", *VIT],
    "AIMv2-L/14": ["attn.qkv.weight", "mlp.fc1_g.weight", *VIT],
}


@pytest.mark.parametrize("variant", NAMES)
def test_timm_names_follow_the_class_of_the_model(variant, tmp_path):
    sizes = {"hidden_dim": 16, "depth": 1, "num_heads": 2, "mlp_dim": 8, "num_classes": 0}
    model = km.ViT(variant, input_shape=(28, 28, 3), patch_size=14, layer_scale_init=1.0, **sizes)
    arrays = goldens.read(km.save_weights(model, tmp_path / "w.safetensors"))
    assert {f"blocks.0.{name}" for name in NAMES[variant]} <= set(arrays)
    others = {"attn.qkv.weight", "attn.q_proj.weight", "mlp.fc1.weight", "mlp.fc1_g.weight"}
    found = {name for name in others if f"blocks.0.{name}" in arrays}
    assert len(found) == 2


# Refusals.


def test_siglip_for_images_of_any_size_is_refused(tmp_path):
    arrays = towers.arrays("hf_siglip_vision")
    key = "embeddings.patch_embedding.weight"
    arrays[key] = arrays[key].reshape(48, -1)
    message = f"'{key}' must have a kernel with 4 axes, of a model for one image size"
    refuse(arrays, tmp_path, "hf_siglip_vision", message, "shape (48, 768)", "NaFlex")


def test_incomplete_parts_are_named(tmp_path):
    key = "blocks.1.attn.k_proj.weight"
    refuse(without(towers.arrays("eva02_base"), key), tmp_path, "eva02_base", f"'{key}' for")


def test_gated_files_are_refused_for_other_mlps(tmp_path):
    arrays = towers.arrays("dinov3_plus")
    message = "'blocks.0.mlp.fc1_g.weight' has shape (192, 48), block_0_channel_mixing/"
    refuse(arrays, tmp_path, "dinov3", message, "needs (96, 48)", mlp_dim=191)


def test_a_bias_that_has_no_three_parts_is_refused(tmp_path):
    arrays = towers.arrays("dinov2")
    arrays[KEY] = arrays[KEY][1:]
    message = f"'{KEY}' has shape (143,), {QKV}/query_value_bias needs (144,)"
    refuse(arrays, tmp_path, "dinov2", message, **WITHOUT_KEY_BIAS)


def test_two_names_of_one_weight_are_refused(tmp_path):
    arrays = towers.arrays("dinov3")
    arrays["blocks.0.ls1.gamma"] = arrays["blocks.0.gamma_1"]
    refuse(arrays, tmp_path, "dinov3", "without a place in the model", "'blocks.0.gamma_1' (48,)")
    key = "blocks.0.attn.q_bias"
    arrays = towers.arrays("dinov2") | {key: np.zeros(48, "float32")}
    refuse(arrays, tmp_path, "dinov2", "without a place in the model", f"'{key}' (48,)")


def test_head_of_another_width_is_skipped_without_a_bias(tmp_path):
    for name, key in (("open_clip", "visual.proj"), ("hf_clip_vision", "visual_projection.weight")):
        model = towers.make(name, num_classes=5)
        report = km.load_weights(model, towers.path(name))
        assert report.skipped[key] == f"'{key}' has 32 classes, the model has 5"
        assert set(report.untouched) == {"head/kernel", "head/bias"}


def test_transposed_projection_is_refused(tmp_path):
    arrays = towers.arrays("open_clip")
    arrays["visual.proj"] = arrays["visual.proj"].T
    refuse(arrays, tmp_path, "open_clip", "'visual.proj' has shape (32, 64)", "needs (64, 32)")
