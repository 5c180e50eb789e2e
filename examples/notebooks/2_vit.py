# %% [markdown]
# # 2. The Vision Transformer and its attention
#
# Notebook 1 built attention by hand. Here we train a small Vision Transformer (ViT) on photographs
# of clothes, and look at the attention that it has learned.
#
# Source: "An Image is Worth 16x16 Words", arXiv 2010.11929.

# %%
# %matplotlib inline
import pathlib

import keras
import numpy as np
from IPython.display import Image

import keras_mixers as km

# %% tags=["parameters"]
DATASET = "fashion_mnist"  # or "digits", which needs no download, or any other TFDS name
IMAGE_SIZE = 28  # pixels
PATCH_SIZE = 4  # pixels
DEPTH = 4  # blocks
EPOCHS = 3  # the digits are few images: they need 40
IMAGE = 3  # which test image to look at

# %%
recipe = km.Recipe(epochs=EPOCHS, batch_size=128, learning_rate=2e-3, warmup_epochs=0.5)
options = {"image_size": IMAGE_SIZE, "batch_size": recipe.batch_size}
try:
    train, test, info = km.data.load(DATASET, **options)
except OSError:  # without a network
    train, test, info = km.data.load("digits", **options)
images, labels = (np.asarray(part) for part in next(iter(test)))
image = images[IMAGE]
print(f"{info.num_train} images for training, {info.num_validation} for testing")
km.visualize.plot_batch(test, info, count=8)

# %% [markdown]
# ## From the image to the logits
#
# The next cell builds the model and prints the shape after each layer. Read it from the top:
#
# - `patch_embed` cuts the image into patches of 4 x 4 pixels, and multiplies the 16 pixels of each
#   patch with a learned matrix. The result is one **token** of 64 numbers for each of 49 patches.
# - `prefix_tokens` puts one more token in front, the **class token**. It belongs to no patch. At
#   the start it is the same for every image. It collects what the classifier needs.
# - `position_embedding` adds a vector for each place. Attention treats all tokens alike, so
#   without this vector the model could not know where a patch was.
# - A block has two halves. `block_0_attention` lets the tokens read from each other, in 4 heads.
#   `block_0_channel_mixing` is an MLP, a small network that works on each token separately. Both
#   compute `x + layer(norm(x))`: they add something to the token, and do not replace it.
# - `pool` takes the class token out, and `head` turns it into one logit for each class.
#
# The shape between the blocks never changes. That is why any number of blocks fits.

# %%
keras.utils.set_random_seed(0)
model = km.ViT(
    "Ti/16",
    input_shape=info.input_shape,
    patch_size=PATCH_SIZE,
    hidden_dim=64,
    depth=DEPTH,
    num_heads=4,
    mlp_dim=128,
    position_embedding="sincos2d",
    num_classes=info.num_classes,
)
for layer in model.layers:
    print(f"{layer.name:22} {layer.output.shape}")
print(f"{model.count_params():,} parameters")

# %% [markdown]
# ## Training
#
# `recipe.compile` chooses the optimizer (AdamW), its learning rate and the loss. `fit` is Keras's.
# The last line states the accuracy on test images, which the model has not seen in training.

# %%
recipe.compile(model, steps_per_epoch=len(train))
model.fit(train, epochs=EPOCHS, shuffle=False, verbose=2)
_, accuracy = model.evaluate(test, verbose=0)
print(f"Test accuracy: {accuracy:.1%}")

# %% [markdown]
# ## Position embeddings: what is near
#
# The original ViT learns a vector for each place. That needs a long training. We took fixed
# vectors, sines and cosines of row and column (`position_embedding="sincos2d"`, arXiv 2205.01580).
#
# Each small picture belongs to one place. It shows how similar the vector of this place is to
# those of all places (cosine similarity, 1 for equal directions). Each picture is brightest at its
# own place and gets darker with the distance. So attention can find out from the tokens what is
# near.

# %%
km.visualize.plot_position_similarity(model)

# %% [markdown]
# ## All weights of a layer: the T x T map
#
# For one image, a head computes one weight for each pair of tokens. `km.attention_maps` returns
# them as arrays. Their shape is (images, heads, queries, keys), and each row sums to 1.

# %%
maps = km.attention_maps(model, images[:8])
for name, weights in maps.items():
    print(f"{name} {weights.shape}, sum of each row {weights.sum(axis=-1).mean():.3f}")

# %% [markdown]
# The figure shows the first layer, one map for each head. A row is a query, a column is a key. Row
# 0 and column 0 are the class token. Then the patches follow row by row, from the top left.
#
# - Bright **columns** are patches from which most queries read, whatever they look like.
# - Bright **blocks** are groups of patches that read from a group of patches. In the run shown
#   here, patches of the shoe (rows 19 to 36) read from patches of the sole (columns 37 to 42) in
#   head 2.
# - Patterns **repeat** after 7 rows or 7 columns, because the patch below is 7 tokens later.
# - A bright **diagonal** would mean that tokens read from themselves.

# %%
km.visualize.plot_attention_matrix(model, image, layer=0)

# %% [markdown]
# ## One query over the image
#
# One row of the map has a weight for each patch, so it can be drawn over the image. The red frame
# is the query. Each panel is one head, and "mean" is their average. The heads differ, because each
# has its own queries and keys. Here head 0 reads from the background, head 1 from the query itself
# and from the tip of the shoe, head 2 from the sole, and head 3 from heel and tip.

# %%
grid = km.probe.token_grid(model)
query = (grid.rows // 2, grid.columns // 2)
km.visualize.plot_attention(model, image, query=query, layer=0)

# %% [markdown]
# In the last layer, the most interesting query is the class token, because the classifier reads
# only this token. The figure shows from which patches it takes its information. For this sneaker
# these are mostly patches of the slope from the laces to the tip.

# %%
km.visualize.plot_attention(model, image, layer=-1)

# %% [markdown]
# ## Near and far
#
# How far does a head look? The *attention distance* is the mean distance between a query and its
# keys, each key with its weight. A convolution has a fixed reach. A head can choose. The dashed
# line is the distance that equal weights for all patches would give. Each dot is a head.

# %%
distances = {
    name: distance.mean(axis=0)  # over the images; one number for each head
    for name, distance in km.probe.attention_distance(model, images).items()
}
places = np.stack(np.divmod(np.arange(grid.rows * grid.columns), grid.columns), axis=1)
equal = PATCH_SIZE * np.linalg.norm(places[:, None] - places, axis=-1).mean()
for name, distance in distances.items():
    print(name, " ".join(f"{pixels:4.1f}" for pixels in distance), "pixels")
figure = km.visualize.plot_attention_distance(model, images)
figure.axes[0].axhline(equal, color="gray", linestyle="--")
figure.axes[0].set_ylim(0, 1.1 * max(equal, figure.axes[0].get_ylim()[1]))
print(f"equal weights: {equal:.1f} pixels")
figure

# %% [markdown]
# A head below the line prefers near patches, a head above it distant ones. In this run most heads
# are close to the line: they look everywhere. Large ViTs have near heads in their first layers,
# after long training on many images (figure 7 of arXiv 2010.11929).
#
# ## Every query in turn
#
# The animation moves the query (left) over all patches, and shows its weights (right) in the head
# with the smallest distance. Watch why its distance is small. A head can read from the neighbours
# of the query. Or it can read from the middle of the image, which is not far from anywhere. This
# one reads from the same few patches at the laces for most queries.

# %%
folder = pathlib.Path("out")
folder.mkdir(exist_ok=True)
layer = min(distances, key=lambda name: distances[name].min())
head = int(distances[layer].argmin())
gif = km.visualize.animate_attention(model, image, folder / "attention.gif", layer, head)
Image(gif.read_bytes())

# %% [markdown]
# ## Explore by yourself
#
# `km.visualize.attention_explorer` writes all of this into one HTML page, which needs no network
# and no Python. Open `out/explorer.html` in a browser and move the pointer over an image.
#
# ![The attention explorer in a browser](../pictures/explorer.png)

# %%
page = km.visualize.attention_explorer(
    model, images[:8], folder / "explorer.html", class_names=info.class_names
)
print(page, page.stat().st_size // 1000, "kB")

# %% [markdown]
# ## To remember
#
# - A ViT is a patch embedding, position embeddings, and blocks of attention and an MLP.
# - The attention of one head is a table of T x T weights, and a new one for each image.
# - Heads differ: some look near, some far, some at one part of the object. Nothing but training
#   decides.
#
# ## Three things to try
#
# 1. Move `query` to the background and to an edge of the object. Which heads change?
# 2. Train with `position_embedding="learned"`, then with `None`. How much accuracy do the
#    positions bring, and do learned positions show the grid?
# 3. Train with `num_heads=1`, then with `num_heads=8`. Compare accuracy and attention distances.
