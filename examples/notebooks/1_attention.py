# %% [markdown]
# # 1. Attention, from scores to heads
#
# An image becomes a sequence of patches, and attention lets each patch read from all others.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np

import keras_mixers as km

# %% tags=["parameters"]
DATASET = "fashion_mnist"  # or "digits", which needs no network, or any TFDS name
IMAGE_SIZE = 28  # pixels
PATCH_SIZE = 4  # pixels

# %%
try:
    _, test, info = km.data.load(DATASET, image_size=IMAGE_SIZE)
except OSError:  # without a network
    _, test, info = km.data.load("digits", image_size=IMAGE_SIZE)
images, labels = (np.asarray(each) for each in next(iter(test)))
print(images.shape, info.class_names[labels[0]])

# %%
plt.imshow(images[0].squeeze(), cmap="gray")
plt.show()

# %%
model = km.ViT(
    "Ti/16",
    input_shape=info.input_shape,
    patch_size=PATCH_SIZE,
    hidden_dim=32,
    depth=1,
    num_heads=2,
    mlp_dim=32,
    num_classes=info.num_classes,
)
km.visualize.plot_attention(model, images[0], query=(1, 1))
