"""A test of the tests: after a line of the package is broken on purpose, its test must fail.

A row of `MUTATIONS` names a function, text of its source, the text that replaces it, and one test.
The test runs in a pytest session inside this one, with its own fixtures and parameters, while the
function is broken. Before that it runs with the function as it is, where it must pass, unless this
session has the test too.
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
FUSED = "layers/test_kernels.py::test_fused_kernels_equal_reference_in_float64[training-{}]"
PATHS = "models/test_assembly.py::test_weight_paths_match_committed_files[vit]"
VIT_ARGUMENTS = "models/test_wiring.py::test_attention_gets_every_argument[<lambda>0]"
MODEL_UNCHANGED = "exporting/test_export.py::test_export_does_not_change_model[{}]"

# (module in keras_mixers:function, text of its source, what replaces the text, test in tests/)
MUTATIONS = [
    ("layers:Residual.call", "return x + ", "return ", RESIDUAL),
    ("layers:Residual.branch", "self.norm(x, training=training)", "x", RESIDUAL),
    ("layers:Residual.scaled", "if self.scale else branch", "if False else branch", RESIDUAL),
    ("layers:LayerScale.call", "x * ", "x + ", RESIDUAL),
    ("layers:ConvMixerBlock.block", "x = x + ", "x = ", CONV_MIXER_BLOCK),
    ("layers:ConvMixerBlock.block", "self.norm1", "self.norm2", CONV_MIXER_BLOCK),
    (
        # The path of Keras's own attention; the next row has the path that returns the weights.
        "layers.attention:attend_heads",
        "query.shape[-1] ** -0.5",
        "1.0",
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
    ("layers:ChannelMixing.build", "use_bias=self.use_bias", "use_bias=False", PATHS),
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
        "layers/test_meaning.py::test_stochastic_depth_drops_samples_and_keeps_mean",
    ),
    (
        "layers:StochasticDepth.call",
        "training and self.rate",
        "self.rate",
        "layers/test_meaning.py::test_stochastic_depth_identity_at_inference_and_rate_0",
    ),
    (
        "layers.position_embedding:sincos2d",
        "[np.sin(column), np.cos(column), np.sin(row), np.cos(row)]",
        "[np.sin(row), np.cos(row), np.sin(column), np.cos(column)]",
        "layers/test_meaning.py::test_position_embedding_sincos2d",
    ),
    (
        "layers:PositionEmbedding.call",
        "x + ",
        "x - ",
        "layers/test_meaning.py::test_position_embedding_learned",
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
        "layers.kernels.tensorflow_cpu.products:_mlp",
        "form.d_kernel(x, d_hidden)",
        "form.d_kernel(x, d_hidden * 2)",
        FUSED.format("ChannelMixing-gelu"),
    ),
    (
        "layers.kernels.tensorflow_cpu.products:Rows.d_bias",
        "if dy.dtype == tf.bfloat16:",
        "if False:",
        "layers/test_half_precision.py::test_gradients_of_vectors_are_exact_for_many_tokens"
        "[PatchEmbed-arguments0-shape0-fused]",
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
        "layers.kernels.tensorflow_cpu.softmax_attention:attention",
        "_rotated(key, rotary, sine,",
        "_rotated(key, rotary, -sine,",
        FUSED.format("MultiHeadSelfAttention-rotary"),
    ),
    (
        "layers.kernels.tensorflow_cpu.softmax_attention:_backward",
        "tf.matmul(d_logits, key)",
        "tf.matmul(weights, key)",
        "layers/test_kernels.py::test_attention_of_long_sequences_loops_over_images[training]",
    ),
    ("models.assemble:stem", "and a.dropout_rate:", "and False:", VIT_ARGUMENTS),
    ("models.blocks:channel_mixing", "a.activation,", "", VIT_ARGUMENTS),
    ("models:ViT", "qk_norm=qk_norm", "qk_norm=False", VIT_ARGUMENTS),
    ("models:ViT", "num_heads=num_heads", "num_heads=2", VIT_ARGUMENTS),
    (
        "models:MLPMixer",
        "epsilon=epsilon",
        "epsilon=1e-6",
        "models/test_wiring.py::test_other_families_get_every_argument",
    ),
    (
        "models.assemble:head",
        "if a.num_prefix and not pools_prefix:",
        "if False:",
        "models/test_assembly.py::test_gap_leaves_out_prefix_tokens",
    ),
    (
        "models.assemble:head",
        "if a.norm_after_pool:",
        "if False:",
        "models/test_assembly.py::test_norm_after_pool_changes_output",
    ),
    (
        "models.assemble:distilled_head",
        "SelectToken(1,",
        "SelectToken(0,",
        "models/test_assembly.py::test_distilled_logits_are_the_mean_of_two_heads",
    ),
    (
        "models.blocks:residual",
        "a.stochastic_depth_rate * i",
        "a.stochastic_depth_rate",
        "models/test_assembly.py::test_stochastic_depth_grows_with_depth",
    ),
    (
        "layers:Residual.call",
        "keras.remat(branch)",
        "branch",
        "models/test_checkpointing.py::test_residual_recomputes_branch[True]",
    ),
    (
        "layers.norms:BatchNormalization.update_moving_statistics",
        "batch * (1.0",
        "batch * 0 * (1.0",
        "layers/test_meaning.py::test_batch_normalization_moves_its_averages_like_keras",
    ),
    (
        "weights.formats.google:plain_vit",
        "_first",
        "_second",
        "weights/test_layouts.py::test_google_vit_layouts_load[big_vision]",
    ),
    (
        "weights.load:read",
        "if not finite.all():",
        "if False:",
        "weights/test_refusals.py::test_wrong_arrays_are_refused[nan]",
    ),
    (
        "weights:load_weights",
        "[read(assignment) for",
        "[assignment.weight.variable.assign(read(assignment)) for",
        "weights/test_refusals.py::test_wrong_arrays_are_refused[nan]",
    ),
    (
        "weights.load:assign_all",
        "for variable, value in before:",
        "for variable, value in []:",
        "weights/test_changes.py::test_interrupted_assignments_are_undone[w.npz-KeyboardInterrupt]",
    ),
    (
        "weights.plan:assign",
        "elif change or ",
        "elif ",
        "weights/test_adapt.py::test_grids_of_equal_token_counts_are_compared[positions-timm]",
    ),
    (
        "weights.plan:add_unused",
        "problems.extra.append(key)",
        "pass",
        "weights/test_refusals.py::test_wrong_arrays_are_refused[extra]",
    ),
    (
        "weights.transforms:without_key_bias",
        "if key.any():",
        "if False:",
        "weights/test_towers.py::test_a_bias_of_keys_must_be_zero_for_a_model_without_it",
    ),
    (
        "weights.resize:patch_kernel",
        "np.kron(rows, columns)",
        "np.kron(columns, rows)",
        "weights/test_adapt.py::test_larger_patch_kernel_gives_same_tokens[patch2]",
    ),
    (
        "weights.resize:resize_matrix",
        "x, -0.75",
        "x, -0.5",
        "weights/test_adapt.py::test_bicubic_equals_torch[8]",
    ),
    (
        "weights.resize:channels",
        "(old / count)",
        "1.0",
        "weights/test_adapt.py::test_channels_repeat_and_keep_scale",
    ),
    (
        "weights.formats.timm:as_saved",
        "key.endswith",
        "key.startswith",
        "weights/test_save.py::test_batch_norms_get_the_counter_of_torch",
    ),
    (
        "exporting.verify:_checked_difference",
        "if not error <= tolerance:",
        "if False:",
        "exporting/test_export.py::test_export_rejects_file_with_wrong_outputs"
        "[keras_mixers.exporting.onnx-model.onnx]",
    ),
    (
        "exporting.verify:agreement",
        "np.mean",
        "np.max",
        "exporting/test_precision.py::test_agreement_is_fraction_of_equal_classes",
    ),
    (
        "exporting.serving:computing_in",
        "layer.dtype_policy = original",
        "pass",
        MODEL_UNCHANGED.format("{}"),
    ),
    (
        "exporting.serving:Serving.calibrated",
        "MAX_IMAGES - count",
        "MAX_IMAGES",
        "exporting/test_precision.py::test_calibrated_accepts_arrays_batches_and_datasets",
    ),
    (
        "exporting.serving:Serving.outputs",
        "enter_context(kernels())",
        "enter_context(contextlib.nullcontext())",
        "exporting/test_formats.py::test_saved_model_holds_no_function_for_xla[conv_mixer-options0]",
    ),
    (
        "exporting.onnx.lowerings:attention_with_weights",
        "softmax(_attention_logits(layer, query, key))",
        "softmax(_attention_logits(layer, query, key), axis=-2)",
        "exporting/test_onnx.py::test_onnx_matches_model[vit-onnx]",
    ),
    (
        "exporting.onnx.lowering:temporary_attribute",
        "attributes.pop(name, None)",
        "pass",
        MODEL_UNCHANGED.format("{}"),
    ),
    (
        "exporting.onnx.passes.last_token:read_only_by",
        "all(",
        "any(",
        "exporting/test_onnx.py::test_slice_last_block_keeps_shared_sequence",
    ),
    (
        "exporting.onnx:remove_stale_weights",
        "not in used",
        "in ()",
        "exporting/test_onnx.py::test_onnx_second_file_is_removed_with_first",
    ),
    (
        "training.layerwise:clip_by_global_norm",
        "ops.maximum(norm, clip_norm)",
        "norm",
        "training/test_parts.py::test_optimizer_steps_equal_adamw",
    ),
    (
        "training.losses:Crossentropy.call",
        "self.label_smoothing / max(classes, 2)",
        "0",
        "training/test_parts.py::test_crossentropy_equals_keras_for_indices_and_soft_labels[0.1]",
    ),
    (
        "training.backup_file:read",
        "data[-length:] != trailer(content)",
        "False",
        "training/test_backup.py::test_backup_with_any_damage_raises_and_loads_nothing",
    ),
    (
        "training.backup_file:assign",
        "seeds_and_lora(model)",
        "[]",
        "training/test_backup.py::test_backup_keeps_seeds_of_keras_layers",
    ),
    (
        "training.backup:Backup.on_epoch_end",
        "epoch + 1",
        "epoch",
        "training/test_backup.py::test_backup_of_finished_training_changes_nothing",
    ),
    (
        "data.randomness:fold_in",
        "tf.cast(number,",
        "tf.cast(number * 0,",
        "data/test_augmentation.py::test_augmentation_depends_only_on_key",
    ),
    (
        "data.epochs:epochs",
        "batch == num_batches - 1",
        "batch >= 0",
        "data/test_pipeline.py::test_interrupted_epoch_is_repeated",
    ),
    (
        "data.randomness:RowRandom.__init__",
        "tf.gather(drawn, rows)",
        "drawn[: tf.shape(rows)[0]]",
        "data/test_augmentation.py::test_augmentation_of_a_share_equals_that_of_the_batch",
    ),
    (
        "data.rand_augment:value_tables",
        "above - histogram",
        "above",
        "data/test_augmentation.py::test_transformation_equals_pillow[Equalize-0.35]",
    ),
    (
        "preprocessing.resample:Resampler.band",
        "// resized + 2",
        "// resized - 1",
        "preprocessing/test_preprocessing.py::test_small_sizes_give_pillows_bytes",
    ),
    (
        "data.order:Order.share_of",
        "index * size // count, (index + 1)",
        "0, (0 + 1)",
        "data/test_pipeline.py::test_shares_of_an_incomplete_batch_have_all_images[True]",
    ),
    (
        "tuning.feasible:FeasibleProposals.random_values",
        "values is None or self.is_feasible(values)",
        "True",
        "tuning/test_feasible.py::test_search_tries_only_feasible_configurations[RandomSearch]",
    ),
    (
        "probe.token_mixers:declares_nothing",
        "not in_package(type(layer))",
        "False",
        "probe/test_token_mixers.py::test_rollout_refuses_attention_with_another_call",
    ),
    (
        "arguments:path",
        "len(text) > LONGEST_PATH",
        "False",
        "test_arguments.py::test_path_that_no_file_can_have_is_refused[path1-Backup]",
    ),
]


@pytest.mark.parametrize(
    ("target", "what", "becomes", "test"),
    MUTATIONS,
    ids=[f"{target}-{what.strip()}" for target, what, _, _ in MUTATIONS],
)
def test_mutation_is_caught(target, what, becomes, test, request):
    # A session with all tests runs this one anyway, and shows whether it passes.
    others = {item.nodeid for item in request.session.items}
    if f"tests/{test}" not in others:
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
