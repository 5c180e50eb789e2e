"""A test of the tests: after a line of the package is broken on purpose, its test must fail.

A row of `MUTATIONS` names a function, text of its source, the text that replaces it, and one test.
The test runs twice, each time in a pytest session inside this one, with its own fixtures and
parameters: first with the function as it is, where it must pass, and then with the broken one.
"""

import contextlib
import functools
import inspect
import pathlib
import pkgutil
import textwrap

import pytest
import tensorflow as tf

TESTS = pathlib.Path(__file__).parent
# A broken function must fail by an assertion or by an error that a user can meet.
EXPECTED = (AssertionError, KeyError, RuntimeError, ValueError, pytest.fail.Exception)
EXPECTED += (tf.errors.OpError,)

pytestmark = pytest.mark.mutation

RESIDUAL = "layers/test_meaning.py::test_residual"
CONV_MIXER_BLOCK = "layers/test_meaning.py::test_conv_mixer_block[kernel0]"
ATTENTION = "layers/test_meaning.py::test_attention[more0-scaled_dot]"
BILINEAR = "layers/test_meaning.py::test_attention[more2-bilinear]"
FUSED = (
    "layers/test_kernels.py::test_values_and_gradients_are_those_of_the_plain_form_in_float64"
    "[training-{}]"
)
PATHS = "models/test_assembly.py::test_paths_and_shapes_are_those_committed[vit]"
VIT_ARGUMENTS = "models/test_wiring.py::test_attention_gets_every_argument[<lambda>0]"
MODEL_UNCHANGED = "exporting/test_export.py::test_the_model_is_as_it_was[{}]"

# (module in keras_mixers:function, text of its source, what replaces the text, test in tests/)
MUTATIONS = [
    ("layers:Residual.call", "return x + ", "return ", RESIDUAL),
    ("layers:Residual.branch", "self.norm(x, training=training)", "x", RESIDUAL),
    ("layers:Residual.scaled", "if self.scale else branch", "if False else branch", RESIDUAL),
    ("layers:LayerScale.call", "x * ", "x + ", RESIDUAL),
    ("layers:ConvMixerBlock.call", "x = x + ", "x = ", CONV_MIXER_BLOCK),
    ("layers:ConvMixerBlock.call", "self.norm1", "self.norm2", CONV_MIXER_BLOCK),
    (
        "layers:MultiHeadSelfAttention.attend",
        "self.head_shape[1] ** -0.5",
        "1.0",
        ATTENTION,
    ),
    (
        # The fused path, as opposed to the one that gives the weights.
        "layers:MultiHeadSelfAttention.attend",
        "value, scale=scale)",
        "value, scale=2 * scale)",
        ATTENTION,
    ),
    (
        "layers:MultiHeadSelfAttention.attention_scores",
        "axis=-1",
        "axis=-2",
        ATTENTION,
    ),
    (
        "layers:MultiHeadSelfAttention.project",
        "query, key, value = (",
        "key, query, value = (",
        BILINEAR,
    ),
    (
        "layers:MultiHeadSelfAttention.project",
        "self.query_norm(query)",
        "query",
        BILINEAR,
    ),
    (
        "layers:MultiHeadSelfAttention.attention_logits",
        '"hde,nkhe->nkhd"',
        '"hed,nkhe->nkhd"',
        BILINEAR,
    ),
    ("layers:MultiHeadSelfAttention.build", "use_bias=self.qkv_bias", "use_bias=False", PATHS),
    (
        "layers:AttentionPooling.call",
        "return y + self.mlp",
        "return self.mlp",
        "layers/test_meaning.py::test_attention_pooling",
    ),
    (
        "layers.dense:mlp",
        "fc2(dropout(hidden, training=training))",
        "fc2(fc1(x))",
        "layers/test_meaning.py::test_token_mixing",
    ),
    ("layers:ChannelMixing.build", "x_shape[-1], ", "x_shape[-1], use_bias=False, ", PATHS),
    (
        "layers:ChannelMixing.hidden",
        "gate, training) * x",
        "x, training) * gate",
        "layers/test_meaning.py::test_swiglu",
    ),
    (
        "layers:SpatialGating.call",
        "value, gate = ",
        "gate, value = ",
        "layers/test_meaning.py::test_spatial_gating",
    ),
    (
        "layers:PoolMixing.call",
        "average - image",
        "average",
        "layers/test_meaning.py::test_pool_mixing",
    ),
    (
        "layers:PrefixTokens.call",
        "[*prefix, x]",
        "[x, *prefix]",
        "layers/test_meaning.py::test_prefix_tokens_come_first_and_in_order",
    ),
    (
        "layers:StochasticDepth.call",
        "(ops.shape(x)[0], *[1] * (len(x.shape) - 1))",
        "ops.shape(x)",
        "layers/test_meaning.py::test_stochastic_depth_drops_whole_samples_and_keeps_the_mean",
    ),
    (
        "layers:StochasticDepth.call",
        "training and self.rate",
        "self.rate",
        "layers/test_meaning.py::test_stochastic_depth_is_the_identity_at_rate_0_and_at_inference",
    ),
    (
        "layers.position_embedding:sincos2d",
        "[np.sin(column), np.cos(column), np.sin(row), np.cos(row)]",
        "[np.sin(row), np.cos(row), np.sin(column), np.cos(column)]",
        "layers/test_meaning.py::test_sincos_positions",
    ),
    (
        "layers:PositionEmbedding.call",
        "x + ",
        "x - ",
        "layers/test_meaning.py::test_learned_positions",
    ),
    (
        "layers:PatchEmbed.call",
        "self.projection(images)",
        "self.projection(images[:, ::-1])",
        "layers/test_meaning.py::test_patch_embed[True]",
    ),
    (
        "layers:SelectToken.call",
        "self.index]",
        "self.index - 1]",
        "layers/test_meaning.py::test_select_token",
    ),
    (
        "layers.kernels.tensorflow_cpu:mlp",
        "x, d_hidden, transpose_a",
        "x, d_hidden * 2, transpose_a",
        FUSED.format("ChannelMixing-gelu"),
    ),
    (
        "layers.kernels.tensorflow_cpu:batch_normalization",
        "(count - 1) / count",
        "1.0",
        FUSED.format("BatchNormalization"),
    ),
    (
        "layers.kernels.tensorflow_cpu:depthwise_convolution",
        "(side - 1) // 2, side // 2",
        "side // 2, (side - 1) // 2",
        FUSED.format("ConvMixerBlock-even"),
    ),
    (
        "layers.kernels.tensorflow_cpu.softmax_attention:_attention_weights",
        "** -0.5",
        "** -1.0",
        FUSED.format("MultiHeadSelfAttention"),
    ),
    (
        "layers.kernels.tensorflow_cpu.softmax_attention:_attention_by_image",
        "(d_weights - mean)",
        "d_weights",
        "layers/test_kernels.py::test_long_sequences_take_one_image_at_a_time[training]",
    ),
    ("models.assemble:stem", "and a.dropout_rate:", "and False:", VIT_ARGUMENTS),
    ("models.assemble:block", "a.mlp_dim, a.activation,", "a.mlp_dim,", VIT_ARGUMENTS),
    ("models:ViT", "qk_norm=qk_norm", "qk_norm=False", VIT_ARGUMENTS),
    ("models:ViT", "num_heads=row.num_heads", "num_heads=2", VIT_ARGUMENTS),
    (
        "models:MLPMixer",
        "epsilon=epsilon",
        "epsilon=1e-6",
        "models/test_wiring.py::test_mlp_mixer_and_conv_mixer_get_theirs",
    ),
    (
        "models.assemble:head",
        "if a.num_prefix:",
        "if False:",
        "models/test_assembly.py::test_the_average_leaves_prefix_tokens_out",
    ),
    (
        "models.assemble:head",
        "if a.norm_after_pool:",
        "if False:",
        "models/test_assembly.py::test_norm_before_or_after_the_average",
    ),
    (
        "models.assemble:distilled_head",
        "SelectToken(1,",
        "SelectToken(0,",
        "models/test_assembly.py::test_distilled_logits_are_the_mean_of_two_heads",
    ),
    (
        "models.assemble:block",
        "a.stochastic_depth_rate * i",
        "a.stochastic_depth_rate",
        "models/test_assembly.py::test_stochastic_depth_grows_with_depth",
    ),
    (
        "layers:Residual.call",
        "keras.remat(branch)",
        "branch",
        "models/test_checkpointing.py::test_the_branch_is_computed_again[True]",
    ),
    (
        "layers.norms:BatchNormalization.remember",
        "now * (1.0",
        "now * 0 * (1.0",
        "models/test_checkpointing.py::test_training_is_the_same[conv_mixer-eager]",
    ),
    (
        "weights.formats.google:plain_vit",
        "_first",
        "_second",
        "weights/test_load.py::test_layouts_of_google_vit[big_vision]",
    ),
    (
        "weights.load:read",
        "if not finite.all():",
        "if False:",
        "weights/test_refusals.py::test_wrong_arrays[nan]",
    ),
    (
        "weights:load_weights",
        "[read(fill) for",
        "[fill.slot.variable.assign(read(fill)) for",
        "weights/test_refusals.py::test_wrong_arrays[nan]",
    ),
    (
        "weights.plan:leftovers",
        "extra.append(key)",
        "pass",
        "weights/test_refusals.py::test_wrong_arrays[extra]",
    ),
    (
        "weights.resize:patch_kernel",
        "np.kron(rows, columns)",
        "np.kron(columns, rows)",
        "weights/test_adapt.py"
        "::test_a_larger_patch_gives_the_same_tokens_on_enlarged_patches[patch2]",
    ),
    (
        "weights.resize:resize_matrix",
        "x, -0.75",
        "x, -0.5",
        "weights/test_adapt.py::test_bicubic_is_torchs[8]",
    ),
    (
        "weights.resize:channels",
        "(old / count)",
        "1.0",
        "weights/test_adapt.py::test_more_channels_repeat_and_keep_the_scale",
    ),
    (
        "weights.save:write_timm",
        "key.endswith",
        "key.startswith",
        "weights/test_save.py::test_batch_norms_have_the_counter_that_torch_asks_for",
    ),
    (
        "exporting.verify:_difference",
        "if not error <= bound:",
        "if False:",
        "exporting/test_export.py::test_a_file_with_other_answers_is_not_put_in_place"
        "[keras_mixers.exporting.onnx-model.onnx]",
    ),
    (
        "exporting.verify:agreement",
        "np.mean",
        "np.max",
        "exporting/test_precision.py::test_agreement_is_the_share_of_equal_classes",
    ),
    (
        "exporting.serving:computing_in",
        "layer.dtype_policy = own",
        "pass",
        MODEL_UNCHANGED.format("{}"),
    ),
    (
        "exporting.serving:Serving.calibrated",
        "MOST_IMAGES - count",
        "MOST_IMAGES",
        "exporting/test_precision.py::test_calibration_takes_arrays_batches_and_datasets",
    ),
    (
        "exporting.serving:Serving.of_prepared",
        "reference_kernels()",
        "contextlib.nullcontext()",
        "exporting/test_formats.py::test_a_saved_model_holds_the_plain_forms",
    ),
    (
        "exporting.onnx.lowerings:mixed_by_scores",
        "softmax(logits)",
        "softmax(logits, axis=-2)",
        "exporting/test_onnx.py::test_onnx_gives_the_models_answers[vit-onnx]",
    ),
    (
        "exporting.onnx.lowering:replaced",
        "own[attribute] = value\n",
        "pass\n",
        MODEL_UNCHANGED.format("{}"),
    ),
    (
        "exporting.onnx.passes.last_token:_wanted_for",
        "all(",
        "any(",
        "exporting/test_onnx.py::test_a_sequence_that_is_wanted_whole_stays_whole",
    ),
    (
        "exporting.onnx:remove_stale",
        "not in used",
        "in ()",
        "exporting/test_onnx.py::test_weights_beside_a_file_go_with_it",
    ),
    (
        "training.optimizer:clipped",
        "ops.maximum(norm, clip_norm)",
        "norm",
        "training/test_parts.py::test_steps_are_those_of_adamw",
    ),
    (
        "training.losses:Crossentropy.call",
        "self.label_smoothing / classes",
        "0",
        "training/test_parts.py::test_cross_entropy_is_keras_s_for_numbers_and_for_shares[0.1]",
    ),
    (
        "training.backup:Backup.on_epoch_end",
        "epoch + 1",
        "epoch",
        "training/test_backup.py::test_a_training_that_has_ended_goes_on_to_nothing",
    ),
    (
        "data.rng:KeyedSeeds.__init__",
        "tf.cast(part,",
        "tf.cast(part * 0,",
        "data/test_augmentation.py::test_draws_are_a_function_of_the_key",
    ),
    (
        "data.epochs:Passes.begin",
        "self.left or",
        "",
        "data/test_load.py::test_a_pass_that_is_broken_off_is_begun_again",
    ),
]


@pytest.mark.parametrize(
    ("target", "what", "becomes", "test"),
    MUTATIONS,
    ids=[f"{target}-{what.strip()}" for target, what, _, _ in MUTATIONS],
)
def test_mutation_is_caught(target, what, becomes, test):
    assert passes_unchanged(test), f"{test} must pass before the mutation"
    with mutated(target, what, becomes):
        errors = run(test)
    assert errors, f"{test} passes although {target} is broken"
    assert isinstance(errors[0], EXPECTED), errors[0]


def test_mutation_of_missing_source_names_the_row():
    with pytest.raises(pytest.fail.Exception, match=r"`gone` is not in .*Residual\.call"):
        with mutated("layers:Residual.call", "gone", ""):
            pass
    with pytest.raises(pytest.fail.Exception, match=r"keras_mixers has no layers:Residual\.gone"):
        with mutated("layers:Residual.gone", "x", ""):
            pass
    with pytest.raises(pytest.fail.Exception, match="no such test: layers/test_gone.py::test"):
        run("layers/test_gone.py::test")


@contextlib.contextmanager
def mutated(target, what, becomes):
    """The function `target` with other source text, wherever it was imported, until the end."""
    try:
        function = inspect.unwrap(pkgutil.resolve_name(f"keras_mixers.{target}"))
    except (AttributeError, ImportError):
        pytest.fail(f"keras_mixers has no {target}: update its rows in MUTATIONS")
    source = textwrap.dedent(inspect.getsource(function))
    if what not in source:
        pytest.fail(f"`{what}` is not in the source of {target}: update its row in MUTATIONS")
    original = function.__code__
    function.__code__ = compiled(source.replace(what, becomes), function)
    try:
        yield
    finally:
        function.__code__ = original


def compiled(source, function):
    """The code of `function` with another source, and with the variables of its closure."""
    closure = ", ".join(function.__code__.co_freevars)
    scope = dict(function.__globals__)
    body = textwrap.indent(source, "    ")
    exec(f"def make({closure}):\n{body}\n    return {function.__name__}", scope)
    made = scope["make"](*function.__code__.co_freevars)
    return inspect.unwrap(made).__code__


@functools.cache
def passes_unchanged(test):
    return not run(test)


def run(test):
    """Run one test in a session inside this one: the errors that it raised."""
    session = Session()
    path, name = test.split("::", maxsplit=1)
    plugins = ("cacheprovider", "faulthandler", "unraisableexception", "xdist")
    switched_off = [word for plugin in plugins for word in ("-p", f"no:{plugin}")]
    pytest.main(["-q", *switched_off, f"{TESTS / path}::{name}"], plugins=[session])
    if session.tests != 1:
        pytest.fail(f"no such test: {test}: update its rows in MUTATIONS")
    return session.errors


class Session:
    """A pytest plugin: how many tests a session had, and the errors that they raised."""

    def __init__(self):
        self.tests = 0
        self.errors = []

    def pytest_runtest_logstart(self, nodeid):
        self.tests += 1

    def pytest_exception_interact(self, call):
        self.errors.append(call.excinfo.value)
