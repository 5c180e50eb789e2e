"""The explorer in a browser shows the values of the probe's arrays."""

import re

import keras
import numpy as np
import pytest
from cases import case, random_weights

import keras_mixers as km
from keras_mixers.visualize import explorer, views

HYBRID = {"input_shape": (8, 12, 2), "num_classes": 5, **case("hybrid_CA").arguments}
NAMES = ["cat", "dog", "</script><b>fox", "hen", "owl"]


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    """A model with a class token, three images, and the path of its page."""
    keras.utils.set_random_seed(0)
    model, images = random_weights(case("vit").make()), case("vit").images(3)
    path = tmp_path_factory.mktemp("vit") / "explorer.html"
    return model, images, km.visualize.attention_explorer(model, images, path, class_names=NAMES)


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory):
    """A model with each kind of mixer that the page can show, and the path of its page."""
    keras.utils.set_random_seed(0)
    model = random_weights(case("hybrid_CA").builder("CMA", **HYBRID))
    path = tmp_path_factory.mktemp("hybrid") / "explorer.html"
    return model, km.visualize.attention_explorer(model, case("vit").images(2), path)


class Page:
    """A page in the browser, with the actions of a user."""

    def __init__(self, page):
        self.page = page

    def patch(self, row, column, rows=2, columns=3):
        """The position of a patch's centre on the screen."""
        box = self.page.locator("#heat").bounding_box()
        x = box["x"] + box["width"] * (column + 0.5) / columns
        return x, box["y"] + box["height"] * (row + 0.5) / rows

    def hover(self, row, column, **grid):
        self.page.mouse.move(*self.patch(row, column, **grid))

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def click(self, name):
        self.page.get_by_role("button", name=name, exact=True).click()

    def layer(self, name):
        self.page.get_by_label("Layer", exact=True).select_option(label=name)

    def reading(self):
        return self.page.locator("#reading").inner_text()

    def numbers(self):
        return [float(x) for x in re.findall(r": (-?\d+\.\d+(?:e-?\d+)?)", self.reading())]

    def colour(self, row, column, rows=2, columns=3):
        """(red, green, blue, opacity) at the centre of a patch on the map, inside its frame."""
        return self.page.evaluate(
            """([y, x]) => {
              const heat = document.getElementById("heat");
              const [x1, y1] = [Math.floor(x * heat.width), Math.floor(y * heat.height)];
              return [...heat.getContext("2d").getImageData(x1, y1, 1, 1).data];
            }""",
            [(row + 0.5) / rows, (column + 0.5) / columns],
        )


@pytest.fixture
def open_page(open_in_browser):
    return lambda path, **device: Page(open_in_browser(path, **device))


def weights_of(model, images, layer):
    return km.attention_maps(model, images, layer)[layer]


def assert_reads(page, weights, token, query):
    """The page shows three weights of a row: the largest, its own and the class token's."""
    row = weights[token]
    expected = [row.max(), row[token], row[0]]
    np.testing.assert_allclose(page.numbers(), expected, rtol=0, atol=0.51e-4)
    best = int(row.argmax())
    name = f"patch ({(best - 1) // 3}, {(best - 1) % 3})" if best else "class token"
    assert page.reading().startswith(f"Patch {query} attends most to {name}:")


def assert_coloured(page, row):
    """Each patch has the colour of its weight, at the opacity that the page starts with."""
    from matplotlib import colormaps

    for patch, weight in np.ndenumerate(row[1:].reshape(2, 3)):
        expected = np.array(colormaps["viridis"](weight / row[1:].max())[:3]) * 255
        *found, opacity = page.colour(*patch)
        assert opacity == pytest.approx(0.7 * 255, abs=1)
        np.testing.assert_allclose(found, expected, atol=4, err_msg=f"{patch}")


def test_page_shows_weights_under_the_pointer(vit, open_page):
    model, images, path = vit
    page = open_page(path)
    weights = weights_of(model, images, "block_0_attention")
    page.hover(1, 2)
    assert_reads(page, weights[0].mean(axis=0), 6, "(1, 2)")
    assert_coloured(page, weights[0].mean(axis=0)[6])
    page.click("1")
    page.hover(0, 1)
    assert_reads(page, weights[0, 1], 2, "(0, 1)")
    assert_coloured(page, weights[0, 1, 2])
    page.layer("block_1_attention")
    page.click("image 2")
    page.hover(0, 0)
    weights = weights_of(model, images, "block_1_attention")
    assert_reads(page, weights[2, 1], 1, "(0, 0)")
    assert_coloured(page, weights[2, 1, 1])


def test_page_holds_the_query(vit, open_page):
    model, images, path = vit
    page = open_page(path)
    page.hover(0, 2)
    page.page.mouse.click(*page.patch(0, 2))
    page.hover(1, 0)
    weights = weights_of(model, images, "block_0_attention")[0].mean(axis=0)
    assert "Under the pointer, patch (1, 0):" in page.reading()
    assert page.reading().startswith("Patch (0, 2) attends")
    assert page.numbers()[-1] == pytest.approx(weights[3, 4], abs=0.51e-4)
    page.click("class token")
    assert page.reading().startswith("Class token attends most to")
    assert page.numbers()[1] == pytest.approx(weights[0, 0], abs=0.51e-4)


def test_page_works_by_keyboard(vit, open_page):
    model, images, path = vit
    page = open_page(path)
    page.press("Tab", "n", "j", "0", "ArrowUp", "ArrowLeft", "ArrowLeft", "ArrowDown")
    weights = weights_of(model, images, "block_1_attention")[1, 0]
    assert_reads(page, weights, 4, "(1, 0)")
    page.press("m")
    mean = weights_of(model, images, "block_1_attention")[1].mean(axis=0)
    assert_reads(page, mean, 4, "(1, 0)")
    page.press("Enter", "ArrowUp", "ArrowRight")
    assert page.reading().startswith("Patch (1, 0) attends")
    assert "Under the pointer, patch (0, 1):" in page.reading()
    assert page.numbers()[-1] == pytest.approx(mean[4, 2], abs=0.51e-4)
    page.press("Enter", "c")
    assert page.reading().startswith("Class token")
    page.press("j", "ArrowRight", "ArrowDown")
    (shares,) = km.attention_rollout(model, images[1:2])
    assert "output. Patch (1, 1):" in page.reading()
    assert page.numbers() == [pytest.approx(shares[1, 1], abs=0.51e-4)]


def test_page_shows_rollout_relevance_and_prediction(vit, open_page):
    model, images, path = vit
    page = open_page(path)
    best = NAMES[int(np.argmax(model(images[:1])))]
    for view, text, maps in [
        (
            "All layers: rollout",
            "How much each patch contributes to the output.",
            km.attention_rollout(model, images),
        ),
        (
            "All layers: relevance",
            f"How much each patch supports {best}.",
            km.probe.relevance(model, images),
        ),
    ]:
        page.layer(view)
        page.hover(1, 1)
        assert page.reading().startswith(f"{text} Patch (1, 1): ")
        assert page.numbers() == [pytest.approx(maps[0, 1, 1], abs=0.51e-4)]
    shares = np.array(keras.ops.softmax(model(images)))[0]
    lines = page.page.locator("#probabilities li").all_inner_texts()
    order = np.argsort(-shares)
    assert [line.split("\n")[0] for line in lines] == [NAMES[i] for i in order]
    found = [float(line.split()[-2]) for line in lines]
    np.testing.assert_allclose(found, 100 * shares[order], atol=0.51e-2)


def test_page_shows_hidden_units_and_kernels(hybrid, open_page):
    model, path = hybrid
    page = open_page(path)
    options = page.page.get_by_label("Layer", exact=True).locator("option").all_inner_texts()
    assert options == ["block_0_conv_mixer", "block_1_token_mixing", "block_2_attention"]

    page.click("kernel 5")
    page.hover(2, 0, rows=3, columns=3)
    kernel = km.probe.depthwise_kernels(model, 0)["block_0_conv_mixer"][5]
    assert page.reading().startswith("Kernel 5, one weight per neighbour. Weight (2, 0): ")
    assert page.numbers() == [pytest.approx(kernel[2, 0], abs=0.51e-4)]

    page.layer("block_1_token_mixing")
    page.click("hidden unit 7")
    page.hover(1, 2)
    unit = km.token_mixing_units(model, 0)["block_1_token_mixing"][7]
    assert page.reading().startswith("Hidden unit 7, one weight per patch. Patch (1, 2): ")
    assert page.numbers() == [pytest.approx(unit[1, 2], abs=0.51e-4)]

    page.page.mouse.click(*page.patch(1, 1))  # has no effect, because this view has no query
    page.layer("block_2_attention")
    for query in [(0, 0), (1, 2)]:
        page.hover(*query)
        assert page.reading().startswith(f"Patch {query} attends most to")


def test_page_works_on_a_phone(vit, open_page):
    model, images, path = vit
    page = open_page(path, has_touch=True, is_mobile=True)
    page.page.set_viewport_size({"width": 360, "height": 740})
    page.page.touchscreen.tap(*page.patch(1, 1))
    weights = weights_of(model, images, "block_0_attention")[0].mean(axis=0)
    assert_reads(page, weights, 5, "(1, 1)")
    page.layer("All layers: rollout")
    page.page.touchscreen.tap(*page.patch(0, 2))
    (shares, *_) = km.attention_rollout(model, images)
    assert page.numbers() == [pytest.approx(shares[0, 2], abs=0.51e-4)], (
        "a tapped patch stays selected"
    )
    assert page.page.evaluate("document.documentElement.scrollWidth") == 360
    for button in page.page.get_by_role("button").all():
        box = button.bounding_box()
        assert min(box["width"], box["height"]) >= 36, "buttons must be large enough for a finger"


def test_page_is_one_file_without_network(vit):
    *_, path = vit
    text = path.read_text()
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)|url\(|@import|fetch\(|https?:""", text)
    assert "default-src 'none'" in text
    assert "</script><b>fox" not in text, "a class name must not end the script"


def test_page_shows_coarsened_patches(browser, open_page, tmp_path, monkeypatch):
    """3 x 5 patches in cells of 2 x 2; the last row and column of cells cover fewer patches."""
    monkeypatch.setattr(views, "MOST_BYTES", 500)
    keras.utils.set_random_seed(0)
    model = random_weights(case("vit_gap").make(input_shape=(12, 20, 2)))
    image = np.random.default_rng(0).normal(size=(1, 12, 20, 2)).astype("float32")
    picture = np.zeros((300, 500, 3), "uint8")
    path = tmp_path / "explorer.html"
    page = open_page(km.visualize.attention_explorer(model, image, path, pictures=[picture]))
    maps = weights_of(model, image, "block_0_attention").mean(axis=1)
    (weights,) = views.coarsen(maps[:, None], km.probe.token_grid(model), 2)[:, 0]
    page.hover(2, 0, rows=3, columns=5)
    assert page.reading().startswith("Patches (2, 0 to 1) attends most to")
    assert page.numbers() == [
        pytest.approx(weights[3].max(), abs=0.51e-4),
        pytest.approx(weights[3, 3], abs=0.51e-4),
    ]
    page.hover(2, 4, rows=3, columns=5)
    assert page.reading().startswith("Patch (2, 4) attends most to")
    assert page.numbers()[1] == pytest.approx(weights[5, 5], abs=0.51e-4)


@pytest.mark.slow
def test_page_of_a_large_model_stays_small(tmp_path):
    """12 layers with 3 heads, 1 + 14 x 14 tokens and 8 images are coarsened; one layer is not."""
    size = {"input_shape": (56, 56, 1), "patch_size": 4, "hidden_dim": 12, "mlp_dim": 12}
    model = km.ViT("Ti/16", **size, num_heads=3, num_classes=0, pool=None)
    images = np.random.default_rng(0).normal(size=(8, 56, 56, 1)).astype("float32")
    path = km.visualize.attention_explorer(model, images, tmp_path / "explorer.html")
    assert path.stat().st_size < 5_000_000
    assert '"step": 2, ' in path.read_text()
    (view, *_), _ = views.views_of(model, images, -1, [])
    assert (view["step"], view["rows"], view["columns"]) == (1, 14, 14), (
        "one layer fits without coarsening"
    )


def test_coarsen_sums_keys_and_averages_queries():
    maps = np.random.default_rng(0).uniform(size=(2, 3, 16, 16)).astype("float32")
    maps /= maps.sum(axis=-1, keepdims=True)
    grid = km.probe.TokenGrid(rows=3, columns=5, patch_size=(4, 4), num_prefix=1)
    found = views.coarsen(maps, grid, 2)
    assert found.shape == (2, 3, 7, 7)
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-6)
    first, last = [1, 2, 6, 7], [15]  # tokens of the cells at the top left and at the bottom right
    expected = maps[..., first, :][..., last].sum(axis=-1).mean(axis=-1)
    np.testing.assert_allclose(found[..., 1, 6], expected, rtol=1e-5)
    np.testing.assert_allclose(found[..., 0, 0], maps[..., 0, 0], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": np.zeros((2, 4, 4, 2))}, r"`images` must be .*\(N, 8, 12, 2\)"),
        (
            {"images": np.full((2, 8, 12, 2), np.nan)},
            "`images` must be finite. Received: NaN",
        ),
        ({"class_names": ["a"]}, r"`class_names` must be 5 strings.*Received: 1: \['a'\]"),
        ({"layers": []}, r"`layers` must be names or numbers.*Received: \[\]"),
        ({"pictures": [np.zeros((8, 12))]}, "`pictures` must be one for each of the 3 images"),
        ({"layers": 2}, "`layers` must be names or numbers"),
    ],
)
def test_explorer_error_keeps_the_existing_page(vit, tmp_path, arguments, message):
    model, images, _ = vit
    path = tmp_path / "explorer.html"
    path.write_text("before")
    with pytest.raises(ValueError, match=message):
        km.visualize.attention_explorer(model, **{"images": images, "path": path, **arguments})
    assert path.read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1


def test_explorer_refuses_a_model_with_nan(tmp_path):
    model = case("vit").make()
    model.get_layer("head").bias.assign([np.nan] * 5)
    with pytest.raises(ValueError, match="`model` must have finite weights and outputs"):
        km.visualize.attention_explorer(model, case("vit").images(1), tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_explorer_refuses_a_model_without_views():
    with pytest.raises(ValueError, match="must have a MultiHeadSelfAttention, TokenMixing or Conv"):
        model = case("hybrid_PG").make()
        km.visualize.attention_explorer(model, case("vit").images(1), "never.html")


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("vit", {}),
        ("vit_pre_logits", {}),
        ("vit_gap", {}),
        ("deit_distilled", {}),
        ("vit_sequence", {"num_classes": 5}),
    ],
)
def test_explorer_shows_no_prediction_of_features(name, more):
    model, images = case(name).make(**{"num_classes": 0, **more}), case(name).images(2)
    assert explorer.predictions(model, images, None) == [[], []]
    with pytest.raises(ValueError, match="`class_names` must be None for a model that does not"):
        explorer.predictions(model, images, NAMES)
    found, _ = views.views_of(model, images, None, [])
    assert [view["name"] for view in found][-1] == "All layers: rollout"


def test_explorer_refuses_invalid_paths(vit, tmp_path):
    model, images, _ = vit
    (tmp_path / "results.html").mkdir()
    (tmp_path / "results.html" / "mine.txt").write_text("kept")
    for path in ("results.html", "page.htm", "nowhere/page.html"):
        with pytest.raises(ValueError, match="`path` must"):
            km.visualize.attention_explorer(model, images, tmp_path / path)
    assert (tmp_path / "results.html" / "mine.txt").read_text() == "kept"
    with pytest.raises(TypeError, match="`path` must be a string or a path. Received: path=3"):
        km.visualize.attention_explorer(model, images, 3)


def test_predictions_are_probabilities_after_a_softmax():
    ends = keras.Sequential([case("vit").make(), keras.layers.Softmax()])
    shares = np.array(ends(case("vit").images(2)))
    (best, *_), _ = explorer.predictions(ends, case("vit").images(2), None)
    assert best == (f"class {shares[0].argmax()}", pytest.approx(shares[0].max(), abs=1e-6))
