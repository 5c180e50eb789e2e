"""What every export format serves: one function of images, with stable names."""


def serving_function(model):
    """The inference call of a model as `images -> {"logits": ...}`, with its input signature."""
    import tensorflow as tf

    signature = [tf.TensorSpec((None, *model.input_shape[1:]), "float32", name="images")]

    @tf.function(input_signature=signature)
    def serve(images):
        return {"logits": model(images, training=False)}

    return serve, signature
