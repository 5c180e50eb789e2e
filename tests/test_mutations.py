"""The suite's own test: a layer broken on purpose must make the test of its meaning fail."""

import functools
import importlib.util
import inspect
import pathlib
import tempfile
import textwrap

import goldens
import pytest
import tensorflow

import keras_mixers as km
from keras_mixers import layers
from keras_mixers.data import epochs, rng
from keras_mixers.exporting import onnx as onnx_target, serving, verify
from keras_mixers.exporting.onnx import file as onnx_file, lowering, lowerings
from keras_mixers.exporting.onnx.passes import last_token
from keras_mixers.layers import (
    attention,
    norms,
    position_embedding,
    residual,
    token_mixing,
)
from keras_mixers.layers.kernels import tensorflow_cpu
from keras_mixers.layers.kernels.tensorflow_cpu import softmax_attention
from keras_mixers.models import assemble, blocks
from keras_mixers.training import backup, losses, optimizer
from keras_mixers.weights import load, plan, resize, save
from keras_mixers.weights.formats import google

HERE = pathlib.Path(__file__).parent


def load_file(path):
    spec = importlib.util.spec_from_file_location(path.stem + "_to_break", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fused_kernels = load_file(HERE / "layers" / "test_kernels.py")
meaning = load_file(HERE / "layers" / "test_meaning.py")
assembly = load_file(HERE / "models" / "test_assembly.py")
models = load_file(HERE / "models" / "test_models.py")


wiring = load_file(HERE / "models" / "test_wiring.py")


checkpointing = load_file(HERE / "models" / "test_checkpointing.py")
augmentation_tests = load_file(HERE / "data" / "test_augmentation.py")
data_tests = load_file(HERE / "data" / "test_load.py")
backups = load_file(HERE / "training" / "test_backup.py")
parts = load_file(HERE / "training" / "test_parts.py")
layouts = load_file(HERE / "weights" / "test_layouts.py")
adapt_tests = load_file(HERE / "weights" / "test_adapt.py")
refusals = load_file(HERE / "weights" / "test_refusals.py")
saves = load_file(HERE / "weights" / "test_save.py")
exports = load_file(HERE / "exporting" / "test_export.py")
onnx_tests = load_file(HERE / "exporting" / "test_onnx.py")
formats = load_file(HERE / "exporting" / "test_formats.py")
precision_tests = load_file(HERE / "exporting" / "test_precision.py")


def in_a_folder(test, *arguments):
    """A test that writes files, in a folder of its own."""

    def call():
        with tempfile.TemporaryDirectory() as folder:
            test(*arguments, pathlib.Path(folder))

    return call


def refusal(case):
    """A file that must be refused, the model left as it was."""
    name = refusals.BAD[case][0]

    def call(folder):
        refusals.test_wrong_arrays_are_refused(case, {name: goldens.make(name)}, folder)

    return in_a_folder(call)


layouts_test = in_a_folder(layouts.test_google_vit_layouts_load, "big_vision")
nan_test = refusal("nan")
extra_key_test = refusal("extra")
counters_test = in_a_folder(saves.test_batch_norms_get_the_counter_of_torch)


def patch_test():
    adapt_tests.test_larger_patch_kernel_gives_same_tokens((6, 9))


def bicubic_test():
    adapt_tests.test_bicubic_equals_torch(8)


def paths_test():
    assembly.test_weight_paths_match_committed_files(assembly.MODELS[0])


def patch_embed_test():
    meaning.test_patch_embed(True)


def vit_arguments_test():
    wiring.test_attention_gets_every_argument(
        lambda: km.ViT("Ti/16", depth=2, pool="map", **wiring.ALL)
    )


def attention_test():
    meaning.test_attention("scaled_dot", {})


def attention_full_test():
    meaning.test_attention("bilinear", {"qk_norm": True})


def conv_test():
    meaning.test_conv_mixer_block((3, 3))


def with_patches(test, *arguments):
    """A test that patches what it tests, and writes files."""

    def call():
        with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
            test(*arguments, pathlib.Path(folder), patch)

    return call


def weights_beside_test():
    def test(folder, patch):
        patch.setattr(onnx_file, "LARGEST_FILE", 4_000)
        onnx_tests.test_onnx_second_file_is_removed_with_first(folder, None, patch)

    with_patches(test)()


def fast(label):
    """The agreement of a fused kernel with the reference implementation, in training."""
    case = fused_kernels.CASE[label]
    return lambda: fused_kernels.test_fused_kernels_equal_reference_in_float64(case, True)


def long_attention():
    with pytest.MonkeyPatch.context() as patch:
        fused_kernels.test_attention_of_long_sequences_loops_over_images(True, patch)


def checkpointing_test():
    checkpointing.test_residual_recomputes_branch(True)


def moving_averages_test():
    checkpointing.test_checkpointing_keeps_training_the_same("conv_mixer", "eager")


def smoothing_test():
    parts.test_crossentropy_equals_keras_for_indices_and_soft_labels(0.1)


draws_test = augmentation_tests.test_augmenter_depends_only_on_key


def restart_test():
    data_tests.test_interrupted_epoch_is_restarted(None)


def ended_test():
    def test(folder):
        backups.test_backup_of_finished_training_changes_nothing(folder / "one.weights.h5")

    in_a_folder(test)()


adamw_test = parts.test_optimizer_steps_equal_adamw
plain_test = in_a_folder(formats.test_saved_model_uses_reference_kernels)
fast_mlp = fast("ChannelMixing-gelu")
fast_batch_norm = fast("BatchNormalization")
fast_attention = fast("MultiHeadSelfAttention")
fast_even_block = fast("ConvMixerBlock-even")
vit_case = onnx_tests.case("vit")
vit_export_test = in_a_folder(onnx_tests.test_onnx_matches_model, vit_case, "onnx")
wrong_answer_test = with_patches(
    exports.test_export_rejects_file_with_wrong_outputs, onnx_target, "model.onnx"
)
untouched_test = in_a_folder(exports.test_export_does_not_change_model, exports.OPTIONS[0])
whole_sequence_test = in_a_folder(onnx_tests.test_slice_last_block_keeps_shared_sequence)
calibration_test = precision_tests.test_calibrated_accepts_arrays_batches_and_datasets
agreement_test = precision_tests.test_agreement_is_fraction_of_equal_classes

MUTATIONS = [
    # who, method, what, becomes, the test that must fail
    (layers.Residual, "call", "return x + ", "return ", meaning.test_residual),
    (layers.Residual, "branch", "self.norm(x, training=training)", "x", meaning.test_residual),
    (
        layers.Residual,
        "scaled",
        "if self.scale else branch",
        "if False else branch",
        meaning.test_residual,
    ),
    (layers.ConvMixerBlock, "block", "x = x + ", "x = ", conv_test),
    (layers.ConvMixerBlock, "block", "self.norm1", "self.norm2", conv_test),
    (layers.MultiHeadSelfAttention, "attend", "self.head_shape[1] ** -0.5", "1.0", attention_test),
    (layers.MultiHeadSelfAttention, "attention_scores", "axis=-1", "axis=-2", attention_test),
    (
        layers.MultiHeadSelfAttention,
        "project",
        "query, key, value = (",
        "key, query, value = (",
        attention_full_test,
    ),
    (
        layers.MultiHeadSelfAttention,
        "project",
        "self.query_norm(query)",
        "query",
        attention_full_test,
    ),
    (
        layers.MultiHeadSelfAttention,
        "attention_logits",
        '"hde,nkhe->nkhd"',
        '"hed,nkhe->nkhd"',
        attention_full_test,
    ),
    (google, "plain_vit", "_first", "_second", layouts_test),
    (load, "read", "if not finite.all():", "if False:", nan_test),
    (
        km,
        "load_weights",
        "[read(assignment) for",
        "[assignment.weight.variable.assign(read(assignment)) for",
        nan_test,
    ),
    (plan, "unused_keys", "extra.append(key)", "pass", extra_key_test),
    (resize, "patch_kernel", "np.kron(rows, columns)", "np.kron(columns, rows)", patch_test),
    (resize, "resize_matrix", "x, -0.75", "x, -0.5", bicubic_test),
    (
        resize,
        "channels",
        "(old / count)",
        "1.0",
        adapt_tests.test_channels_repeat_and_keep_scale,
    ),
    (save, "write_timm", "key.endswith", "key.startswith", counters_test),
    (
        layers.AttentionPooling,
        "call",
        "return y + self.mlp",
        "return self.mlp",
        meaning.test_attention_pooling,
    ),
    (
        token_mixing,
        "mlp",
        "fc2(dropout(hidden, training=training))",
        "fc2(fc1(x))",
        meaning.test_token_mixing,
    ),
    (
        layers.ChannelMixing,
        "hidden",
        "gate, training) * x",
        "x, training) * gate",
        meaning.test_swiglu,
    ),
    (
        layers.SpatialGating,
        "call",
        "value, gate = ",
        "gate, value = ",
        meaning.test_spatial_gating,
    ),
    (layers.PoolMixing, "call", "average - image", "average", meaning.test_pool_mixing),
    (
        layers.PrefixTokens,
        "call",
        "[*prefix, x]",
        "[x, *prefix]",
        meaning.test_prefix_tokens_come_first_and_in_order,
    ),
    (
        layers.StochasticDepth,
        "call",
        "(ops.shape(x)[0], *[1] * (len(x.shape) - 1))",
        "ops.shape(x)",
        meaning.test_stochastic_depth_drops_samples_and_keeps_mean,
    ),
    (
        layers.StochasticDepth,
        "call",
        "training and self.rate",
        "self.rate",
        meaning.test_stochastic_depth_identity_at_inference_and_rate_0,
    ),
    (
        position_embedding,
        "sincos2d",
        "[np.sin(column), np.cos(column), np.sin(row), np.cos(row)]",
        "[np.sin(row), np.cos(row), np.sin(column), np.cos(column)]",
        meaning.test_position_embedding_sincos2d,
    ),
    (
        layers.MultiHeadSelfAttention,
        "build",
        "use_bias=self.qkv_bias",
        "use_bias=False",
        paths_test,
    ),
    (layers.ChannelMixing, "build", "x_shape[-1], ", "x_shape[-1], use_bias=False, ", paths_test),
    (
        layers.PatchEmbed,
        "call",
        "self.projection(images)",
        "self.projection(images[:, ::-1])",
        patch_embed_test,
    ),
    (layers.PositionEmbedding, "call", "x + ", "x - ", meaning.test_position_embedding_learned),
    (layers.LayerScale, "call", "x * ", "x + ", meaning.test_residual),
    (layers.SelectToken, "call", "self.index]", "self.index - 1]", meaning.test_select_token),
    (assemble, "stem", "and a.dropout_rate:", "and False:", vit_arguments_test),
    (blocks, "channel_mixing", "a.mlp_dim, a.activation,", "a.mlp_dim,", vit_arguments_test),
    (km, "ViT", "qk_norm=qk_norm", "qk_norm=False", vit_arguments_test),
    (km, "ViT", "num_heads=num_heads", "num_heads=2", vit_arguments_test),
    (
        km,
        "MLPMixer",
        "epsilon=epsilon",
        "epsilon=1e-6",
        wiring.test_other_families_get_every_argument,
    ),
    (
        assemble,
        "head",
        "if a.num_prefix:",
        "if False:",
        assembly.test_gap_leaves_out_prefix_tokens,
    ),
    (
        assemble,
        "head",
        "if a.norm_after_pool:",
        "if False:",
        assembly.test_norm_after_pool_changes_output,
    ),
    (
        assemble,
        "distilled_head",
        "SelectToken(1,",
        "SelectToken(0,",
        assembly.test_distilled_logits_are_the_mean_of_two_heads,
    ),
    (
        blocks,
        "residual",
        "a.stochastic_depth_rate * i",
        "a.stochastic_depth_rate",
        assembly.test_stochastic_depth_grows_with_depth,
    ),
    (verify, "_checked_difference", "if not error <= tolerance:", "if False:", wrong_answer_test),
    (verify, "agreement", "np.mean", "np.max", agreement_test),
    (
        lowerings,
        "attention_with_weights",
        "softmax(logits)",
        "softmax(logits, axis=-2)",
        vit_export_test,
    ),
    (lowering, "temporary_attribute", "attributes.pop(name, None)", "pass", untouched_test),
    (serving, "computing_in", "layer.dtype_policy = original", "pass", untouched_test),
    (serving.Serving, "calibrated", "MAX_IMAGES - count", "MAX_IMAGES", calibration_test),
    (tensorflow_cpu, "mlp", "x, d_hidden, transpose_a", "x, d_hidden * 2, transpose_a", fast_mlp),
    (tensorflow_cpu, "batch_normalization", "(count - 1) / count", "1.0", fast_batch_norm),
    (softmax_attention, "_attention_weights", "** -0.5", "** -1.0", fast_attention),
    (softmax_attention, "_attention_by_image", "(d_weights - mean)", "d_weights", long_attention),
    (
        tensorflow_cpu,
        "depthwise_convolution",
        "(side - 1) // 2, side // 2",
        "side // 2, (side - 1) // 2",
        fast_even_block,
    ),
    (serving.Serving, "outputs", "reference_kernels()", "contextlib.nullcontext()", plain_test),
    (last_token, "read_only_by", "all(", "any(", whole_sequence_test),
    (residual.Residual, "call", "keras.remat(branch)", "branch", checkpointing_test),
    (
        norms.BatchNormalization,
        "update_moving_statistics",
        "batch * (1.0",
        "batch * 0 * (1.0",
        moving_averages_test,
    ),
    (optimizer, "clip_by_global_norm", "ops.maximum(norm, clip_norm)", "norm", adamw_test),
    (losses.Crossentropy, "call", "self.label_smoothing / classes", "0", smoothing_test),
    (rng, "fold_in", "tf.cast(data,", "tf.cast(data * 0,", draws_test),
    (epochs.EpochStream, "begin_epoch", "self.batches_left or", "", restart_test),
    (backup.Backup, "on_epoch_end", "epoch + 1", "epoch", ended_test),
    (onnx_target, "remove_stale_weights", "not in used", "in ()", weights_beside_test),
]


@functools.cache
def passes_as_it_is(test):
    test()


@pytest.mark.parametrize(
    ("owner", "method", "what", "becomes", "test"),
    MUTATIONS,
    ids=lambda part: getattr(part, "__name__", part),
)
def test_a_broken_layer_is_caught(owner, method, what, becomes, test, monkeypatch):
    passes_as_it_is(test)
    original = getattr(owner, method)
    source = textwrap.dedent(inspect.getsource(original))
    assert source.count(what) >= 1, "the line to break is gone: choose another"
    scope = dict(inspect.unwrap(original).__globals__)
    exec(source.replace(what, becomes), scope)
    monkeypatch.setattr(owner, method, scope[method])
    wrong = (AssertionError, ValueError, KeyError, pytest.fail.Exception)
    wrong += (RuntimeError, tensorflow.errors.OpError)  # what exports are refused with
    with pytest.raises(wrong):
        test()


def test_the_fused_path_and_the_plain_one_are_both_tested(monkeypatch):
    """Whichever of the two is broken, the attention test sees it."""
    fused = attention.ops.dot_product_attention
    with monkeypatch.context() as patch:
        patch.setattr(
            attention.ops,
            "dot_product_attention",
            lambda query, key, value, scale: fused(query, key, value, scale=2 * scale),
        )
        with pytest.raises(AssertionError):
            attention_test()
