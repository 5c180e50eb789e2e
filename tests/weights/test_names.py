"""Names written out by hand, because a rule that is wrong in both directions passes round trips."""

import goldens
import keras
import numpy as np
import pytest
from cases import MODELS

import keras_mixers as km


def random_model(case, **more):
    model = next(each for each in MODELS if each.id == case).make(**more)
    for i, weight in enumerate(model.weights):
        weight.assign(np.random.default_rng(i).uniform(0.1, 1, weight.shape))
    return model


def saved(model, path, form="timm"):
    return goldens.read(km.save_weights(model, path, format=form))


def test_timm_names_of_attention_pooling(tmp_path):
    model = random_model("vit_map")
    arrays = saved(model, tmp_path / "w.safetensors")
    pool = model.get_layer("pool")
    expected = {
        "attn_pool.latent": pool.probe,
        "attn_pool.q.weight": keras.ops.transpose(pool.query.kernel),
        "attn_pool.q.bias": pool.query.bias,
        "attn_pool.kv.weight": keras.ops.transpose(pool.key_value.kernel),
        "attn_pool.kv.bias": pool.key_value.bias,
        "attn_pool.proj.weight": keras.ops.transpose(pool.out.kernel),
        "attn_pool.proj.bias": pool.out.bias,
        "attn_pool.norm.weight": pool.norm.gamma,
        "attn_pool.norm.bias": pool.norm.beta,
        "attn_pool.mlp.fc1.weight": keras.ops.transpose(pool.mlp.fc1.kernel),
        "attn_pool.mlp.fc1.bias": pool.mlp.fc1.bias,
        "attn_pool.mlp.fc2.weight": keras.ops.transpose(pool.mlp.fc2.kernel),
        "attn_pool.mlp.fc2.bias": pool.mlp.fc2.bias,
    }
    assert {key for key in arrays if "pool" in key} == set(expected)
    for key, value in expected.items():
        np.testing.assert_array_equal(arrays[key], np.asarray(value), err_msg=key)


def test_google_names_of_attention_pooling(tmp_path):
    model = random_model("vit_map")
    arrays = saved(model, tmp_path / "w.npz", "google")
    pool = model.get_layer("pool")
    key, value = np.split(np.asarray(pool.key_value.kernel), 2, axis=1)
    attention = "MAPHead_0/MultiHeadDotProductAttention_0"
    expected = {
        f"{attention}/query/kernel": np.asarray(pool.query.kernel).reshape(16, 2, 8),
        f"{attention}/key/kernel": key.reshape(16, 2, 8),
        f"{attention}/value/kernel": value.reshape(16, 2, 8),
        f"{attention}/out/kernel": np.asarray(pool.out.kernel).reshape(2, 8, 16),
        "MAPHead_0/probe": np.asarray(pool.probe),
        "MAPHead_0/LayerNorm_0/scale": np.asarray(pool.norm.gamma),
        "MAPHead_0/MlpBlock_0/Dense_0/kernel": np.asarray(pool.mlp.fc1.kernel),
        "MAPHead_0/MlpBlock_0/Dense_1/kernel": np.asarray(pool.mlp.fc2.kernel),
    }
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)
    # The numbers are big_vision's, because no class token has a position.
    assert "Transformer/encoderblock_0/LayerNorm_1/scale" in arrays
    assert "pos_embedding" in arrays

    # Older files of big_vision have the parts of the pooling at the root.
    root = {name.removeprefix("MAPHead_0/"): array for name, array in arrays.items()}
    other = random_model("vit_map")
    other.set_weights([np.zeros(weight.shape) for weight in other.weights])
    report = km.load_weights(other, goldens.write(root, tmp_path / "root.npz"))
    assert not report.untouched
    for one, two in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy(), err_msg=one.path)


def test_timm_names_of_qk_norms_and_registers(tmp_path):
    model = random_model("vit_registers")
    arrays = saved(model, tmp_path / "w.safetensors")
    attention = model.get_layer("block_1_attention").mixer
    for key, value in {
        "blocks.1.attn.q_norm.weight": attention.query_norm.gamma,
        "blocks.1.attn.k_norm.weight": attention.key_norm.gamma,
        "blocks.1.attn.k_norm.bias": attention.key_norm.beta,
        "reg_token": model.get_layer("prefix_tokens").tokens[0],
        "blocks.1.ls2.gamma": model.get_layer("block_1_channel_mixing").scale.gamma,
        "fc_norm.weight": model.get_layer("norm").gamma,
    }.items():
        np.testing.assert_array_equal(arrays[key], np.asarray(value), err_msg=key)


def test_google_spelling_follows_class_token_position(tmp_path):
    with_position = saved(random_model("vit"), tmp_path / "a.npz", "google")
    assert "Transformer/posembed_input/pos_embedding" in with_position
    assert "Transformer/encoderblock_0/MlpBlock_3/Dense_0/kernel" in with_position
    without = saved(random_model("vit", position_prefix=False), tmp_path / "b.npz", "google")
    assert "pos_embedding" in without
    assert "Transformer/encoderblock_0/MlpBlock_0/Dense_0/kernel" in without
    assert "cls" in without


def test_timm_names_of_gmlp(tmp_path):
    model = km.Hybrid("G", input_shape=(8, 12, 3), patch_size=4, hidden_dim=16, mlp_dim=24)
    arrays = saved(model, tmp_path / "w.safetensors")
    assert {key for key in arrays if key.startswith("blocks.0.")} == {
        f"blocks.0.{part}.{kind}"
        for part in (
            "norm",
            "mlp_channels.fc1",
            "mlp_channels.gate.norm",
            "mlp_channels.gate.proj",
            "mlp_channels.fc2",
        )
        for kind in ("weight", "bias")
    }
    spatial = model.get_layer("block_0_spatial_gating").mixer.spatial
    key = "blocks.0.mlp_channels.gate.proj.weight"
    np.testing.assert_array_equal(arrays[key], np.asarray(spatial.kernel).T)


def test_names_of_pre_logits(tmp_path):
    model = random_model("vit_pre_logits")
    assert saved(model, tmp_path / "a.safetensors")["pre_logits.fc.weight"].shape == (12, 16)
    assert saved(model, tmp_path / "a.npz", "google")["pre_logits/kernel"].shape == (16, 12)


@pytest.mark.parametrize("grid", [(2, 8), (4, 4)])
def test_save_weights_stores_the_grid(grid, tmp_path):
    """The number of positions does not distinguish 2 x 8 from 4 x 4 patches."""
    shape = (8 * grid[0], 8 * grid[1], 3)
    model = goldens.make("timm_vit.safetensors", input_shape=shape)
    path = km.save_weights(model, tmp_path / "w.safetensors")
    same = goldens.make("timm_vit.safetensors", input_shape=shape)
    assert not km.load_weights(same, path, adapt=True).adapted
    other = goldens.make("timm_vit.safetensors", input_shape=(*shape[1::-1], 3))
    report = km.load_weights(other, path, adapt=True)
    assert bool(report.adapted) == (grid == (2, 8))
