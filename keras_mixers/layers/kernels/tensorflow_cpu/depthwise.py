"""Depthwise convolution with a faster gradient for its kernel."""

import tensorflow as tf


def depthwise_convolution(x, kernel):
    """One kernel a channel, stride 1, the grid's size kept.

    The gradient for the kernel is a convolution too, of each image by what comes back, with images
    and channels side by side: TensorFlow's own kernel for it is slower.
    """
    strides, pads = (1, 1, 1, 1), [((side - 1) // 2, side // 2) for side in kernel.shape[:2]]
    pads = [(0, 0), *pads, (0, 0)]

    @tf.custom_gradient
    def call(x, kernel):
        def gradient(dy):
            dx = tf.nn.depthwise_conv2d_backprop_input(tf.shape(x), kernel, dy, strides, "SAME")
            (count, *_), (_, height, width, channels) = tf.unstack(tf.shape(x)), x.shape
            images = tf.reshape(tf.transpose(x, (1, 2, 0, 3)), (1, height, width, -1))
            filters = tf.reshape(tf.transpose(dy, (1, 2, 0, 3)), (height, width, -1, 1))
            each = tf.nn.depthwise_conv2d(images, filters, strides, pads)
            each = tf.reshape(each, (*kernel.shape[:2], count, channels, 1))
            return dx, tf.reduce_sum(each, 2)

        return tf.nn.depthwise_conv2d(x, kernel, strides, "SAME"), gradient

    return call(x, kernel)
