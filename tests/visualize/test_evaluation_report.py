"""The page about an evaluation, as text and in a browser."""

import base64
import dataclasses
import html.parser
import io
import re

import numpy as np
import pytest
from PIL import Image

import keras_mixers as km
from keras_mixers.evaluation import metrics

NAMES = ["<script>x</script>", "a \"b\" & 'c'", "Grüße", "x" * 300, "%TITLE%", "\udc80", "", "a\nb"]
# (true class, predicted class, number of images); no image has class 7, and none is taken for 6.
FOUND = [(i, i, 10 + i) for i in range(6)] + [(0, 1, 5), (2, 1, 3), (5, 0, 1), (6, 7, 2)]
BINS = ("bin_counts", "bin_probabilities", "bin_accuracies")


def evaluation_of(found, names, mistakes=()):
    """An `Evaluation` from numbers of images."""
    pairs = np.repeat([pair[:2] for pair in found], [pair[2] for pair in found], axis=0)
    correct = pairs[:, 0] == pairs[:, 1]
    bins = metrics.calibration_bins(np.where(correct, 0.95, 0.55), correct)
    confusion = metrics.confusion_matrix(*pairs.T, len(names))
    return km.Evaluation(
        class_names=tuple(names),
        confusion=confusion,
        top5_accuracy=0.875,
        mistakes=tuple(mistakes),
        **dict(zip(BINS, bins, strict=True)),
    )


@pytest.fixture(scope="module")
def info():
    """A dataset with ImageNet's normalization."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    preprocessing = km.Preprocessing((2, 3), mean=mean, std=std)
    return km.data.Info("my <data>", (2, 3, 3), tuple(NAMES), 1, 1, "test", preprocessing)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (2, 3, 3), "uint8")


@pytest.fixture(scope="module")
def evaluation(info, pixels):
    image = info.preprocessing.standardize(pixels.astype("float32"))
    mistakes = [km.Mistake(8, 0, 1, 0.75, image), km.Mistake(3, 5, 0, 0.5, image)]
    return evaluation_of(FOUND, NAMES, mistakes)


@pytest.fixture(scope="module")
def path(evaluation, info, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    return km.visualize.evaluation_report(evaluation, path, info, model_name='ViT "S"')


class Reader(html.parser.HTMLParser):
    """The tables of a page as lists of rows, its other texts, and the sources of its pictures."""

    def __init__(self, path):
        super().__init__()
        self.tables, self.texts, self.sources, self.tags = [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        if tag not in ("img", "meta"):  # which have no end
            self.tags.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "img":
            self.sources.append(dict(attributes)["src"])

    def handle_endtag(self, tag):
        self.tags.remove(tag)

    def handle_data(self, data):
        if not data.strip() or {"script", "style"} & set(self.tags):
            return
        if "td" in self.tags or "th" in self.tags:
            self.tables[-1][-1][-1] += data
        else:
            self.texts.append(data.strip())


def test_page_has_the_numbers_of_the_evaluation(path, evaluation):
    page = Reader(path)
    classes, matrix = page.tables
    shown = ["<script>x</script>", "a \"b\" & 'c'", "Grüße", "x" * 79 + "…", "%TITLE%", "?"]
    shown += ["no name", "a b"]
    assert [row[0] for row in classes[1:]] == shown
    assert classes[1][1:] == ["15", "66.7%", "90.9%", shown[1], "5", "0"]
    assert classes[2][1:] == ["11", "100.0%", "57.9%", "none", "0", "1"]
    assert classes[7][1:] == ["2", "0.0%", "never predicted", "a b", "2", "6"]
    assert classes[8][1:] == ["0", "no images", "0.0%", "none", "0", "7"]
    assert [row[0] for row in matrix[1:]] == shown == matrix[0][1:]
    numbers = [[int(cell or 0) for cell in row[1:]] for row in matrix[1:]]
    np.testing.assert_array_equal(numbers, evaluation.confusion)
    texts = " ".join(page.texts)
    assert 'Evaluation of ViT "S" on my <data>' in page.texts
    for label, value in [("accuracy", "87.2%"), ("top-5 accuracy", "87.5%"), ("images", "86")]:
        assert page.texts[page.texts.index(label) + 1] == value
    assert page.texts[page.texts.index("mistakes") + 1] == "11"
    # 75 correct images at 0.95 and 11 mistakes at 0.55
    assert "has a probability of 89.9%, and 87.2% of the images are correct" in texts
    assert "overconfident by 2.7 points" in texts
    assert "predicted: a \"b\" & 'c' (75.0%)" in texts


def test_page_has_no_nan_and_no_address(path):
    text = re.sub(r"base64,[\w+/=]+", "", path.read_text(encoding="utf-8"))
    assert not re.search("nan|infinity", text, re.IGNORECASE)
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)|url\(|@import|fetch\(|https?:""", text)
    assert "default-src 'none'" in text
    assert text.count("<script>") == text.count("</script>") == 1
    assert '<html lang="en">' in text
    assert "<title>Evaluation of ViT &quot;S&quot; on my &lt;data&gt;</title>" in text


def picture(source):
    data = base64.b64decode(source.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)))


def test_pictures_undo_the_normalization(path, evaluation, pixels, tmp_path):
    sources = Reader(path).sources
    assert len(sources) == 2
    for source in sources:
        np.testing.assert_allclose(picture(source).astype(int), pixels, atol=1)
    without = km.visualize.evaluation_report(evaluation, tmp_path / "report.html")
    found = picture(Reader(without).sources[0])
    assert (found.min(), found.max()) == (0, 255)  # rescaled, because the values are outside 0..1


def test_page_of_many_classes_lists_confusions(evaluation, tmp_path):
    found = [(0, 0, 2), (20, 3, 2), (20, 20, 6), (7, 8, 1)]
    names = [f"class {i}" for i in range(21)]
    mistakes = evaluation.mistakes * 30
    many = evaluation_of(found, names, mistakes)
    page = Reader(km.visualize.evaluation_report(many, tmp_path / "report.html"))
    classes, confusions = page.tables
    assert len(classes) == 1 + 21
    assert confusions[1:] == [
        ["class 20", "class 3", "2", "25.0%"],
        ["class 7", "class 8", "1", "100.0%"],
    ]
    assert len(page.sources) == 48
    perfect = evaluation_of([(0, 0, 1)], names)
    page = Reader(km.visualize.evaluation_report(perfect, tmp_path / "report.html"))
    assert "The model made no mistakes." in page.texts
    assert page.texts[-1] == "The model made none."
    assert not page.sources


def test_page_of_several_labels_has_the_numbers_of_the_evaluation(info, pixels, tmp_path):
    image = info.preprocessing.standardize(pixels.astype("float32"))
    bins = metrics.calibration_bins(np.array([0.02, 0.03, 0.7, 0.9]), np.array([0, 0, 1, 0]))
    evaluation = km.MultiLabelEvaluation(
        class_names=("a <b>", "never", "absent"),
        **dict(zip(BINS, bins, strict=True)),
        confusion=np.array([[[90, 2], [3, 5]], [[99, 0], [1, 0]], [[98, 2], [0, 0]]]),
        average_precision=np.array([0.75, 0.25, np.nan]),
        exact_match=0.9,
        false_positives=(km.LabelMistake(4, 2, 0.875, image),),
        false_negatives=(),
    )
    path = km.visualize.evaluation_report(evaluation, tmp_path / "report.html")
    page = Reader(path)
    (table,) = page.tables
    assert table[1:] == [
        ["a <b>", "8", "75.0%", "62.5%", "71.4%", "2", "3", "0"],
        ["never", "1", "25.0%", "0.0%", "never predicted", "0", "1", "1"],
        ["absent", "0", "no images", "no images", "0.0%", "2", "0", "2"],
    ]
    assert page.texts[page.texts.index("mean average precision") + 1] == "50.0%"
    assert page.texts[page.texts.index("exact match") + 1] == "90.0%"
    texts = " ".join(page.texts)
    assert "a label has a probability of 41.2%, and an image has 25.0% of the labels" in texts
    assert "absent (87.5%) image 4" in texts
    assert "1 of 4 wrong labels: those with the largest probabilities." in texts
    assert texts.endswith("Worst false negatives The evaluation kept no images.")
    assert len(page.sources) == 1
    perfect = evaluation.confusion * [[1, 1], [0, 1]]
    evaluation = dataclasses.replace(evaluation, confusion=perfect)
    page = Reader(km.visualize.evaluation_report(evaluation, tmp_path / "perfect.html"))
    assert " ".join(page.texts).endswith("Worst false negatives The model made none.")
    assert not re.search("nan|infinity", re.sub(r"base64,[\w+/=]+", "", path.read_text()), re.I)


def test_report_raises_and_keeps_the_existing_page(evaluation, info, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("before")
    other = dataclasses.replace(info, class_names=("a", "b"))
    grey = dataclasses.replace(info, preprocessing=km.Preprocessing((2, 3), mean=(0,), std=(1,)))
    for arguments, error, message in [
        ((3, path), TypeError, "`evaluation` must be the return value of `km.evaluate`"),
        ((evaluation, tmp_path / "report.txt"), ValueError, "`path` must end in '.html'"),
        ((evaluation, path, NAMES), TypeError, "`info` must be the Info of the dataset"),
        ((evaluation, path, other), ValueError, "`info` must have the class names of `eval"),
        ((evaluation, path, grey), ValueError, "`mean` must have one number for each channel"),
    ]:
        with pytest.raises(error, match=message):
            km.visualize.evaluation_report(*arguments)
    with pytest.raises(TypeError, match="`model_name` must be a string"):
        km.visualize.evaluation_report(evaluation, path, model_name=3)
    assert path.read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1


def test_page_in_a_browser_sorts_and_shows_pictures(path, open_in_browser):
    page = open_in_browser(path, viewport={"width": 360, "height": 740})

    def column(number):
        return page.locator(f".sortable tbody tr > :nth-child({number})").all_inner_texts()

    recall = page.get_by_role("columnheader", name="recall")
    recall.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert recall.get_attribute("aria-sort") == "descending"
    values = [float(text[:-1]) for text in column(3)[:-1]]
    assert values == sorted(values, reverse=True)
    assert column(3)[-1] == "no images"
    page.keyboard.press("Enter")
    assert recall.get_attribute("aria-sort") == "ascending"
    assert column(3)[-2:] == ["100.0%", "no images"]
    assert column(1)[0] == "no name"
    page.get_by_role("button", name="class", exact=True).click()
    assert column(1)[0] == "no name"
    assert column(1)[1:3] == ["?", "%TITLE%"]
    sizes = page.eval_on_selector_all("img", "all => all.map((image) => image.naturalWidth)")
    assert sizes == [3, 3]
    assert page.evaluate("document.documentElement.scrollWidth") == 360
