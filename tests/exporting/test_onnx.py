"""ONNX files: what is in the graph, what it takes and gives, and that few nodes say it."""

import json

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from cases import MODELS, case, random_weights
from onnx import numpy_helper

import keras_mixers as km
from keras_mixers import layers
from keras_mixers.exporting.onnx import file as onnx_file

CONTRIB = "com.microsoft"
targets = pytest.mark.parametrize("target", ["onnx", "onnxruntime"])
# Every model; and with fused operators each mixer and head, which is all that is fused.
FUSED = ("vit", "vit_map", "vit_registers", "deit_distilled", "mlp_mixer", "conv_mixer")
FILES = [(case, "onnx") for case in MODELS]
FILES += [(case, "onnxruntime") for case in MODELS if case.id in (*FUSED, "hybrid_ACMPG")]


def graph_of(path):
    return onnx.load(path).graph


def operators(path):
    return [node.op_type for node in graph_of(path).node]


@pytest.mark.parametrize(("case", "target"), FILES, ids=lambda each: getattr(each, "id", each))
def test_onnx_gives_the_models_answers(case, target, tmp_path):
    model = random_weights(case.make())
    report = km.export(model, tmp_path / "model.onnx", target=target)
    session = onnxruntime.InferenceSession(report.path)
    (image,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.type, image.shape[1:]) == ("images", "tensor(float)", [8, 12, 2])
    assert (logits.name, logits.shape[1:]) == ("logits", list(model.output_shape[1:]))
    images = case.images(5)  # a batch that was never traced
    expected = np.asarray(model(images, training=False))
    answer = session.run(None, {"images": images})[0]
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-5)
    graph = graph_of(report.path)
    assert report.nodes == len(graph.node)
    assert report.size == report.path.stat().st_size
    domains = {node.domain for node in graph.node}
    assert domains <= ({""} if target == "onnx" else {"", CONTRIB})


def test_a_trained_models_file_draws_nothing(tmp_path):
    model = km.Hybrid(
        "MA",
        input_shape=(8, 8, 3),
        patch_size=4,
        hidden_dim=16,
        dropout_rate=0.5,
        attention_dropout_rate=0.5,
        stochastic_depth_rate=0.5,
    )
    km.export(model, tmp_path / "model.onnx")
    found = onnx.load(tmp_path / "model.onnx")
    assert {domain.domain: domain.version for domain in found.opset_import}[""] == 18
    drawn = [op for op in operators(tmp_path / "model.onnx") if "Random" in op or "Drop" in op]
    assert not drawn


NARROW = {"input_shape": (64, 64, 3), "hidden_dim": 12}  # as many nodes as the published size
# A ratchet: a change may lower these counts. A higher count is a slower file, so it needs a reason.
NODES = [
    (km.ViT, "Ti/16", NARROW, 399, 183),
    (km.MLPMixer, "S/16", NARROW, 232, 168),
    (km.ConvMixer, "256/8-k5-p2", NARROW, 131, 63),
]


@pytest.mark.parametrize(("builder", "variant", "narrow", "most", "most_fused"), NODES)
def test_a_published_depth_has_few_nodes(builder, variant, narrow, most, most_fused, tmp_path):
    model = builder(variant, **narrow)
    assert km.export(model, tmp_path / "a.onnx").nodes <= most
    assert km.export(model, tmp_path / "b.onnx", target="onnxruntime").nodes <= most_fused


def test_fused_operators_stand_where_the_layers_are(tmp_path):
    km.export(case("vit").make(), tmp_path / "model.onnx", target="onnxruntime")
    found = operators(tmp_path / "model.onnx")
    assert [found.count(op) for op in ("Attention", "Gelu", "LayerNormalization")] == [2, 2, 5]
    km.export(case("vit_map").make(), tmp_path / "model.onnx", target="onnxruntime")
    assert operators(tmp_path / "model.onnx").count("FastGelu") == 3, "the tanh form"


def test_weights_keep_their_names_and_values(tmp_path):
    model = random_weights(case("conv_mixer").make())
    km.export(model, tmp_path / "model.onnx")
    stored = {
        t.name: numpy_helper.to_array(t) for t in graph_of(tmp_path / "model.onnx").initializer
    }
    for weight in model.weights:
        held, value = stored[weight.path], weight.numpy()
        if value.ndim == 4:  # kernels as ONNX has them: outputs, inputs, rows, columns
            depthwise = "depthwise" in weight.path
            value = value.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
        np.testing.assert_array_equal(held.reshape(value.shape), value, err_msg=weight.path)


def with_norms_as_outputs(path):
    """The file's bytes, what each LayerNormalization makes being an output too."""
    model = onnx.load(path)
    for node in model.graph.node:
        if node.op_type == "LayerNormalization":
            value = onnx.helper.make_tensor_value_info(node.output[0], onnx.TensorProto.FLOAT, None)
            model.graph.output.append(value)
    return model.SerializeToString()


@targets
@pytest.mark.parametrize(("name", "count"), [("vit", 1), ("deit_distilled", 2)])
def test_the_last_block_is_computed_for_the_token_that_is_read(name, count, target, tmp_path):
    model = random_weights(case(name).make())
    km.export(model, tmp_path / "model.onnx", target=target)
    session = onnxruntime.InferenceSession(with_norms_as_outputs(tmp_path / "model.onnx"))
    ranks = [answer.ndim for answer in session.run(None, {"images": case(name).images()})[1:]]
    # All tokens before either attention and before the first MLP; then one token alone, before the
    # last MLP and behind it.
    assert sorted(ranks) == [2] * 2 * count + [3] * 3


def test_a_sequence_that_is_wanted_whole_stays_whole(tmp_path):
    """A model that reads the class token and all tokens too: nothing may be narrowed."""
    inputs = keras.Input((8, 12, 2))
    tokens = case("vit_sequence").make()(inputs)
    both = [layers.SelectToken(0)(tokens), keras.layers.GlobalAveragePooling1D()(tokens)]
    model = random_weights(keras.Model(inputs, keras.layers.Concatenate()(both)))
    km.export(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(with_norms_as_outputs(tmp_path / "model.onnx"))
    answers = session.run(None, {"images": case("vit").images()})[1:]
    assert {answer.ndim for answer in answers} == {3}


def test_layers_of_users_and_nested_models_export(tmp_path):
    """Each form's way out: norms over other axes or without weights, biases left away, ranks."""
    inputs = keras.Input((8, 12, 2))
    x = keras.layers.Conv2D(4, 3, use_bias=False, padding="same", activation="gelu")(inputs)
    x = keras.layers.BatchNormalization(scale=False, center=False)(x)
    x = keras.layers.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False)(x)
    x = keras.layers.LayerNormalization(axis=[1, 2, 3])(x)
    x = keras.layers.LayerNormalization(center=False)(x)
    x = keras.layers.Conv2D(16, 1, activation="relu")(x)
    x = keras.layers.Reshape((-1, 16))(x)
    x = keras.layers.BatchNormalization()(x)
    x = layers.Residual(layers.ChannelMixing(8, activation="silu", gated=True))(x)
    x = layers.Residual(layers.MultiHeadSelfAttention(2, score="additive"))(x)
    x = layers.Residual(layers.MultiHeadSelfAttention(2, score="bilinear", qkv_bias=False))(x)
    x = layers.Residual(layers.MultiHeadSelfAttention(2, score="dot", head_dim=5))(x)
    tail = keras.Sequential([keras.Input((24, 16)), layers.AttentionPooling(2, 8)])
    x = keras.layers.Dense(3, use_bias=False, activation="gelu")(tail(x))
    model = random_weights(keras.Model(inputs, x))
    check(model, tmp_path)


def check(model, tmp_path, **options):
    """Both targets give the model's answers, to images that it was not exported with."""
    images = case("vit").images(5)
    for target in ("onnx", "onnxruntime"):
        km.export(model, tmp_path / "model.onnx", target=target, **options)
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
        answer = session.run(["logits"], {"images": images})[0]
        np.testing.assert_allclose(answer, np.asarray(model(images)), rtol=1e-4, atol=1e-5)


def test_a_feature_extractor(tmp_path):
    check(random_weights(case("vit").make(num_classes=0)), tmp_path)


def test_a_layer_keeps_a_dtype_of_its_own(tmp_path):
    """Numbers cut to integers, then a product of integers with weights."""
    inputs = keras.Input((8, 12, 2))
    x = keras.layers.Rescaling(3.0, dtype="int32")(inputs)
    model = random_weights(keras.Model(inputs, case("vit").make()(keras.layers.Dense(2)(x))))
    check(model, tmp_path)


def test_averages_of_grids_in_other_forms(tmp_path):
    inputs = keras.Input((8, 12, 2))
    grid = keras.layers.Conv2D(4, 3)(inputs)
    tokens = keras.layers.Reshape((60, 4))(grid)
    kept = keras.layers.GlobalAveragePooling1D(keepdims=True)(tokens)
    turned = keras.layers.Permute((2, 1))(tokens)
    other = keras.layers.GlobalAveragePooling1D()(keras.layers.Reshape((60, 4))(turned))
    summed = keras.layers.Add()([keras.layers.Flatten()(kept), other])
    check(random_weights(keras.Model(inputs, summed)), tmp_path)


class Repeating(keras.layers.Layer):
    """A loop whose body has weights of the layer around it."""

    def build(self, shape):
        self.shift = self.add_weight(shape=shape[1:], name="shift")

    def call(self, x):
        return keras.ops.fori_loop(0, 3, lambda i, x: 0.5 * x + self.shift, x)


def test_a_loop_in_a_users_layer(tmp_path):
    inputs = keras.Input((8, 12, 2))
    model = keras.Model(inputs, case("vit").make()(Repeating()(inputs)))
    with pytest.raises(RuntimeError, match="checker refuses the exported graph.*Loop"):
        km.export(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_scores_that_the_model_itself_uses_are_its_own(tmp_path):
    inputs = keras.Input((8, 12, 2))
    x = layers.PatchEmbed(16, 4)(inputs)
    x, scores = layers.MultiHeadSelfAttention(2)(x, return_attention_scores=True)
    pooled = keras.layers.GlobalAveragePooling1D()(x)
    seen = keras.layers.Dense(3)(keras.layers.Flatten()(scores))
    model = random_weights(keras.Model(inputs, keras.layers.Concatenate()([pooled, seen])))
    check(model, tmp_path)
    check(model, tmp_path, attention_maps=True)
    assert "attention_0" in [output.name for output in graph_of(tmp_path / "model.onnx").output]


@targets
def test_attention_maps_are_outputs_on_request(target, tmp_path):
    model = random_weights(case("vit_registers").make())
    km.export(model, tmp_path / "model.onnx", target=target, attention_maps=True)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    names = [output.name for output in session.get_outputs()]
    assert names == ["logits", "attention_0", "attention_1"]
    images = case("vit").images(5)
    logits, *maps = session.run(names, {"images": images})
    np.testing.assert_allclose(logits, np.asarray(model(images)), rtol=1e-4, atol=1e-5)
    until = keras.Model(model.input, model.get_layer("block_1_attention").input)
    block = model.get_layer("block_1_attention")
    _, expected = block.mixer(block.norm(until(images)), return_attention_scores=True)
    assert maps[1].shape == (5, 2, 8, 8)
    np.testing.assert_allclose(maps[1], np.asarray(expected), atol=1e-5)


def test_a_file_says_what_it_is(tmp_path):
    model = km.ViT("DeiT-Ti/16-distilled", input_shape=(32, 32, 3), num_classes=2)
    preprocessing = km.Preprocessing(32, mean=(0.1, 0.2, 0.3))
    km.export(
        model, tmp_path / "model.onnx", preprocessing=preprocessing, class_names=["cat", "dög"]
    )
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    said = session.get_modelmeta().custom_metadata_map
    assert said["keras_mixers_version"] == km.__version__
    assert said["variant"] == "ViT DeiT-Ti/16-distilled"
    assert json.loads(said["class_names"]) == ["cat", "dög"]
    read = km.Preprocessing.from_config(json.loads(said["preprocessing"]))
    assert read.get_config() == preprocessing.get_config()


@pytest.fixture
def small_files(monkeypatch):
    """As if files ended at 4 kB: the weights of the toy models go into a file of their own."""
    monkeypatch.setattr(onnx_file, "LARGEST_FILE", 4_000)


def test_what_one_file_cannot_hold_lies_beside_it(tmp_path, small_files):
    model = random_weights(case("vit").make())
    report = km.export(model, tmp_path / "model.onnx")
    beside = [path for path in tmp_path.iterdir() if path != report.path]
    assert len(beside) == 1
    assert report.size == report.path.stat().st_size + beside[0].stat().st_size
    assert beside[0].stat().st_mode == report.path.stat().st_mode
    stored = onnx.load(report.path, load_external_data=False).graph.initializer
    places = {entry.value for t in stored for entry in t.external_data if entry.key == "location"}
    assert places == {beside[0].name}, "a name, no path"

    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in (report.path, *beside):
        path.rename(moved / path.name)
    session = onnxruntime.InferenceSession(moved / "model.onnx")
    images = case("vit").images(5)
    answer = session.run(["logits"], {"images": images})[0]
    np.testing.assert_allclose(answer, np.asarray(model(images)), rtol=1e-4, atol=1e-5)


def test_weights_beside_a_file_go_with_it(tmp_path, small_files, monkeypatch):
    (tmp_path / "model.onnx.mine.data").write_text("precious")
    one, other = (random_weights(case("vit").make(), seed) for seed in (1, 2))
    km.export(one, tmp_path / "model.onnx")
    first = set(tmp_path.iterdir())
    km.export(other, tmp_path / "model.onnx")
    assert len(first ^ set(tmp_path.iterdir())) == 2, "one file of weights came, one went"
    monkeypatch.setattr(onnx_file, "LARGEST_FILE", 2**31)
    km.export(other, tmp_path / "model.onnx")
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "model.onnx.mine.data"}


def test_state_that_is_no_weight_is_refused(tmp_path):
    class Remembering(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            import tensorflow as tf

            self.shift = tf.Variable(1.0)

        def call(self, x):
            return x + self.shift

    inputs = keras.Input((8, 12, 2))
    model = keras.Model(inputs, case("vit").make()(Remembering()(inputs)))
    with pytest.raises(RuntimeError, match="has state that is not a weight.*SavedModel"):
        km.export(model, tmp_path / "model.onnx")


def test_progress_is_told_when_it_takes_long(tmp_path, monkeypatch, capsys):
    from keras_mixers.exporting import pipeline

    km.export(case("mlp_mixer").make(), tmp_path / "model.onnx")
    assert "model.onnx:" not in capsys.readouterr().err
    monkeypatch.setattr(pipeline, "QUIET", 0)
    km.export(case("mlp_mixer").make(), tmp_path / "model.onnx")
    lines = [line for line in capsys.readouterr().err.splitlines() if "model.onnx:" in line]
    stages = [line.split("model.onnx: ")[1].split(" (")[0] for line in lines]
    wanted = ["tracing", "converting", "simplifying", "writing and checking"]
    assert stages == [*wanted, "comparing with the model"]
