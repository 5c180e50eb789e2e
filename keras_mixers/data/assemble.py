"""The batches and the `Info` of a `Source`, which all functions that load batches return."""

from keras_mixers import arguments
from keras_mixers.data.augmentation import Augmentation
from keras_mixers.data.batches import train_batches, validation_batches
from keras_mixers.data.class_weights import class_weights
from keras_mixers.data.info import Info
from keras_mixers.data.order import Order
from keras_mixers.data.shard import replicas


def assemble(source, name, settings):
    """`(train, validation, info)` of a `Source`, as `Settings` describe them."""
    shape = source.train.shape
    preprocessing = settings.preprocessing_of(shape)
    channels = shape[-1]
    if channels == 1 and isinstance(preprocessing.mean, tuple):
        channels = len(preprocessing.mean)  # the channel of grey images is repeated
    batch_size, shard = settings.batch_size, settings.shard
    order = Order(source.train.count, batch_size, settings.drop_remainder, settings.seed, shard)
    settings.check_order(order)
    num_validation = source.validation.count
    left_out = num_validation % batch_size % replicas()
    if left_out:
        arguments.warn(
            f"`validation` leaves out {left_out} of {num_validation} validation images, because the"
            f" distribution of Keras divides each batch into {replicas()} equal parts"
        )
    info = Info(
        name=name,
        input_shape=(*preprocessing.size, channels),
        class_names=source.class_names,
        num_train=source.train.count,
        num_validation=num_validation - left_out,
        validation_source=source.validation_source,
        preprocessing=preprocessing,
        skipped=source.skipped,
        multi_label=source.train.num_classes is not None,
    )
    augmentation = settings.augmentation or Augmentation()
    weights = class_weights(settings.class_weight, source)
    train = train_batches(source.train, info, order, augmentation, settings.start, weights)
    validation_order = Order(info.num_validation, batch_size, shard=shard)
    validation = validation_batches(source.validation, info, validation_order)
    # For `km.evaluate`, which names the files of mistakes. A share has other positions.
    validation.keras_mixers_files = None if shard[1] > 1 else source.validation_files
    return train, validation, info
