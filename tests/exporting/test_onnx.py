"""ONNX files: their inputs and outputs, their metadata, and the nodes of their graphs."""

import json
import re
import warnings

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tf2onnx
from cases import MODELS, case, random_weights
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

import keras_mixers as km
from keras_mixers import layers
from keras_mixers.exporting import pipeline
from keras_mixers.exporting.onnx import file as onnx_file
from keras_mixers.exporting.onnx.graph import Graph
from keras_mixers.exporting.onnx.int8 import plan
from keras_mixers.exporting.onnx.lowering import layer_path
from keras_mixers.exporting.onnx.passes import hidden_width
from keras_mixers.exporting.serving import Serving
from keras_mixers.graph import all_layers
from keras_mixers.models import vit

CONTRIB = "com.microsoft"
targets = pytest.mark.parametrize("target", ["onnx", "onnxruntime"])
# Every model for "onnx"; for "onnxruntime" one of each mixer and head, because only these differ.
FUSED = ("vit", "vit_map", "vit_registers", "deit_distilled", "mlp_mixer", "conv_mixer")
FILES = [(case, "onnx") for case in MODELS]
FILES += [(case, "onnxruntime") for case in MODELS if case.id in (*FUSED, "hybrid_ACMPG")]


def graph_of(path):
    return onnx.load(path).graph


def test_int8_without_calibration_names_the_products_that_stay_in_float():
    """A `Gemm` among them, which no layer of this package becomes."""
    weight = numpy_helper.from_array(np.zeros((2, 2), "float32"), "layer/kernel")
    nodes = [
        onnx.helper.make_node(kind, ["x", "layer/kernel"], ["y"], name=kind)
        for kind in ("Conv", "Gemm", "MatMul")
    ]
    graph = onnx.helper.make_graph(nodes, "graph", [], [], [weight])
    found, in_float = plan(onnx.helper.make_model(graph), Serving(None))
    assert found == {"layer": ["MatMul"]}
    assert list(in_float) == ["convolutions", "products as `Gemm`"]


def operators(path):
    return [node.op_type for node in graph_of(path).node]


def sizes(value):
    return [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]


def check_names(file, model):
    """Check that nodes and tensors have names of layers, and that all tensors have shapes."""
    graph = file.graph
    nodes = [node.name for node in graph.node]
    tensors = [name for node in graph.node for name in node.output]
    constants = [tensor.name for tensor in graph.initializer]
    paths = {*map(layer_path, all_layers(model)), "preprocessing", "probabilities"}
    outside = {f"{name}" for node in graph.node for name in (node.op_type, f"{node.op_type}_2")}
    for name in nodes:
        prefixes = {name[: end.start()] for end in re.finditer("/|$", name)}
        assert prefixes & paths or name in outside, name
    for names in (nodes, [*tensors, *constants, "images"]):
        assert len({*names}) == len(names)
    for node in graph.node:
        assert node.op_type != "Einsum"
        assert node.op_type != "Unsqueeze" or node.input[1] in constants
    found = " ".join([*nodes, *tensors, *constants])
    assert not re.search(r"__|PyFunc|Partitioned|einsum|[A-Za-z]\d{9}", found)
    shapes = {value.name: sizes(value) for value in [*graph.value_info, *graph.output]}
    assert shapes.keys() == {*tensors}
    found = {size for shape in shapes.values() for size in shape}
    assert all(re.fullmatch(r"(\d+\*)?batch|[1-9]\d*", str(size)) for size in found)
    return shapes


@pytest.mark.parametrize(("case", "target"), FILES, ids=lambda each: getattr(each, "id", each))
def test_onnx_matches_model(case, target, tmp_path):
    model = random_weights(case.make())
    report = km.export(model, tmp_path / "model.onnx", target=target)
    session = onnxruntime.InferenceSession(report.path)
    (image,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.type) == ("images", "tensor(float)")
    assert image.shape == ["batch", 8, 12, 2]
    assert (logits.name, logits.shape) == ("logits", ["batch", *model.output_shape[1:]])
    images = case.images(5)  # a batch size that the export did not use
    expected = np.asarray(model(images, training=False))
    output = session.run(None, {"images": images})[0]
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)
    file = onnx.load(report.path)
    graph = file.graph
    shapes = check_names(file, model)
    assert case.id != "vit" or ["7*batch", 24] in shapes.values(), "the tokens of an MLP as rows"
    assert report.nodes == len(graph.node)
    assert report.size == report.path.stat().st_size
    domains = {node.domain for node in graph.node}
    assert domains <= ({""} if target == "onnx" else {"", CONTRIB})


def test_onnx_has_no_random_operators(tmp_path):
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
    model = onnx.load(tmp_path / "model.onnx")
    assert {domain.domain: domain.version for domain in model.opset_import}[""] == 18
    random = [op for op in operators(tmp_path / "model.onnx") if "Random" in op or "Drop" in op]
    assert not random


# The width does not change the number of nodes, and each block has as many as the others.
NARROW = {"input_shape": (64, 64, 3), "hidden_dim": 12, "depth": 3}
# A ratchet: lower a number when a change lowers the count. Raise one only for a stated reason,
# because more nodes make a slower file.
NODES = [
    (km.ViT, "Ti/16", NARROW, 111, 57),
    (km.MLPMixer, "S/16", NARROW, 80, 56),
    (km.ConvMixer, "256/8-k5-p2", NARROW, 56, 28),
]


@pytest.mark.parametrize(("builder", "variant", "narrow", "max_nodes", "max_fused"), NODES)
def test_onnx_node_counts_do_not_grow(builder, variant, narrow, max_nodes, max_fused, tmp_path):
    model = builder(variant, **narrow)
    assert km.export(model, tmp_path / "a.onnx").nodes <= max_nodes
    assert km.export(model, tmp_path / "b.onnx", target="onnxruntime").nodes <= max_fused
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    onnxruntime.InferenceSession(tmp_path / "a.onnx", options)
    loaded = operators(tmp_path / "loaded.onnx")
    assert "Erf" not in loaded and "Gelu" in loaded, "onnxruntime makes one node of a GELU"


def test_onnxruntime_target_has_fused_operators(tmp_path, monkeypatch):
    monkeypatch.setattr(hidden_width, "PERIOD", 24)  # the hidden width of the model's MLPs
    km.export(case("vit").make(), tmp_path / "model.onnx", target="onnxruntime")
    fc1 = [t for t in graph_of(tmp_path / "model.onnx").initializer if "fc1/kernel" in t.name]
    assert [tensor.dims[1] for tensor in fc1] == [32, 32], "both blocks, also for one token"
    found = operators(tmp_path / "model.onnx")
    assert [found.count(op) for op in ("Attention", "Gelu", "LayerNormalization")] == [2, 2, 5]
    km.export(case("vit_map").make(), tmp_path / "model.onnx", target="onnxruntime")
    assert operators(tmp_path / "model.onnx").count("FastGelu") == 3, "tanh GELU"


def test_onnx_keeps_weight_names_and_values(tmp_path):
    model = random_weights(case("conv_mixer").make())
    km.export(model, tmp_path / "model.onnx")
    stored = {
        t.name: numpy_helper.to_array(t) for t in graph_of(tmp_path / "model.onnx").initializer
    }
    for weight in model.weights:
        value = weight.numpy()
        if value.ndim == 4:  # ONNX's order of a kernel is outputs, inputs, rows, columns
            depthwise = "depthwise" in weight.path
            value = value.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
        array = stored[weight.path].reshape(value.shape)
        np.testing.assert_array_equal(array, value, err_msg=weight.path)


def with_norms_as_outputs(path):
    """The file's bytes with the output of each LayerNormalization as an output of the graph."""
    model = onnx.load(path)
    for node in model.graph.node:
        if node.op_type == "LayerNormalization":
            value = onnx.helper.make_tensor_value_info(node.output[0], onnx.TensorProto.FLOAT, None)
            model.graph.output.append(value)
    return model.SerializeToString()


@targets
@pytest.mark.parametrize(("name", "count"), [("vit", 1), ("deit_distilled", 2)])
def test_slice_last_block_computes_only_selected_token(name, count, target, tmp_path):
    model = random_weights(case(name).make())
    km.export(model, tmp_path / "model.onnx", target=target)
    session = onnxruntime.InferenceSession(with_norms_as_outputs(tmp_path / "model.onnx"))
    norms = session.run(None, {"images": case(name).images()})[1:]
    # Three norms see all tokens: those of both attentions and of the first MLP. The norm of the
    # last MLP and the final norm see one token.
    assert sorted(norm.ndim for norm in norms) == [2] * 2 * count + [3] * 3


def test_slice_last_block_keeps_shared_sequence(tmp_path):
    """If the model reads the class token and all tokens, it computes the block for all tokens."""
    inputs = keras.Input((8, 12, 2))
    tokens = case("vit_sequence").make()(inputs)
    both = [layers.SelectToken(0)(tokens), keras.layers.GlobalAveragePooling1D()(tokens)]
    model = random_weights(keras.Model(inputs, keras.layers.Concatenate()(both)))
    km.export(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(with_norms_as_outputs(tmp_path / "model.onnx"))
    norms = session.run(None, {"images": case("vit").images()})[1:]
    assert {norm.ndim for norm in norms} == {3}


@pytest.mark.slow
def test_lowerings_accept_other_layer_arguments(tmp_path):
    """Norms over other axes or without weights, layers without bias, other ranks and scores."""
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
    graph = Graph(onnx.load(tmp_path / "model.onnx"))
    assert max(map(len, graph.shapes.values())) == 4
    by_weights = [n for n in graph.nodes("MatMul") if n.input[1] in graph.constants]
    assert max(len(graph.shapes[node.input[1]]) for node in by_weights) == 2, (
        "OpenCV 5.0 was wrong for additive scores with weights as the second factor"
    )


def check(model, tmp_path, **options):
    """Compare both targets with the model, at a batch size that the export did not use."""
    images = case("vit").images(5)
    for target in ("onnx", "onnxruntime"):
        km.export(model, tmp_path / "model.onnx", target=target, **options)
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
        logits = session.run(["logits"], {"images": images})[0]
        np.testing.assert_allclose(logits, np.asarray(model(images)), rtol=1e-4, atol=1e-5)
        check_names(onnx.load(tmp_path / "model.onnx"), model)


def test_onnx_without_head_at_fixed_batch_matches_model(tmp_path):
    check(random_weights(case("vit").make(num_classes=0)), tmp_path, batch=5)
    graph = graph_of(tmp_path / "model.onnx")
    values = [*graph.input, *graph.output, *graph.value_info]
    assert all(isinstance(size, int) and size for value in values for size in sizes(value))


def test_two_exports_are_equal(tmp_path, monkeypatch):
    inputs = keras.Input((8, 12, 2))
    x = layers.PrefixTokens(name="prefix")(layers.PatchEmbed(8, 4, name="patches")(inputs))
    x = layers.Residual(layers.MultiHeadSelfAttention(2, name="attention"), name="block")(x)
    x = layers.SelectToken(0, name="select")(x)
    model = random_weights(keras.Model(inputs, keras.layers.Dense(5, name="head")(x)))
    for options in (
        {"target": "onnxruntime"},
        {"dtype": "float16", "attention_maps": True},
        {"target": "onnxruntime", "quantize": "int8"},
        {"quantize": "int8", "calibration_data": case("vit").images(4)},
    ):
        for path, number in {"a.onnx": 1, "b.onnx": 95}.items():
            # tf2onnx numbers names, and orders nodes by these names as text.
            monkeypatch.setattr(tf2onnx.utils, "INTERNAL_NAME", number)
            km.export(model, tmp_path / path, **options)
        assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes(), options
    graph = graph_of(tmp_path / "a.onnx")
    takes = re.escape("It takes images: float32 (batch, 8, 12, 2). It returns logits: float32 (b")
    described = f"{model.name} in int8, exported by keras_mixers {km.__version__}. {takes}"
    assert re.match(described, graph.doc_string) and graph.name == model.name
    assert "block/attention/qkv/MatMul" in [node.name for node in graph.node]
    (conv,) = [node for node in graph.node if node.op_type == "Conv"]
    assert conv.input[1] == "patches/projection/kernel", "OpenVINO needs it in float"


def test_onnx_keeps_integer_layer_dtype(tmp_path):
    """A layer casts the images to integers, and a Dense multiplies the integers by weights."""
    inputs = keras.Input((8, 12, 2))
    x = keras.layers.Rescaling(3.0, dtype="int32")(inputs)
    model = random_weights(keras.Model(inputs, case("vit").make()(keras.layers.Dense(2)(x))))
    check(model, tmp_path)


def test_pool_on_the_grid_skips_other_averages(tmp_path):
    inputs = keras.Input((8, 12, 2))
    grid = keras.layers.Conv2D(4, 3)(inputs)
    tokens = keras.layers.Reshape((60, 4))(grid)
    kept = keras.layers.GlobalAveragePooling1D(keepdims=True)(tokens)
    turned = keras.layers.Permute((2, 1))(tokens)
    other = keras.layers.GlobalAveragePooling1D()(keras.layers.Reshape((60, 4))(turned))
    summed = keras.layers.Add()([keras.layers.Flatten()(kept), other])
    check(random_weights(keras.Model(inputs, summed)), tmp_path)


class Repeating(keras.layers.Layer):
    """A loop whose body reads a weight of the layer."""

    def build(self, shape):
        self.shift = self.add_weight(shape=shape[1:], name="shift")

    def call(self, x):
        return keras.ops.fori_loop(0, 3, lambda i, x: 0.5 * x + self.shift, x)


def mlps(*activations):
    """A file of MLPs on `x`, with equal weights, hidden widths of 1024 and outputs `y0`, `y1`."""
    rng, make = np.random.default_rng(0), onnx.helper.make_node
    shapes = {"kernel": (3, 1024), "bias": (1024,), "next_kernel": (1024, 2)}
    weights = [
        numpy_helper.from_array(rng.normal(size=shape).astype("float32"), name)
        for name, shape in shapes.items()
    ]
    nodes, outputs, hidden = [], [], []
    for i, activation in enumerate(activations):
        a, b, c, y = (f"{name}{i}" for name in "abcy")
        nodes += [make("MatMul", ["x", "kernel"], [a]), make("Add", [a, "bias"], [b])]
        nodes += [make(activation, [b], [c]), make("MatMul", [c, "next_kernel"], [y])]
        outputs.append(onnx.helper.make_tensor_value_info(y, 1, ["batch", 2]))
        hidden.append(onnx.helper.make_tensor_value_info(c, 1, ["batch", 1024]))
    images = onnx.helper.make_tensor_value_info("x", 1, ["batch", 3])
    graph = onnx.helper.make_graph(nodes, "mlps", [images], outputs, weights, value_info=hidden)
    opsets = [onnx.helper.make_opsetid("", 18)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.mark.parametrize(
    ("activations", "width"),
    [(["Relu"], 1032), (["Relu", "Relu"], 1032), (["Softmax"], 1024), (["Relu", "Tanh"], 1024)],
)
def test_widen_hidden_layers_keeps_outputs(activations, width):
    model = mlps(*activations)
    x = np.random.default_rng(1).normal(size=(5, 3)).astype("float32")
    expected = ReferenceEvaluator(model).run(None, {"x": x})
    hidden_width.widen_hidden_layers(model)
    assert [list(tensor.dims) for tensor in model.graph.initializer] == [
        [3, width],
        [width],
        [width, 2],
    ]
    onnx.checker.check_model(model, full_check=True)
    output = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4)


def test_widen_hidden_layers_keeps_units_that_are_outputs():
    model = mlps("Relu")
    model.graph.output.append(model.graph.value_info[0])
    hidden_width.widen_hidden_layers(model)
    assert model.graph.initializer[0].dims[1] == 1024


def test_onnx_rejects_loop_in_custom_layer(tmp_path):
    inputs = keras.Input((8, 12, 2))
    model = keras.Model(inputs, case("vit").make()(Repeating()(inputs)))
    with pytest.raises(RuntimeError, match="checker refuses the exported graph.*Loop"):
        km.export(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_onnx_keeps_scores_that_model_uses(tmp_path):
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
def test_onnx_returns_attention_maps(target, tmp_path):
    model = random_weights(case("vit_registers").make())
    km.export(model, tmp_path / "model.onnx", target=target, attention_maps=True)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    names = [output.name for output in session.get_outputs()]
    assert names == ["logits", "attention_0", "attention_1"]
    images = case("vit").images(5)
    logits, *maps = session.run(names, {"images": images})
    np.testing.assert_allclose(logits, np.asarray(model(images)), rtol=1e-4, atol=1e-5)
    block = model.get_layer("block_1_attention")
    before = keras.Model(model.input, block.input)
    _, expected = block.mixer(block.norm(before(images)), return_attention_scores=True)
    assert maps[1].shape == (5, 2, 8, 8)
    np.testing.assert_allclose(maps[1], np.asarray(expected), atol=1e-5)


def test_onnx_metadata_describes_model(tmp_path, monkeypatch):
    monkeypatch.setitem(vit.VARIANTS["DeiT-Ti/16-distilled"], "depth", 1)
    model = km.ViT("DeiT-Ti/16-distilled", input_shape=(32, 32, 3), num_classes=2)
    preprocessing = km.Preprocessing(32, mean=(0.1, 0.2, 0.3))
    km.export(
        model, tmp_path / "model.onnx", preprocessing=preprocessing, class_names=["cat", "dög"]
    )
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["keras_mixers_version"] == km.__version__
    assert metadata["variant"] == "ViT DeiT-Ti/16-distilled"
    assert json.loads(metadata["class_names"]) == ["cat", "dög"]
    stored = km.Preprocessing.from_config(json.loads(metadata["preprocessing"]))
    assert stored.get_config() == preprocessing.get_config()


@pytest.fixture
def small_files(monkeypatch):
    """Limit files to 4 kB, so that the weights of toy models go into a second file."""
    monkeypatch.setattr(onnx_file, "LARGEST_FILE", 4_000)


def test_onnx_large_weights_go_to_second_file(tmp_path, small_files):
    model = random_weights(case("vit").make())
    report = km.export(model, tmp_path / "model.onnx")
    second = [path for path in tmp_path.iterdir() if path != report.path]
    assert len(second) == 1
    assert report.size == report.path.stat().st_size + second[0].stat().st_size
    assert second[0].stat().st_mode == report.path.stat().st_mode
    stored = onnx.load(report.path, load_external_data=False).graph.initializer
    places = {entry.value for t in stored for entry in t.external_data if entry.key == "location"}
    assert places == {second[0].name}, "a bare file name"

    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in (report.path, *second):
        path.rename(moved / path.name)
    session = onnxruntime.InferenceSession(moved / "model.onnx")
    images = case("vit").images(5)
    logits = session.run(["logits"], {"images": images})[0]
    np.testing.assert_allclose(logits, np.asarray(model(images)), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_onnx_second_file_is_removed_with_first(tmp_path, small_files, monkeypatch):
    (tmp_path / "model.onnx.mine.data").write_text("precious")
    one, other = (random_weights(case("vit").make(), seed) for seed in (1, 2))
    km.export(one, tmp_path / "model.onnx")
    first = set(tmp_path.iterdir())
    km.export(other, tmp_path / "model.onnx")
    assert len(first ^ set(tmp_path.iterdir())) == 2, "the second file was replaced"
    monkeypatch.setattr(onnx_file, "LARGEST_FILE", 2**31)
    km.export(other, tmp_path / "model.onnx")
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "model.onnx.mine.data"}


def test_onnx_rejects_state_outside_weights(tmp_path):
    class WithTensorFlowVariable(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            import tensorflow as tf

            self.shift = tf.Variable(1.0)

        def call(self, x):
            return x + self.shift

    inputs = keras.Input((8, 12, 2))
    model = keras.Model(inputs, case("vit").make()(WithTensorFlowVariable()(inputs)))
    with pytest.raises(RuntimeError, match="has state that is not a weight.*SavedModel"):
        km.export(model, tmp_path / "model.onnx")


def test_progress_is_printed_for_slow_exports(tmp_path, monkeypatch, capsys):
    km.export(case("mlp_mixer").make(), tmp_path / "model.onnx")
    assert "model.onnx:" not in capsys.readouterr().err
    monkeypatch.setattr(pipeline, "QUIET", 0)
    km.export(case("mlp_mixer").make(), tmp_path / "model.onnx")
    lines = [line for line in capsys.readouterr().err.splitlines() if "model.onnx:" in line]
    stages = [line.split("model.onnx: ")[1].split(" (")[0] for line in lines]
    expected = ["tracing", "converting", "simplifying", "writing and checking"]
    assert stages == [*expected, "comparing with the model"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit", "hybrid_ACMPG"])
def test_keras_export_to_onnx_matches_model(name, tmp_path):
    """`km.export` writes fewer nodes, but Keras's own export must not fail."""
    model = random_weights(case(name).make())
    images = case(name).images(2)
    model.predict(images, verbose=0)  # because Keras refuses a model that was never called
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of Keras's patch for tf2onnx
        model.export(tmp_path / "model.onnx", format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    logits = session.run(None, {session.get_inputs()[0].name: images})[0]
    np.testing.assert_allclose(logits, np.asarray(model(images)), rtol=1e-4, atol=1e-5)
