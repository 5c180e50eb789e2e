"""TensorFlow's SavedModel: a folder for TensorFlow Serving or `tf.saved_model.load`."""

import keras

from keras_mixers.export.serving import serving_function

FORMAT = "saved_model"
PROTO = "saved_model.pb"


def save(model, path):
    """Write the folder, with one signature, `serving_default`: images -> logits."""
    archive = keras.export.ExportArchive()
    archive.track(model)
    function, signature = serving_function(model)
    archive.add_endpoint("serving_default", function, input_signature=signature)
    archive.write_out(str(path), verbose=False)


def run(path, images):
    """Logits of images by TensorFlow alone."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))  # held in a name: its variables live as long as it
    return loaded.signatures["serving_default"](images=tf.constant(images))["logits"].numpy()
