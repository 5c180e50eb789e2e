"""Which image is where in an epoch, as a function of the seed, the epoch and the position."""

import dataclasses
import math

from keras_mixers.data.randomness import fold_in


@dataclasses.dataclass(frozen=True)
class Order:
    """The order of images in an epoch, and the share of each batch that one process reads.

    Args:
        num_images: number of images, all of which an epoch has once.
        batch_size: images in a batch of all processes together.
        drop_remainder: whether the last batch is dropped if it is incomplete.
        seed: of the random permutation; `None` for the order of the indices.
        shard: (index, count) of the share, a row of neighbours in the batch. The shares of a batch
            differ by one image if `count` does not divide it.
    """

    num_images: int
    batch_size: int
    drop_remainder: bool = False
    seed: int | None = None
    shard: tuple[int, int] = (0, 1)

    @property
    def num_batches(self):
        """The number of batches in an epoch."""
        batches = self.num_images / self.batch_size
        return math.floor(batches) if self.drop_remainder else math.ceil(batches)

    @property
    def remainder(self):
        """The number of images in the last batch if it is incomplete and is not dropped, else 0."""
        return 0 if self.drop_remainder else self.num_images % self.batch_size

    @property
    def num_used(self):
        """The number of images that an epoch uses."""
        return self.num_images - (self.num_images % self.batch_size if self.drop_remainder else 0)

    @property
    def share_size(self):
        """The number of images that this process reads of a whole batch."""
        return self.batch_size // self.shard[1]

    def count_from(self, first_batch):
        """The number of images that this process reads from a batch to the end of the epoch."""
        import tensorflow as tf

        begin, end = self.share_of(self.remainder)
        missing = self.share_size - (end - begin) if self.remainder else 0
        return tf.maximum((self.num_batches - first_batch) * self.share_size - missing, 0)

    def share_of(self, size):
        """The first row of this process in a batch of `size` images, and the row after its last."""
        index, count = self.shard
        return index * size // count, (index + 1) * size // count

    def size_of(self, batch):
        """The number of images in a batch, int64."""
        import tensorflow as tf

        return tf.minimum(self.num_images - batch * self.batch_size, self.batch_size)

    def rows(self, batch):
        """The rows of a batch that this process reads, int64."""
        import tensorflow as tf

        return tf.range(*self.share_of(self.size_of(batch)))

    def is_in_share(self, position):
        """Whether this process reads the image at a position of the epoch."""
        batch, row = position // self.batch_size, position % self.batch_size
        begin, end = self.share_of(self.size_of(batch))
        return (row >= begin) & (row < end)

    def position(self, number, first_batch):
        """The position in the epoch of the `number`-th image from a batch on."""
        batch = first_batch + number // self.share_size
        begin, _ = self.share_of(self.size_of(batch))
        return batch * self.batch_size + begin + number % self.share_size

    def indices(self, epoch):
        """The index of the image at each position of an epoch, int64 `(num_images,)`."""
        import tensorflow as tf

        indices = tf.range(self.num_images, dtype=tf.int64)
        if self.seed is None:
            return indices
        # Not `index_shuffle`, which needs no memory: its permutations of few images are far from
        # uniform, and it maps neighbours to related places. This one takes 30 ms for ImageNet.
        seed = tf.stack([fold_in(self.seed, epoch), 0])
        return tf.random.experimental.stateless_shuffle(indices, seed)
