"""Whether an exported file gives the answers of the model it came from."""

import numpy as np

BATCHES = (1, 3)  # two sizes: a batch fixed by mistake shows
BOUND = 1e-4  # absolute, or of the largest answer where that is above 1


def largest_difference(model, run):
    """The largest absolute difference between `run(images)` and `model` on random images.

    Raises:
        RuntimeError: it is over the bound, or an answer is not finite.
    """
    largest = 0.0
    for batch in BATCHES:
        generator = np.random.default_rng(batch)
        images = generator.uniform(-1, 1, (batch, *model.input_shape[1:])).astype("float32")
        expected = np.asarray(model(images, training=False))
        answer = run(images)
        if answer.shape != expected.shape:
            raise RuntimeError(
                f"The exported file gives {answer.shape} for {images.shape}, the model"
                f" {expected.shape}; nothing was put in place"
            )
        difference = float(np.max(np.abs(answer - expected)))
        bound = BOUND * max(1.0, float(np.max(np.abs(expected))))
        if not difference <= bound:
            raise RuntimeError(
                f"The exported file differs from the model by {difference:.2e} on random images at"
                f" batch {batch}, over the bound of {bound:.2e}; nothing was put in place"
            )
        largest = max(largest, difference)
    return largest
