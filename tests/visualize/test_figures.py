"""Figures show the arrays of `keras_mixers.probe` at the right positions."""

import dataclasses

import keras
import numpy as np
import pytest
from cases import case, random_weights
from matplotlib import pyplot
from PIL import Image

import keras_mixers as km
from keras_mixers import probe, visualize

IMAGES = case("vit").images(3)


@pytest.fixture(scope="module")
def models():
    """A model of each family, for 8 x 12 images of 2 x 3 patches (ConvMixer: 4 x 6)."""
    keras.utils.set_random_seed(0)
    names = ("vit", "vit_gap", "mlp_mixer", "conv_mixer")
    return {name: random_weights(case(name).make()) for name in names}


def in_bins(tenth, last, others=np.nan):
    """15 bins, of which those with the indices 10 and 14 have values."""
    return np.array([others] * 10 + [tenth] + [others] * 3 + [last])


EVALUATION = km.Evaluation(
    class_names=("cat", "dog $", "cow\nand more"),
    confusion=np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]),
    top5_accuracy=None,
    bin_counts=in_bins(2, 6, others=0),
    bin_probabilities=in_bins(0.7, 0.95),
    bin_accuracies=in_bins(0.5, 1.0),
    mistakes=(),
)


def trial(number, score, params, **values):
    """A trial with this score, or one that failed if it is None."""
    status = "infeasible" if score is None else "completed"
    return km.tuning.TrialResult(str(number), status, score, values, params, 8, None, "", None)


TRIALS = (
    trial(0, 0.99, 40_000, rate=1e-2, kind="a"),
    trial(1, 0.98, 900, rate=1e-3, kind="b"),
    trial(2, 0.9, 2_000, rate=1e-4),
    trial(3, 0.7, 800, rate=1e-3, kind="a"),
    trial(4, None, 50_000, rate=1e-3, kind="a"),
)
RESULTS = km.tuning.SearchResults("val_accuracy", "max", TRIALS)
INFO = km.data.Info(
    name="animals",
    input_shape=(4, 6, 3),
    class_names=("cat", "dog $", "cow\nand more"),
    num_train=3,
    num_validation=1,
    validation_source="test",
    preprocessing=km.Preprocessing((4, 6), mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.3)),
)
PIXELS = np.random.RandomState(0).uniform(size=(3, 4, 6, 3)).astype("float32")
SOFT = np.array([[0.3, 0.7, 0], [0, 0, 0], [1, 0.004, 1]], "float32")
BATCH = (PIXELS - (0.4, 0.5, 0.6)) / (0.1, 0.2, 0.3), SOFT, np.array([0.25, 1, 2])

LABELS = km.MultiLabelEvaluation(
    class_names=("cat", "dog $", "cow"),
    confusion=np.array([[[4, 1], [1, 2]], [[6, 0], [2, 0]], [[7, 1], [0, 0]]]),
    average_precision=np.array([0.8, 0.4, np.nan]),
    exact_match=0.5,
    bin_counts=in_bins(4, 20, others=0),
    bin_probabilities=in_bins(0.7, 0.95),
    bin_accuracies=in_bins(0.5, 1.0),
    false_positives=(),
    false_negatives=(),
)

# {function: (name of the model, call, number of colour bars)}
FIGURES = {
    "plot_attention": ("vit", lambda m: visualize.plot_attention(m, IMAGES[0], (1, 2)), 3),
    "plot_attention_distance": ("vit", lambda m: visualize.plot_attention_distance(m, IMAGES), 1),
    "plot_attention_matrix": ("vit", lambda m: visualize.plot_attention_matrix(m, IMAGES[0]), 2),
    "plot_attention_rollout": ("vit", lambda m: visualize.plot_attention_rollout(m, IMAGES[0]), 1),
    "plot_batch": ("vit", lambda m: visualize.plot_batch([BATCH], INFO), 0),
    "plot_average_precision": ("vit", lambda m: visualize.plot_average_precision(LABELS), 0),
    "plot_calibration": ("vit", lambda m: visualize.plot_calibration(EVALUATION), 0),
    "plot_channel_mixing_activations": (
        "mlp_mixer",
        lambda m: visualize.plot_channel_mixing_activations(m, IMAGES[0], units=3),
        3,
    ),
    "plot_confusion": ("vit", lambda m: visualize.plot_confusion(EVALUATION), 1),
    "plot_depthwise_kernels": ("conv_mixer", visualize.plot_depthwise_kernels, 1),
    "plot_feature_pca": ("vit", lambda m: visualize.plot_feature_pca(m, IMAGES), 0),
    "plot_features": ("vit", lambda m: visualize.plot_features(m, IMAGES[0], "norm"), 0),
    "plot_history": ("vit", lambda m: visualize.plot_history({"loss": [2.0, 1.0]}), 0),
    "plot_patch_filters": ("vit", visualize.plot_patch_filters, 1),
    "plot_position_similarity": ("vit", visualize.plot_position_similarity, 1),
    "plot_relevance": ("vit", lambda m: visualize.plot_relevance(m, IMAGES[0]), 1),
    "plot_search": ("vit", lambda m: visualize.plot_search(RESULTS, color="rate"), 1),
    "plot_token_mixing_activations": (
        "mlp_mixer",
        lambda m: visualize.plot_token_mixing_activations(m, IMAGES[0]),
        1,
    ),
    "plot_token_mixing_units": ("mlp_mixer", visualize.plot_token_mixing_units, 1),
}


def test_figures_table_has_every_function():
    assert set(FIGURES) == {name for name in visualize.__all__ if name.startswith("plot_")}


def colour_bars(figure):
    all_axes = [*figure.axes, *(child for axes in figure.axes for child in axes.child_axes)]
    return [axes for axes in all_axes if hasattr(axes, "_colorbar")]


def panels(figure):
    return [axes for axes in figure.axes if not hasattr(axes, "_colorbar")]


@pytest.mark.parametrize("name", FIGURES)
def test_figure_has_title_and_colour_bars(name, models, tmp_path):
    model, plot, bars = FIGURES[name]
    figure = plot(models[model])
    figure.savefig(tmp_path / "figure.png")
    assert not pyplot.get_fignums(), "pyplot would keep the figure in memory"
    assert (tmp_path / "figure.png").stat().st_size > 2000
    assert figure.get_suptitle() or all(axes.get_title() for axes in panels(figure))
    assert len(colour_bars(figure)) == bars
    for axes in panels(figure):
        has_label = axes.get_xlabel() or axes.get_ylabel()
        assert has_label or not axes.axison, "visible axes need labels"


def test_plot_confusion_shows_fractions_of_the_true_class_and_counts():
    axes = panels(visualize.plot_confusion(EVALUATION))[0]
    np.testing.assert_allclose(shown(axes), [[0.75, 0.25, 0], [0, 1, 0], [np.nan] * 3])
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "3", (1, 0): "1", (1, 1): "4"}, "(column, row)"
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["cat", "dog $", "cow and more"]


def test_plot_calibration_has_a_bar_for_each_bin():
    figure = visualize.plot_calibration(EVALUATION)
    left, right = figure.axes
    assert figure.get_suptitle() == "Calibration error 8.8%", "(2 * 0.2 + 6 * 0.05) / 8"
    heights = [bar.get_height() for bar in left.patches]
    assert len(heights) == 15
    assert (heights[10], heights[14], sum(heights)) == (0.5, 1.0, 1.5)
    assert left.patches[10].get_x() == pytest.approx(10 / 15)
    assert [bar.get_height() for bar in right.patches] == EVALUATION.bin_counts.tolist()


def test_plot_batch_shows_images_labels_and_weights():
    all_axes = panels(visualize.plot_batch([BATCH], INFO))
    titles = [axes.get_title().replace("\N{NO-BREAK SPACE}", " ") for axes in all_axes]
    assert titles == [
        "dog $ 0.7, cat 0.3\nweight 0.25",
        "none\nweight 1",
        "cat, cow and more\nweight 2",
    ]
    for axes, pixels in zip(all_axes, PIXELS, strict=True):
        np.testing.assert_allclose(shown(axes), pixels, atol=1e-6)
    (axes,) = panels(visualize.plot_batch([(BATCH[0], np.array([2, 0, 1]))], INFO, count=1))
    assert axes.get_title() == "cow and more"


def test_plot_batch_does_not_move_the_dataset():
    """Also if the epoch has one batch, which ends with it, and if a prefetch reads all batches."""
    images = np.arange(8, dtype="uint8")[:, None, None, None] + np.zeros((8, 2, 2, 1), "uint8")
    data = images, np.arange(8)

    def labels_of(train):
        return np.concatenate([labels for _, labels in train.as_numpy_iterator()]).tolist()

    for batch_size, change in ((8, lambda train: train), (3, lambda train: train.prefetch(9))):
        arguments = {"batch_size": batch_size, "validation": data, "start": (2, 0)}
        train, _, info = km.data.prepare(data, **arguments)
        figure = visualize.plot_batch(change(train), info)
        assert train.keras_mixers_position() == (2, 0)
        titles = [axes.get_title() for axes in panels(figure)]
        first, second = labels_of(train), labels_of(train)
        assert titles == [str(label) for label in first[:batch_size]]
        assert first != second


@pytest.mark.parametrize(
    ("dataset", "info", "message"),
    [
        (3, INFO, "`dataset` must yield batches.*3"),
        ([], INFO, "`dataset` must yield batches.*none"),
        ([(PIXELS,)], INFO, "`dataset` must yield batches.*a tuple"),
        ([(PIXELS[..., 0], SOFT)], INFO, r"`dataset` must have images.*\(4, 6, 3\).*\(3, 4, 6\)"),
        ([(PIXELS, np.array([0, 1, 3]))], INFO, "`dataset` must have labels of the 3.*from 0 to 3"),
        ([(PIXELS, SOFT[:, :2])], INFO, r"`dataset` must have labels.*\(3, 2\)"),
        ([BATCH], ["cat", "dog", "cow"], "`info` must be the Info"),
    ],
)
def test_plot_batch_raises_on_other_data(dataset, info, message):
    with pytest.raises((ValueError, TypeError), match=message):
        visualize.plot_batch(dataset, info)


def test_plot_calibration_names_the_pairs_of_several_labels():
    left, right = visualize.plot_calibration(LABELS).axes
    assert left.get_xlabel() == "probability of a label"
    assert (left.get_ylabel(), right.get_ylabel()) == (
        "fraction with the label",
        "images and labels",
    )
    assert [bar.get_height() for bar in right.patches] == LABELS.bin_counts.tolist()


def test_plot_average_precision_has_the_lowest_label_at_the_top():
    axes = visualize.plot_average_precision(LABELS).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["dog $ (2)", "cat (3)", "cow (0)"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the first name is at the top"
    assert [bar.get_width() for bar in axes.patches] == [0.4, 0.8, 0]
    precision, recall = (line.get_xdata() for line in axes.lines)
    np.testing.assert_allclose(precision, [np.nan, 2 / 3, 0])
    np.testing.assert_allclose(recall, [0, 2 / 3, np.nan])
    many = dataclasses.replace(
        LABELS,
        class_names=("worn on the legs or feet",) * 60,
        confusion=np.ones((60, 2, 2), int),
        average_precision=np.arange(60) / 60,
    )
    figure = visualize.plot_average_precision(many)
    assert [bar.get_width() for bar in figure.axes[0].patches] == (np.arange(40) / 60).tolist()
    assert figure.axes[0].get_yticklabels()[0].get_text() == "worn on the legs... (2)"
    assert figure.get_suptitle() == "Mean average precision 49.2% (bars: the 40 lowest labels)"


@pytest.mark.parametrize(
    ("plot", "evaluation"),
    [
        (visualize.plot_confusion, LABELS),
        (visualize.plot_average_precision, EVALUATION),
        (visualize.plot_calibration, [1]),
    ],
)
def test_evaluation_figures_refuse_other_values(plot, evaluation):
    with pytest.raises(TypeError, match="`evaluation` must be the return value of `km.evaluate`"):
        plot(evaluation)


def shown(axes):
    return np.ma.filled(axes.images[-1].get_array(), np.nan)


def test_plot_attention_shows_each_head(models):
    model, image = models["vit"], IMAGES[0]
    figure = visualize.plot_attention(model, image, query=(1, 0), layer=0)
    weights = km.attention_maps(model, IMAGES[:1], 0)["block_0_attention"][0]
    rows = weights[:, 1 + 3, 1:].reshape(2, 2, 3)
    picture, mean, *heads = panels(figure)
    np.testing.assert_allclose(shown(mean), rows.mean(axis=0))
    for axes, row in zip(heads, rows, strict=True):
        np.testing.assert_allclose(shown(axes), row)
    assert "block_0_attention" in figure.get_suptitle()
    for axes in (picture, mean, *heads):
        assert all(tuple(drawn.get_extent()) == (0, 12, 8, 0) for drawn in axes.images)
        (frame,) = axes.patches
        assert (frame.get_xy(), frame.get_width(), frame.get_height()) == ((0, 4), 4, 4)
    grey = image.mean(axis=-1)
    stretched = (grey - image.min()) / (image.max() - image.min())
    np.testing.assert_allclose(shown(picture)[..., 0], stretched, atol=1e-6)


def test_plot_attention_defaults_to_the_class_token(models):
    figure = visualize.plot_attention(models["vit"], IMAGES[0])
    weights = km.attention_maps(models["vit"], IMAGES[:1], -1)["block_1_attention"][0]
    expected = weights.mean(axis=0)[0, 1:].reshape(2, 3)
    np.testing.assert_allclose(shown(panels(figure)[1]), expected)
    assert "class token" in figure.get_suptitle()
    assert not panels(figure)[0].patches
    for model in (models["vit_gap"], case("vit_gap").make(num_registers=2)):
        with pytest.raises(ValueError, match="`query` must be .* without a class token"):
            visualize.plot_attention(model, IMAGES[0])


def test_rollout_covers_a_picture_of_any_size(models):
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), "uint8")
    figure = visualize.plot_attention_rollout(models["vit"], IMAGES[0], picture=picture)
    first, second = panels(figure)
    np.testing.assert_allclose(shown(first), picture / 255)
    assert all(tuple(drawn.get_extent()) == (0, 60, 40, 0) for drawn in second.images)
    expected = km.attention_rollout(models["vit"], IMAGES[:1])[0]
    np.testing.assert_allclose(shown(second), expected)


def test_background_is_the_input_of_patch_embed(models):
    inside = keras.Sequential(
        [
            keras.Input((None, None, 2)),
            keras.layers.Rescaling(2.0, -1.0),
            keras.layers.CenterCrop(8, 12),
            models["vit"],
        ]
    )
    image = np.random.default_rng(0).uniform(size=(10, 16, 2))
    first, second = panels(visualize.plot_relevance(inside, image, 1))
    crop = 2 * image[1:9, 2:14] - 1
    expected = (crop.mean(axis=-1) - crop.min()) / (crop.max() - crop.min())
    np.testing.assert_allclose(shown(first)[..., 1], expected, atol=1e-6)
    expected = probe.relevance(inside, image[None], 1)[0]
    np.testing.assert_allclose(shown(second), expected, atol=1e-7)


def test_attention_matrix_shows_each_head(models):
    figure = visualize.plot_attention_matrix(models["vit"], IMAGES[0], "block_0_attention")
    weights = km.attention_maps(models["vit"], IMAGES[:1], 0)["block_0_attention"][0]
    for axes, head in zip(panels(figure), weights, strict=True):
        np.testing.assert_allclose(shown(axes), head)
        clipped = head > axes.images[0].get_clim()[1]
        assert 0 < clipped.sum() <= 0.01 * clipped.size + 1
        lines = [line.get_xydata()[0] for line in axes.lines]  # (0, y) and (x, 0)
        assert np.ravel(lines).tolist() == [0, 0.5, 0.5, 0, 0, 3.5, 3.5, 0]
    assert "between 1 prefix token and 2 x 3 patches" in figure.get_suptitle()


def test_relevance_title_names_the_class(models):
    names = [f"animal {i}" for i in range(5)]
    best = int(np.argmax(models["vit"](IMAGES[:1])))
    figure = visualize.plot_relevance(models["vit"], IMAGES[0], class_names=names)
    assert figure.get_suptitle() == f"Relevance for animal {best}"
    assert visualize.plot_relevance(models["vit"], IMAGES[0], 3).get_suptitle().endswith("class 3")
    with pytest.raises(ValueError, match="`class_names` must be 5 strings"):
        visualize.plot_relevance(models["vit"], IMAGES[0], class_names=["one"])


def test_attention_distance_draws_a_dot_per_head(models):
    (axes,) = panels(visualize.plot_attention_distance(models["vit"], IMAGES))
    distances = probe.attention_distance(models["vit"], IMAGES).values()
    for depth, (dots, expected) in enumerate(zip(axes.collections, distances, strict=True)):
        assert (dots.get_cmap().N, dots.get_clim()) == (2, (-0.5, 1.5)), "one colour for a head"
        np.testing.assert_allclose(dots.get_offsets()[:, 0], [depth - 0.25, depth + 0.25])
        np.testing.assert_allclose(dots.get_offsets()[:, 1], expected.mean(axis=0), rtol=1e-6)


def tile(sheet, i, height, width):
    """The i-th small map of a sheet, whose maps have gaps of one pixel."""
    columns = (sheet.shape[1] + 1) // (width + 1)
    top, left = i // columns * (height + 1), i % columns * (width + 1)
    return sheet[top : top + height, left : left + width]


def test_token_mixing_units_show_columns_of_fc1(models):
    (axes,) = panels(visualize.plot_token_mixing_units(models["mlp_mixer"], 1))
    kernel = models["mlp_mixer"].get_layer("block_1_token_mixing").mixer.fc1.kernel
    for unit in range(10):
        column = np.array(kernel)[:, unit].reshape(2, 3)
        np.testing.assert_array_equal(tile(shown(axes), unit, 2, 3), column)
    assert axes.images[0].get_clim() == pytest.approx((-np.abs(kernel).max(), np.abs(kernel).max()))


def test_units_figure_shows_the_strongest(models):
    (axes,) = panels(visualize.plot_token_mixing_units(models["mlp_mixer"], 0, units=4))
    units = km.token_mixing_units(models["mlp_mixer"], 0)["block_0_token_mixing"]
    strongest = sorted(sorted(range(10), key=lambda u: -np.linalg.norm(units[u]))[:4])
    for i, unit in enumerate(strongest):
        np.testing.assert_array_equal(tile(shown(axes), i, 2, 3), units[unit])
    assert "4 of 10, those with the largest norm" in axes.get_title()
    with pytest.raises(ValueError, match="`units` must be an integer from 1"):
        visualize.plot_token_mixing_units(models["mlp_mixer"], units=0)
    with pytest.raises(ValueError, match="`kernels` must be an integer from 1"):
        visualize.plot_depthwise_kernels(models["conv_mixer"], kernels=0)


def test_figures_show_kernels_and_patch_filters(models):
    (axes,) = panels(visualize.plot_depthwise_kernels(models["conv_mixer"], -1))
    kernels = probe.depthwise_kernels(models["conv_mixer"], -1)["block_1_conv_mixer"]
    np.testing.assert_array_equal(tile(shown(axes), 7, 3, 3), kernels[7])
    (axes,) = panels(visualize.plot_patch_filters(models["vit"]))
    filters = probe.patch_filters(models["vit"])
    np.testing.assert_allclose(tile(shown(axes), 5, 4, 4), filters[5].mean(axis=-1))
    in_colour = random_weights(case("vit").make(input_shape=(8, 12, 3)))
    figure = visualize.plot_patch_filters(in_colour)
    filters = probe.patch_filters(in_colour)
    expected = filters[5] / (2 * np.abs(filters).max()) + 0.5
    np.testing.assert_allclose(tile(shown(panels(figure)[0]), 5, 4, 4), expected, atol=1e-6)
    assert not colour_bars(figure), "a colour bar cannot explain RGB filters"


def test_position_similarity_shows_a_map_per_patch(models):
    (axes,) = panels(visualize.plot_position_similarity(models["vit"]))
    similarity = probe.position_similarity(models["vit"])
    for row, column in np.ndindex(2, 3):
        found = shown(axes)[3 * row : 3 * row + 2, 4 * column : 4 * column + 3]
        np.testing.assert_array_equal(found, similarity[row, column])
        dot = axes.collections[0].get_offsets()[3 * row + column]
        assert dot.tolist() == [4 * column + column, 3 * row + row], "the patch itself"
    assert axes.images[0].get_clim() == (similarity.min(), 1)


def test_figures_show_activations(models):
    model = models["mlp_mixer"]
    (axes,) = panels(visualize.plot_token_mixing_activations(model, IMAGES[0], 1))
    expected = probe.token_mixing_activations(model, IMAGES[:1], 1)["block_1_token_mixing"][0]
    np.testing.assert_array_equal(shown(axes), expected)
    low, high = axes.images[0].get_clim()
    assert -low == high == np.abs(expected).max(), "the middle colour is 0"
    _, *maps = panels(visualize.plot_channel_mixing_activations(model, IMAGES[0], 1, units=3))
    (hidden,) = probe.channel_mixing_activations(model, IMAGES[:1], 1).values()
    for axes in maps:
        unit = int(axes.get_title().removeprefix("unit "))
        np.testing.assert_array_equal(shown(axes), hidden[0, :, unit].reshape(2, 3))


def test_features_of_equal_patches_have_equal_colours():
    model = case("vit_gap").make(input_shape=(16, 16, 1), depth=1)
    # Remove the positions, because they make equal patches differ.
    model.get_layer("position_embedding").table[:] = 0
    image = np.zeros((16, 16, 1))
    image[4:8, 4:12] = np.random.default_rng(0).normal(size=(4, 4, 1)).repeat(2, axis=1)
    image[4:8, 8:12] = image[4:8, 4:8]
    _, second = panels(visualize.plot_features(model, image))
    colours = shown(second)
    assert colours.shape == (4, 4, 3)
    np.testing.assert_allclose(colours[1, 1], colours[1, 2], atol=1e-5)
    np.testing.assert_allclose(colours[0, 0], colours[3, 3], atol=1e-5)
    assert np.abs(colours[0, 0] - colours[1, 1]).max() > 0.1
    with pytest.raises(ValueError, match=r"output is tokens.*layer='head', whose output is \(5,\)"):
        visualize.plot_features(model, image, "head")
    scaled = keras.Sequential([keras.layers.Rescaling(1.0, name="scaled"), model])
    scaled.build((None, 16, 16, 1))
    with pytest.raises(ValueError, match=r"their grid of 4 x 4.*output is \(16, 16, 1\)"):
        visualize.plot_features(scaled, image, "scaled")


def test_feature_pca_is_below_each_image(models):
    model = models["vit"]
    images = np.concatenate([IMAGES, IMAGES[::-1], 2 * IMAGES])[:7]  # more than one row of images
    pictures = np.random.default_rng(0).uniform(size=(7, 16, 24, 3))
    figure = visualize.plot_feature_pca(model, images, 0, foreground=True, pictures=pictures)
    assert figure.get_suptitle() == "block 0: features of the foreground"
    colours = np.nan_to_num(probe.feature_pca(model, images, 0, foreground=True))
    first, second = panels(figure)[:8], panels(figure)[8:]
    for i, (above, below) in enumerate([*zip(first[:4], first[4:], strict=True)]):
        assert above.get_title() == f"image {i}"
        np.testing.assert_array_equal(shown(above), pictures[i])
        np.testing.assert_allclose(shown(below), colours[i], atol=1e-6)
    for i, (above, below) in enumerate(zip(second[:3], second[3:], strict=True), 4):
        np.testing.assert_array_equal(shown(above), pictures[i])
        np.testing.assert_allclose(shown(below), colours[i], atol=1e-6)
    with pytest.raises(ValueError, match="`pictures` must be 3 pictures.*Received: 7"):
        visualize.plot_feature_pca(model, IMAGES, pictures=pictures)


def test_history_shows_training_and_validation():
    curves = {"loss": [2.0, 1.0], "accuracy": [0.1, 0.5], "val_loss": [2.5, 1.5]}
    history = keras.callbacks.History()
    history.history = curves
    for each in (curves, history):
        loss, accuracy = visualize.plot_history(each).axes
        assert [axes.get_title() for axes in (loss, accuracy)] == ["Loss", "Accuracy"]
        lines = {line.get_label(): list(line.get_ydata()) for line in loss.lines}
        assert lines == {"training": [2.0, 1.0], "validation": [2.5, 1.5]}
        assert list(loss.lines[0].get_xdata()) == [1, 2]
    for empty in ({}, {"loss": []}, [1, 2]):
        with pytest.raises(ValueError, match="`history` must be the return value of `model.fit`"):
            visualize.plot_history(empty)


def points(axes):
    """All points of an axes: `[(x, y)]`."""
    return [tuple(map(float, xy)) for part in axes.collections for xy in part.get_offsets()]


def test_search_figure_shows_each_trial_and_the_front():
    figure = visualize.plot_search(RESULTS, color="kind", label="rate")
    (axes,) = figure.axes
    # The error in % is the height, because the errors differ by more than a factor of five.
    expected = [(40_000, 1.0), (900, 2.0), (2_000, 10.0), (800, 30.0), (50_000, 0.03)]
    np.testing.assert_allclose(sorted(points(axes)), sorted(expected))
    (front,) = axes.lines
    np.testing.assert_allclose(front.get_xdata(), [800, 900, 40_000, 50_000])
    np.testing.assert_allclose(front.get_ydata(), [30, 2, 1, 1])
    assert [text.get_text() for text in axes.texts] == ["0.001", "0.001", "0.01"]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["best up to this cost", "no kind", "a", "b", "no score"]
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert axes.yaxis_inverted()
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [
        "99",
        "98",
        "95",
        "90",
        "80",
        "60",
    ]


def test_search_figure_shows_texts_and_losses():
    losses = km.tuning.SearchResults("val_loss", "min", TRIALS[::-1])
    (axes,) = visualize.plot_search(losses, "kind").axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["a", "b"]
    assert sorted(points(axes)) == [(0, 0.03), (0, 0.7), (0, 0.99), (1, 0.98)]
    assert axes.get_title() == "4 trials (1 without kind)"
    (axes,) = visualize.plot_search(losses).axes
    assert list(axes.lines[0].get_ydata()) == [0.7, 0.7], "the smallest loss is the cheapest"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"results": 3}, "`results` must be the return value of `km.tuning.results`"),
        ({"x": "size"}, "`x` must be one of .*'size'"),
        ({"color": "kinds"}, "`color` must be one of .*Did you mean 'kind'"),
        ({"x": "latency_ms"}, "`x` must be known for a trial"),
    ],
)
def test_search_figure_refuses_other_values(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        visualize.plot_search(**{"results": RESULTS, **arguments})


def test_search_figure_refuses_too_many_colours():
    trials = tuple(trial(i, 0.5, i + 1, kind=f"kind {i}") for i in range(11))
    results = km.tuning.SearchResults("val_accuracy", "max", trials)
    with pytest.raises(ValueError, match="`color` must have at most 10 different texts.* 11"):
        visualize.plot_search(results, color="kind")


def test_animation_has_a_frame_per_patch(models, tmp_path):
    path = visualize.animate_attention(
        models["vit"], IMAGES[0], tmp_path / "attention.gif", 0, head=1
    )
    assert [file.name for file in tmp_path.iterdir()] == ["attention.gif"]
    with Image.open(path) as animation:
        assert animation.n_frames == 6
        assert animation.info["duration"] == 100
        frames = []
        for i in range(6):
            animation.seek(i)
            frames.append(np.array(animation.convert("RGB")).astype(int))
    framed = [np.argwhere(np.abs(frame - (220, 20, 60)).sum(axis=-1) < 60) for frame in frames]
    rows, columns = np.array([pixels.mean(axis=0) for pixels in framed]).reshape(2, 3, 2).T
    assert (np.diff(columns.T, axis=1) > 20).all(), "the query must move along a row"
    assert (np.diff(rows.T, axis=0) > 20).all(), "the query must then move down"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": "attention.mp4"}, "`path` must end in '.gif'"),
        ({"head": 2}, "`head` must be an integer from 0 to 1. Received: head=2"),
        ({"head": True}, "`head` must be an integer from 0 to 1. Received: head=True"),
        ({"layer": 2}, "`layers` must be names or numbers"),
        ({"layer": [0]}, r"`layer` must be a name or a number. Received: layer=\[0\]"),
        ({"layer": None}, "`layer` must be a name or a number. Received: layer=None"),
        ({"frames_per_second": 0}, "`frames_per_second` must be an integer from 1 to 50"),
        ({"image": IMAGES}, r"`image` must be .*\(8, 12, 2\).*\(3, 8, 12, 2\); `images\[0\]`"),
        ({"image": IMAGES[0][:4]}, r"`image` must be .*\(8, 12, 2\).*\(4, 12, 2\)"),
        ({"picture": np.zeros(3)}, r"`picture` must be of shape \(H, W\)"),
    ],
)
def test_animation_error_leaves_no_file(models, tmp_path, arguments, message):
    arguments = {"image": IMAGES[0], "path": "attention.gif", **arguments}
    arguments["path"] = tmp_path / arguments["path"]
    with pytest.raises((ValueError, TypeError), match=message):
        visualize.animate_attention(models["vit"], **arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "query", [(2, 0), (0, 3), (0, -1), 5, (1.0, 2), (True, 0), (0,), "01", (0, 1, 2)]
)
def test_plot_attention_refuses_a_query_outside_the_grid(models, query):
    with pytest.raises(ValueError, match="`query` must be .* 2 x 3 patches"):
        visualize.plot_attention(models["vit"], IMAGES[0], query)
