"""The digits bundled with scikit-learn as a TFDS dataset: real images without a network."""

import numpy as np
import tensorflow_datasets as tfds

# A fifth of each class is the test split, chosen by a fixed seed: 1,437 training images, 360 test
# images.
NUM_TEST = 360
SPLIT_SEED = 0


class Digits(tfds.core.GeneratorBasedBuilder):
    """1,797 handwritten digits, 8 x 8 pixels, in 10 classes."""

    VERSION = tfds.core.Version("1.0.0")
    name = "digits"

    def _info(self):
        return self.dataset_info_from_configs(
            description=(
                "1,797 images of handwritten digits, 8 x 8 pixels, bundled with scikit-learn. They"
                " are the test part of the UCI data set of 43 people's handwriting. The split is"
                " stratified and fixed."
            ),
            homepage="https://archive.ics.uci.edu/dataset/80",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1)),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        # 17 grey values, 0 to 16, spread over the 256 values of a byte.
        images = np.rint(digits.images * (255 / 16)).astype("uint8")[..., None]
        train, test = train_test_split(
            np.arange(len(images)),
            test_size=NUM_TEST,
            stratify=digits.target,
            random_state=SPLIT_SEED,
        )
        return {
            split: self._generate_examples(indices, images, digits.target)
            for split, indices in (("train", train), ("test", test))
        }

    def _generate_examples(self, indices, images, labels):
        for i in indices:
            yield int(i), {"image": images[i], "label": int(labels[i])}
