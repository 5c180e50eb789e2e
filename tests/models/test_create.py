"""Published models by one name, and by the config.json of a repository on the hub."""

import csv
import inspect
import json
import math
import pathlib

import goldens
import pytest
import towers
from goldens import unnamed_roles

import keras_mixers as km
from keras_mixers.models.timm_configuration import from_timm
from keras_mixers.models.transformers_configuration import from_transformers
from keras_mixers.weights import hub, locate
from keras_mixers.weights.catalog import Checkpoint, architectures, checkpoints

pytestmark = pytest.mark.one_backend("names, shapes and counts are the same on every backend")

with pathlib.Path(__file__).with_name("parameters.csv").open() as file:
    PARAMETERS = {row["architecture"]: int(row["parameters"]) for row in csv.DictReader(file)}
TINY = {"hidden_dim": 48, "depth": 2, "num_heads": 3}


def published(name):
    """The arguments of an architecture."""
    found = architectures()[name]
    return {**km.variants(found.family)[found.variant], **found.arguments}


def count(model, depth):
    """The parameters at the published depth, from a model of depth 1, because it is fast."""
    sizes = {weight.path: math.prod(weight.shape) for weight in model.trainable_weights}
    block = sum(size for path, size in sizes.items() if path.startswith("block_0_"))
    return sum(sizes.values()) + block * (depth - 1)


def test_every_architecture_has_timms_parameters(abstract_weights):
    """As many as timm's model, and each has a name in timm's files."""
    found = {}
    for name in PARAMETERS:
        model = km.create_model(name, pretrained=False, depth=1)
        found[name] = count(model, published(name)["depth"])
        assert not unnamed_roles(model, "timm"), name
    assert found == PARAMETERS


def test_every_architecture_of_timm_has_a_number_of_parameters():
    google = {name for name in architectures() if name.startswith(("google_", "bigvision_"))}
    assert PARAMETERS.keys() == architectures().keys() - google


def test_list_models_matches_patterns():
    assert km.list_models() == sorted(checkpoints())
    assert km.list_models("*SMALL*8_224.dino") == ["vit_small_patch8_224.dino"]
    assert "vit_small_patch14_dinov2.lvd142m" in km.list_models("*dinov2*")
    assert all("dinov2" in name for name in km.list_models("*dinov2*"))
    assert km.list_models("DINOv2") == km.list_models("*dinov2*")
    assert km.list_models("no such model") == []
    with pytest.raises(TypeError, match="`pattern` must be a string"):
        km.list_models(None)


def test_create_model_takes_names_with_and_without_tags(abstract_weights):
    model = km.create_model("vit_base_patch16_384.augreg_in1k", pretrained=False)
    assert model.input_shape == (None, 384, 384, 3)
    assert model.output_shape == (None, 1000)
    # Without its tag, the name has the classes of timm's default checkpoint.
    assert km.create_model("vit_base_patch16_224", False).output_shape == (None, 1000)
    assert km.create_model("vit_base_patch16_224.orig_in21k", False).output_shape == (None, 768)
    mixer = km.create_model("mixer_b16_224.goog_in21k", False)
    assert (mixer.name, mixer.output_shape) == ("mlp_mixer", (None, 21_843))


def test_create_model_replaces_any_argument(abstract_weights):
    model = km.create_model(
        "vit_base_patch16_224", False, num_classes=5, input_shape=(336, 336, 1), name="mine"
    )
    assert model.input_shape == (None, 336, 336, 1)
    assert model.output_shape == (None, 5)
    assert model.name == "mine"
    with pytest.raises(TypeError, match="'hidden'. Did you mean 'hidden_dim'"):
        km.create_model("vit_base_patch16_224", False, hidden=5)
    with pytest.raises(ValueError, match="`depth` must be 12 for weights='vit_base"):
        km.create_model("vit_base_patch16_224", depth=5)


def mlp_width(model):
    (width,) = {part.mlp_dim for part in model._flatten_layers() if hasattr(part, "mlp_dim")}
    return width


def test_mlp_keeps_its_ratio_to_another_width(abstract_weights):
    name = "vit_so150m2_patch16_reg1_gap_256"
    assert mlp_width(km.create_model(name, False, **TINY)) == 2176 * 48 // 832 == 125
    assert mlp_width(km.create_model(name, False, mlp_dim=7, **TINY)) == 7
    assert mlp_width(km.create_model("eva02_large_patch14_224", False, **TINY)) == 128  # 8 / 3
    with pytest.raises(TypeError, match="`hidden_dim` must be an integer"):
        km.create_model(name, False, hidden_dim="48")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("vit_base_patch16_224.augreg_in1", "Similar names: 'vit_base_patch16_224"),
        ("vit_base_patch16_244", "'vit_base_patch16_224'"),
        ("dinov3", r"Similar names: 'vit_.*dinov3.*', \.\.\."),
        ("vit_small_patch8_224.dina", "Similar names: 'vit_small_patch8_224.dino'$"),
        ("DINOv2-S/14", r"a variant: km.ViT\('DINOv2-S/14'\) builds it"),
    ],
)
def test_unknown_name_gets_near_matches(name, near):
    with pytest.raises(ValueError, match=f"`name` must be a name of .*{near}"):
        km.create_model(name)


@pytest.mark.parametrize(
    ("keyword", "meant"),
    [("num_clases", "num_classes"), ("embed_dim", "hidden_dim"), ("img_size", "input_shape")],
)
def test_unknown_keyword_gets_near_matches(keyword, meant):
    with pytest.raises(TypeError, match=f"Received: '{keyword}'. Did you mean '{meant}'"):
        km.create_model("vit_tiny_patch16_224", False, **{keyword: 5})


@pytest.mark.parametrize("name", ["vit_base_patch16_224", "vit_small_patch8_224.dino"])
def test_builder_names_create_model_for_a_published_name(name):
    with pytest.raises(ValueError, match=rf"`variant` must.*km.create_model\('{name}'\)"):
        km.ViT(name)


def test_architecture_without_a_checkpoint_has_random_weights_only(monkeypatch, abstract_weights):
    monkeypatch.setattr("keras_mixers.models.create.checkpoints", dict)
    assert km.create_model("vit_tiny_patch16_224", False).output_shape == (None, 1000)
    with pytest.raises(ValueError, match="an architecture without one; pretrained=False gives"):
        km.create_model("vit_tiny_patch16_224")


def test_create_model_loads_the_weights_of_its_checkpoint(tmp_path, monkeypatch, capsys):
    """The file is in the cache, so that nothing is downloaded."""
    sizes = {"num_heads": 4, "hidden_dim": 64, "mlp_dim": 256, "depth": 2, "patch_size": 8}
    name, url = "vit_tiny_patch16_224.test", "https://host/a.safetensors"
    row = Checkpoint(name, "ViT", "Ti/16", sizes, url, "timm", 10, km.Preprocessing(32))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(locate, "checkpoints", lambda: {row.name: row})
    monkeypatch.setattr("keras_mixers.models.create.checkpoints", lambda: {row.name: row})
    cache = tmp_path / "keras_mixers" / f"{row.name}.safetensors"
    cache.parent.mkdir()
    cache.write_bytes((goldens.FOLDER / "timm_vit.safetensors").read_bytes())
    for name in (row.name, row.architecture):
        model = km.create_model(name, input_shape=(32, 32, 3))
        goldens.assert_golden(model, "timm_vit.safetensors")
        assert model.preprocessing == km.Preprocessing(32)
    model = km.create_model(row.name, input_shape=(32, 32, 3), num_classes=5)
    assert model.output_shape == (None, 5)
    assert (model.preprocessing, model.class_names) == (km.Preprocessing(32), None)
    assert "'head.weight' has 10 classes, the model has 5" in capsys.readouterr().out


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A folder with the files of revision v1 of a repository on the hub."""

    def download(name, file, revision=None):
        assert (name, revision) == ("owner/name", "v1")
        return tmp_path / file

    monkeypatch.setattr(hub, "download", download)
    return tmp_path


def write_config(folder, **config):
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("name", towers.TIMM)
def test_entry_point_of_timm_makes_the_model_of_its_file(name):
    """Only the sizes that timm was given are given, and the widths of the MLPs follow."""
    facts = json.loads(towers.path(name).with_suffix(".json").read_text())
    given = facts["overridden"]
    sizes = {"input_shape": (given["img_size"], given["img_size"], 3)}
    sizes |= {"hidden_dim": given["embed_dim"], "depth": given["depth"]}
    sizes |= {name: given[name] for name in ("num_heads", "num_classes") if name in given}
    model = km.create_model(facts["entry_point"], pretrained=False, **sizes)
    km.load_weights(model, towers.path(name))
    towers.assert_equal_to_original(model, name)


@pytest.mark.parametrize("name", [name for name in towers.OTHERS if name.startswith("hf_")])
def test_config_of_transformers_makes_the_model_of_its_file(name, repository):
    facts = json.loads(towers.path(name).with_suffix(".json").read_text())
    write_config(repository, **facts["config"], architectures=[facts["model"]])
    (repository / "model.safetensors").write_bytes(towers.path(name).read_bytes())
    towers.assert_equal_to_original(km.create_model("hf://owner/name@v1"), name)


TIMM_CONFIG = {
    "architecture": "vit_tiny_patch16_224",
    "num_classes": 10,
    "global_pool": "token",
    "pretrained_cfg": {"input_size": [3, 32, 32]},
    "model_args": {"embed_dim": 64, "depth": 2, "num_heads": 4, "patch_size": 8, "img_size": 32},
}


def test_config_of_timm_makes_the_model_of_its_file(repository):
    write_config(repository, **TIMM_CONFIG)
    weights = repository / "model.safetensors"
    weights.write_bytes((goldens.FOLDER / "timm_vit.safetensors").read_bytes())
    model = km.create_model("hf://owner/name@v1")
    goldens.assert_golden(model, "timm_vit.safetensors")
    fine_tuned = km.create_model("hf://owner/name@v1", num_classes=3)
    assert fine_tuned.output_shape == (None, 3)


def test_arguments_of_timm_have_their_names_here():
    given = {
        "mlp_ratio": 5.33334,
        "init_values": 1e-5,
        "reg_tokens": 8,
        "no_embed_class": True,
        "global_pool": "avg",
        "act_layer": "silu",
        "in_chans": 4,
        "img_size": (112, 224),
        "dynamic_img_size": True,
        "num_classes": 0,
    }
    config = {"architecture": "vit_giant_patch14_dinov2", "num_classes": 7, "model_args": given}
    family, variant, found = from_timm(config)
    assert (family, variant) == ("ViT", "DINOv2-g/14")
    assert found == {
        "mlp_dim": 4096,
        "layer_scale_init": 1e-5,
        "num_registers": 8,
        "position_prefix": False,
        "pool": "gap",
        "norm_after_pool": True,
        "class_token": True,
        "activation": "silu",
        "num_classes": 0,
        "input_shape": (112, 224, 4),
    }


@pytest.mark.parametrize(
    ("architecture", "given", "expected"),
    [
        # timm 1.0.31 builds EVA-02 of this width with two halves of 256 units each.
        ("eva02_tiny_patch14_224", {"embed_dim": 96, "mlp_ratio": 4 * 2 / 3}, {"mlp_dim": 256}),
        ("aimv2_large_patch14_224", {"embed_dim": 96, "mlp_ratio": 4}, {"mlp_dim": 384}),
        ("vit_giant_patch14_dinov2", {"embed_dim": 96, "mlp_ratio": 4}, {"mlp_dim": 192}),
        ("mixer_b16_224", {"global_pool": ""}, {"pool": None}),
    ],
)
def test_arguments_of_timm_mean_what_its_class_makes_of_them(architecture, given, expected):
    family, _, found = from_timm({"architecture": architecture, "model_args": given})
    assert found.items() >= expected.items()
    assert found.keys() <= set(inspect.signature(getattr(km, family)).parameters)


def test_fields_of_transformers_have_their_names_here():
    """The fields whose values the golden files do not vary."""

    def made(kind, **fields):
        return from_transformers({"model_type": kind, **fields})[2]

    giant = made("dinov2", hidden_size=1536, use_swiglu_ffn=True)
    assert (giant["mlp_dim"], giant["gated_mlp"], giant["activation"]) == (4096, True, "silu")
    assert made("vit", qkv_bias=False)["qkv_bias"] is False
    labels = {"id2label": {str(i): "x" for i in range(7)}}
    classifier = {"architectures": ["ViTForImageClassification"], **labels}
    assert made("vit", **classifier)["num_classes"] == 7
    assert made("vit", architectures=["ViTModel"], **labels)["num_classes"] == 0
    assert made("ijepa")["pool"] == "gap"
    teacher = {"architectures": ["DeiTForImageClassificationWithTeacher"], **labels}
    assert made("deit", **teacher)["num_classes"] == 7
    biased = made("dinov3_vit", key_bias=True, proj_bias=False, mlp_bias=False)
    assert biased["qkv_bias"] and biased["without_bias"] == ("out", "mlp")
    assert made("dinov3_vit", rope_theta=50.0)["rotary"].base == 50
    gated = made("dinov3_vit", use_gated_mlp=True, hidden_act="silu", intermediate_size=300)
    assert (gated["mlp_dim"], gated["gated_mlp"], gated["activation"]) == (300, True, "silu")
    assert made("siglip", vision_config={"vision_use_head": False})["pool"] == "gap"
    tower = made("clip", projection_dim=9, vision_config={"hidden_size": 64, "hidden_act": "gelu"})
    assert (tower["hidden_dim"], tower["mlp_dim"], tower["activation"]) == (64, 3072, "gelu")
    assert tower["num_classes"] == 9
    assert made("clip_vision_model", architectures=["CLIPVisionModel"])["num_classes"] == 0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architecture": "resnet50"}, "`architecture` in config.json must be"),
        ({"architecture": "vit_base_patch16_224x"}, "Did you mean 'vit_base_patch16_224'"),
        ({**TIMM_CONFIG, "model_args": {"rope_type": "cat"}}, "has rope_type='cat', which no"),
        ({**TIMM_CONFIG, "model_args": {"global_pool": "max"}}, "has global_pool='max', which no"),
        ({"model_type": "swin"}, "`model_type` in config.json must be one of 'vit'.*='swin'"),
        ({"model_type": "vit", "hidden_act": "mish"}, "`hidden_act` in config.json must.*'mish'"),
        ({"model_type": "dinov2", "apply_layernorm": False}, "`apply_layernorm` in config.json"),
        ({"model_type": "dinov3_vit", "value_bias": False}, "`query_bias` and `value_bias` in"),
        (
            {"model_type": "deit", "architectures": ["DeiTForImageClassification"]},
            "`architectures` in config.json must be 'DeiTForImageClassificationWithTeacher'",
        ),
        ({"hidden_size": 64}, r"config.json must state `architecture`.*\['hidden_size'\]"),
        ([3], r"config.json must hold an object. Received: \[3\]"),
    ],
)
def test_config_that_no_builder_can_make_names_the_field(config, message, repository):
    (repository / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        km.create_model("hf://owner/name@v1", pretrained=False)


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"architecture": ["vit"]}, "architecture"),
        ({**TIMM_CONFIG, "model_args": None}, "model_args"),
        ({**TIMM_CONFIG, "model_args": {"mlp_ratio": "4"}}, "mlp_ratio"),
        ({**TIMM_CONFIG, "model_args": {"embed_dim": None}}, "embed_dim"),
        ({**TIMM_CONFIG, "pretrained_cfg": []}, "pretrained_cfg"),
        ({**TIMM_CONFIG, "pretrained_cfg": {"input_size": 224}}, "input_size"),
        ({"model_type": {}}, "model_type"),
        ({"model_type": "vit", "architectures": 3}, "architectures"),
        ({"model_type": "vit", "hidden_size": "768"}, "hidden_size"),
        ({"model_type": "dinov2", "mlp_ratio": "4"}, "mlp_ratio"),
        ({"model_type": "clip", "vision_config": None}, "vision_config"),
        (
            {"model_type": "vit", "architectures": ["ViTForImageClassification"], "id2label": 3},
            "id2label",
        ),
    ],
)
def test_field_of_another_type_raises(config, name, repository):
    write_config(repository, **config)
    with pytest.raises(TypeError, match=f"`{name}` must be .*Received: {name}="):
        km.create_model("hf://owner/name@v1", pretrained=False)


def test_damaged_config_raises(repository):
    (repository / "config.json").write_bytes(b"\x80{")
    with pytest.raises(ValueError, match=r"config.json must be JSON. Received: '.*config\.json'"):
        km.create_model("hf://owner/name@v1", pretrained=False)
