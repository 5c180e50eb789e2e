"""examples/segment.py."""

import argparse
import functools
import re

import keras
import numpy as np
import onnxruntime
import pytest
from run_example import load_example, run_example

import keras_mixers as km


@pytest.fixture
def backbone(tmp_path):
    """A file of a small ViT for images of 16 x 16 pixels."""
    size = {"patch_size": 4, "hidden_dim": 16, "depth": 2, "num_heads": 2, "mlp_dim": 16}
    model = km.ViT("Ti/16", input_shape=(16, 16, 3), num_classes=3, **size)
    model.save(tmp_path / "backbone.keras")
    return "backbone.keras"


@pytest.mark.slow
def test_segment_trains_exports_and_draws(backbone, tmp_path):
    output, message = run_example(
        "segment.py",
        *("--weights", backbone, "--image-size", "16", "--images", "8", "--batch-size", "4"),
        *("--blocks", "0", "-1", "--head-epochs", "1", "--epochs", "1", "--output", "here"),
        cwd=tmp_path,
        TEST_IMAGES=4,
        SHOWN=2,
    )
    assert not message
    stages = re.findall(r"Mean IoU (before|of a linear|after|of model).*: ([\d.]+)%", output)
    assert [stage for stage, _ in stages] == ["before", "of a linear", "after", "of model"]
    assert stages[-1][1] == stages[-2][1], "the exported file predicts the same masks"
    (difference,) = re.findall(r"Largest difference in onnxruntime: (\S+)", output)
    assert float(difference) < 1e-4
    files = {"features.png", "model.keras", "model.onnx", "predictions.png"}
    assert {path.name for path in (tmp_path / "here").iterdir()} == files

    before = keras.models.load_model(tmp_path / backbone)
    after = keras.models.load_model(tmp_path / "here" / "model.keras")
    assert after.output_shape == (None, 16, 16, 4)
    names = ("patch_embed", "block_1_attention", "norm")
    pairs = [(before.get_layer(name), after.get_layer(name)) for name in names]
    assert all((old.get_weights()[0] != new.get_weights()[0]).any() for old, new in pairs)
    session = onnxruntime.InferenceSession(tmp_path / "here" / "model.onnx")
    photo = np.zeros((1, 20, 30, 3), "uint8")
    (probabilities,) = session.run(["probabilities"], {"images": photo})
    np.testing.assert_allclose(probabilities.sum(axis=-1), np.ones((1, 16, 16)), atol=1e-5)


def test_segment_gives_a_published_backbone_the_size_of_the_images(monkeypatch):
    """The checkpoint was trained on images of 518 x 518 pixels."""
    example = load_example("segment")
    name = "vit_small_patch14_dinov2.lvd142m"
    args = argparse.Namespace(weights=name, image_size=28)
    random = functools.partial(km.create_model, pretrained=False)
    monkeypatch.setattr(km, "create_model", lambda *given, **size: random(*given, **size, depth=1))
    backbone, preprocessing = example.find_backbone(args)
    assert backbone.input_shape == (None, 28, 28, 3)
    assert backbone.output_shape == (None, 384)
    assert (preprocessing.size, preprocessing.crop_fraction) == ((28, 28), 1)
    assert preprocessing.mean == km.pretrained()[name].preprocessing.mean


def test_segment_draws_masks_that_fit_the_images():
    """Each shape has one colour with little noise, so colours inside a mask vary little."""
    example = load_example("segment")
    images, masks = example.draw_images(6, (24, 36), seed=(0, 1))
    assert (images.shape, images.dtype, masks.shape) == ((6, 24, 36, 3), np.uint8, (6, 24, 36))
    assert set(np.unique(masks)) == {0, 1, 2, 3}
    for image, mask in zip(images, masks, strict=True):
        assert 0.03 < (mask > 0).mean() < 0.6
        for label in np.unique(mask[mask > 0]):
            assert image[mask == label].std(axis=0).mean() < image[mask == 0].std(axis=0).mean()
    again, _ = example.draw_images(6, (24, 36), seed=(0, 1))
    np.testing.assert_array_equal(again, images)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weights", "none"], r"--weights must be a name in km.pretrained\(\) or a .keras file"),
        (["--weights", "backbone.keras"], r"--weights must take images of \(48, 48, 3\).*see --im"),
        (["--blocks", "9"], "segment.py: `blocks` must be .* from 0 to 2"),
        (["--images", "0"], "--images: must be 1 or more, not 0"),
    ],
)
def test_segment_names_a_wrong_argument(arguments, message, backbone, tmp_path):
    _, found = run_example("segment.py", *arguments, cwd=tmp_path)
    assert re.search(message, found), found
    assert [path.name for path in tmp_path.iterdir()] == ["backbone.keras"]
