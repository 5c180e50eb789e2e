"""Names of the user in figures and in the explorer's page, whatever characters they have."""

import json
import re

import keras
import numpy as np
import pytest
from cases import case
from matplotlib import rc_context

import keras_mixers as km
from keras_mixers import layers, visualize

NAMES = [
    "a $\\frac{x$ b",
    "$",
    "cost $5 or $6",
    "\\$ x_1^2",
    "a\nb\0c",
    "\udc80",
    "<b>&\"'</script>",
]
IMAGE = np.random.default_rng(0).normal(size=(4, 6, 2)).astype("float32")


def classifier(layer_name):
    images = keras.Input((4, 6, 2))
    x = layers.PatchEmbed(8, 2)(images)
    x = layers.Residual(layers.MultiHeadSelfAttention(2), name=layer_name)(x)
    x = layers.Residual(layers.TokenMixing(4), name=f"{layer_name} mixing")(x)
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(images, keras.layers.Dense(len(NAMES))(x))


@pytest.mark.parametrize("name", ["cost $5_or $6^", "$\\bad{$", "x" * 300])
def test_figures_draw_any_layer_name(name, tmp_path):
    model = classifier(name)
    figures = [
        visualize.plot_attention(model, IMAGE, (0, 0)),
        visualize.plot_attention_matrix(model, IMAGE),
        visualize.plot_token_mixing_units(model),
        visualize.plot_token_mixing_activations(model, IMAGE),
        visualize.plot_features(model, IMAGE, name),
    ]
    for figure in figures:
        figure.savefig(tmp_path / "figure.png")
        titles = [figure.get_suptitle(), *(axes.get_title() for axes in figure.axes)]
        assert any(name[:50] in title for title in titles)
    visualize.animate_attention(model, IMAGE, tmp_path / "attention.gif")


@pytest.mark.parametrize("usetex", [False, True])
@pytest.mark.parametrize("number", range(len(NAMES)))
def test_figures_draw_any_class_name(number, usetex, tmp_path):
    model = classifier("attention")
    with rc_context({"text.usetex": usetex}):
        figure = visualize.plot_relevance(model, IMAGE, number, [0], class_names=NAMES)
        if not usetex:  # because the numbers at the colour bar need LaTeX
            figure.savefig(tmp_path / "figure.png")
    assert not figure._suptitle.get_usetex()
    if "\n" not in NAMES[number] and "\udc80" not in NAMES[number]:
        assert figure.get_suptitle() == f"Relevance for {NAMES[number]}"


def test_history_draws_any_metric_name(tmp_path):
    figure = visualize.plot_history({name.replace("\udc80", "?"): [1.0, 2.0] for name in NAMES})
    figure.savefig(tmp_path / "figure.png")


def test_explorer_holds_any_class_name(tmp_path):
    page = visualize.attention_explorer(
        classifier("<b>$"), IMAGE[None], tmp_path / "page.html", class_names=NAMES
    ).read_text()
    (data,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', page)
    (image,) = json.loads(data)["images"]
    assert {name for name, _ in image["probabilities"]} <= set(NAMES)


@pytest.mark.parametrize(
    "function",
    [
        visualize.plot_attention_matrix,
        visualize.plot_attention_rollout,
        visualize.plot_features,
        visualize.plot_relevance,
        visualize.plot_channel_mixing_activations,
    ],
)
def test_functions_of_one_image_name_a_batch(function):
    with pytest.raises(
        ValueError, match=r"`image` .*\(8, 12, 2\), one.*`images\[0\]` is one image"
    ):
        function(case("vit").make(), case("vit").images(2))


@pytest.mark.parametrize(
    "function",
    [
        km.attention_maps,
        km.attention_rollout,
        visualize.plot_attention_distance,
        visualize.plot_feature_pca,
    ],
)
def test_functions_of_a_batch_name_one_image(function):
    with pytest.raises(ValueError, match=r"`images` .*\(N, 8, 12, 2\).*`image\[None\]` is a batch"):
        function(case("vit").make(), case("vit").images(1)[0])
