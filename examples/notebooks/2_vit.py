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
# The cell prints the shape after each layer. "Ti/16" names a published size. The arguments below it
# replace the patch size and the widths. Read from the top:
#
# - `patch_embed` cuts the image into patches of 4 x 4 pixels, and multiplies the 16 pixels of each
#   patch with a learned matrix. The result is one **token** for each of 49 patches, `hidden_dim` =
#   64 numbers or *channels*.
# - `prefix_tokens` puts one more token in front, the **class token**, so T is 50. It belongs to no
#   patch. At the start it is the same for every image. It collects what the classifier needs.
#   (Titles of figures say *prefix token*, because other models have more than one.)
# - `position_embedding` adds a vector for each place, because attention treats all tokens alike.
#   Although both are added, training can use some of the 64 channels for the content of a patch and
#   others for its place.
# - A block has two halves. `block_0_attention` lets the tokens read from each other, in 4 heads.
#   `block_0_channel_mixing` is an MLP, a small network that works on each token separately. Both
#   compute `x + layer(norm(x))`: they add something to the token, and do not replace it. The norm
#   shifts and scales each token to mean 0 and variance 1.
# - `pool` takes the class token out. The layer named `head` is the classifier, not an attention
#   head. It gives one number, a *logit*, for each class.

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
# `recipe.compile` chooses the optimizer (AdamW), its learning rate and the loss. The last line is
# the accuracy on test images, which the model has not seen in training. Chance is 10%, for 10
# classes, and a linear classifier reaches 84% (arXiv 1708.07747).

# %%
recipe.compile(model, steps_per_epoch=len(train))
history = model.fit(train, epochs=EPOCHS, shuffle=False, verbose=0).history
print("Training accuracy by epoch:", ", ".join(f"{each:.1%}" for each in history["accuracy"]))
_, accuracy = model.evaluate(test, verbose=0)
print(f"Test accuracy: {accuracy:.1%}")

# %% [markdown]
# ## Position embeddings: what is near
#
# The original ViT learns these vectors in a long training. We took fixed ones, sines and cosines of
# row and column (`position_embedding="sincos2d"`, arXiv 2205.01580).
#
# Each small picture belongs to one place, the dot. It shows how similar the vector of this place is
# to those of all places (cosine similarity, 1 for equal directions). Each picture is brightest at
# the dot. Along the row and the column of the dot it gets darker over about four patches, and then
# stays near 0.86. Diagonally it falls further, to 0.75 (the scale does not start at 0). So
# attention can find out from the tokens what is near.

# %%
km.visualize.plot_position_similarity(model)

# %% [markdown]
# ## All weights of a layer: the T x T map
#
# For one image, a head computes one weight for each pair of tokens. `km.attention_maps` returns
# them as arrays (images, heads, queries, keys). Each row sums to 1.

# %%
maps = km.attention_maps(model, images[:8])
for name, weights in maps.items():
    print(f"{name} {weights.shape}, sum of each row {weights.sum(axis=-1).mean():.3f}")

# %% [markdown]
# The figure shows the first attention layer, one map for each head. A row is a query, a column is a
# key. Row 0 and column 0 are the class token. Then the patches follow, so row 1 is the patch at the
# top left. Lines separate the rows of the image. In the run shown here:
#
# - Bright **columns** (24 in head 1) are patches from which most queries read.
# - Bright **blocks** are groups of patches that read from a group of patches. In head 2, patches of
#   the shoe (rows 19 to 21, and most of 25 to 35) read from patches of the sole (columns 37 to 42).
# - In head 2, **column 0** is bright too: patches of the background read from the class token.
# - Patterns **repeat** after 7 rows or 7 columns, because the patch below is 7 tokens later.

# %%
km.visualize.plot_attention_matrix(model, image, layer=0)

# %% [markdown]
# ## One query over the image
#
# One row of the map has a weight for each patch, so it can be drawn over the image. The red frame
# is the query. It *attends to* the patches from which it reads. Each panel is one head with its own
# scale, and "mean" is their average. The colours lie over the image, so they are paler than those
# of the scale. The weight of the class token is left out, so a panel adds up to less than 1. In
# this run head 0 reads from the background, head 1 from the query itself and from the toe, head 2
# from the sole, and head 3 from heel and tip.

# %%
grid = km.probe.token_grid(model)
query = (grid.rows // 2, grid.columns // 2)
km.visualize.plot_attention(model, image, query=query, layer=0)

# %% [markdown]
# In the last attention layer, the most interesting query is the class token, because the classifier
# reads only this token. The figure shows which *tokens* it reads. These have already read from
# others in three blocks, so the map does not prove which pixels decide. In this run head 3 gives
# 70% to one patch of the toe, and head 2 reads from the heel and the background.

# %%
km.visualize.plot_attention(model, image, layer=-1)

# %% [markdown]
# ## Near and far
#
# How far does a head look? The *attention distance* is the mean distance between a query and its
# keys, each key with its weight. (Without the class token, the weights are scaled to add up to 1.)
# Each dot is a head.

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
figure.axes[0].axhline(equal, color="gray", linestyle="--", label="equal weights for all patches")
figure.axes[0].legend(loc="lower left")
figure.axes[0].set_ylim(0, 1.1 * max(equal, figure.axes[0].get_ylim()[1]))
print(f"equal weights: {equal:.1f} pixels")
figure

# %% [markdown]
# A distance below the line can mean near keys, or keys in the middle of the image, which are not
# far from any query. Only the map tells which. Most heads are close to the line: their keys are, on
# average, as far away as with equal weights. They may still read few patches. Large ViTs have near
# heads next to far ones in their first layers (figure 7 of arXiv 2010.11929).
#
# ## Every query in turn
#
# The animation moves the query over all patches, and shows its weights in the head with the
# smallest distance. Watch why that is small. For most queries the brightest patch is the same one,
# in front of the ankle, without a pixel of the shoe. It is near the middle of the image. All frames
# share one scale, so a query with nearly equal weights looks dark.

# %%
folder = pathlib.Path("out")
folder.mkdir(exist_ok=True)
layer = min(distances, key=lambda name: distances[name].min())
head = int(distances[layer].argmin())
path = folder / "attention.gif"
km.visualize.animate_attention(model, image, path, layer, head, frames_per_second=4)
Image(path.read_bytes())

# %% [markdown]
# ## Explore by yourself
#
# `km.visualize.attention_explorer` writes the maps of all layers, heads and queries into one HTML
# page, which needs no network and no Python. Open `out/explorer.html` in a browser and move the
# pointer over an image. The picture shows the page of a model with 12 x 12 patches.
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
# - Heads differ in *what* they read. Their roles come from the data and the random start. Here none
#   became clearly near. Notebook 1 shows what a near head looks like.
#
# ## Three things to try
#
# 1. Move `query` to the background and to an edge of the object. Which heads change?
# 2. Train with `position_embedding="learned"`, then with `None`. How much accuracy do the
#    positions bring, and do learned positions show the grid?
# 3. Train with `num_heads=1`, then with `num_heads=8`. Compare accuracy and attention distances.
