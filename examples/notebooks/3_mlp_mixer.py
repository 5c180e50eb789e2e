# %% [markdown]
# # 3. MLP-Mixer and its hidden units
#
# The tokens of notebook 2 exchanged information by attention. MLP-Mixer has no attention. It
# exchanges information by a plain MLP (two Dense layers) across the patches, with weights that are
# the same for every image. So its weights can be looked at as pictures.
#
# Source: "MLP-Mixer: An all-MLP Architecture for Vision", arXiv 2105.01601.

# %%
# %matplotlib inline
import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

import keras_mixers as km
from keras_mixers.layers import TokenMixing

# %% tags=["parameters"]
DATASET = "fashion_mnist"  # or "digits", which needs no download, or any other TFDS name
IMAGE_SIZE = 28  # pixels
PATCH_SIZE = 4  # pixels
DEPTH = 4  # blocks
EPOCHS = 3  # the digits are few images: they need 40
IMAGE = 6  # which test image to look at

# %%
recipe = km.Recipe(
    epochs=EPOCHS, batch_size=128, learning_rate=2e-3, warmup_epochs=0.5, weight_decay=3.0
)
options = {"image_size": IMAGE_SIZE, "batch_size": recipe.batch_size}
try:
    train, test, info = km.data.load(DATASET, **options)
except OSError:  # without a network
    train, test, info = km.data.load("digits", **options)
images, labels = (np.asarray(part) for part in next(iter(test)))
image = images[IMAGE]

# %% [markdown]
# ## The trick: transpose the table
#
# The tokens of an image are a table: one row for each patch (T rows), one column for each channel
# (D columns). A Dense layer works on the last axis, so it mixes the channels of one token.
# Transpose the table, and the Dense layer mixes the patches of one channel. Then transpose it back.
# This is *token mixing*. The cell writes it in four lines, and compares it with `TokenMixing`.

# %%
x = keras.random.normal((1, 49, 64), seed=0)  # one image: 49 tokens of 64 channels
layer = TokenMixing(tokens_mlp_dim=32)
expected = layer(x)

transposed = ops.transpose(x, (0, 2, 1))  # (1, 64, 49): one row for each channel
hidden = ops.gelu(layer.fc1(transposed), approximate=False)  # (1, 64, 32): the hidden units
mixed = layer.fc2(hidden)  # (1, 64, 49): back to the patches
ours = ops.transpose(mixed, (0, 2, 1))  # (1, 49, 64)
print("shapes:", *(tuple(each.shape) for each in (x, transposed, hidden, mixed, ours)))
print(f"largest difference from the layer: {float(ops.max(ops.abs(ours - expected))):.0e}")

# %% [markdown]
# The first Dense layer has 32 outputs. We call them *hidden units*. Each has T input weights, one
# for each patch. It computes a weighted sum of *one* channel over *all* patches. All channels share
# the same hidden units.
#
# A block of the model is token mixing, then *channel mixing*: an ordinary MLP on each token. Both
# add their result to the tokens, as in a ViT. The Mixer has no class token, so T stays 49: the
# classifier reads the mean of all tokens. And there are no position embeddings, because each place
# has its own weights. ("S/16" names a published size, whose numbers the arguments replace.
# `hidden_dim` is the number of channels, and `tokens_mlp_dim` the number of hidden units. That both
# are 64 is chance.)

# %%
keras.utils.set_random_seed(0)
model = km.MLPMixer(
    "S/16",
    input_shape=info.input_shape,
    patch_size=PATCH_SIZE,
    hidden_dim=64,
    depth=DEPTH,
    tokens_mlp_dim=64,
    channels_mlp_dim=128,
    num_classes=info.num_classes,
)
for each in model.layers:
    print(f"{each.name:22} {each.output.shape}")
print(f"{model.count_params():,} parameters")
units_before = km.token_mixing_units(model)

# %% [markdown]
# ## Training
#
# The recipe has a weight decay of 3.0, where 0.05 is usual: in each step, every matrix loses up to
# 0.6% of its value. At the end, less than 2% of the random numbers of the start are left. (One
# short run does not tell whether a Mixer or a ViT is better.)

# %%
recipe.compile(model, steps_per_epoch=len(train))
history = model.fit(train, epochs=EPOCHS, shuffle=False, verbose=0).history
print("Training accuracy by epoch:", ", ".join(f"{each:.1%}" for each in history["accuracy"]))
_, accuracy = model.evaluate(test, verbose=0)
print(f"Test accuracy: {accuracy:.1%}")

# %% [markdown]
# ## Hidden units as pictures
#
# The weights of a hidden unit, one for each patch, are laid out on the grid of patches. Red weights
# are positive, blue ones negative, and white is zero. The figure has the 8 units of the first block
# whose weights are largest after training, and the same units before. Each row has its own scale.
# The arrows at its ends say that a few weights are larger.
#
# Before training, all is noise. In the run shown here, the weights then became about seven times
# smaller, and some lie in regions. Unit 20 is red left of the middle and blue right of it, so it
# compares these parts of the image. Much of the rest still looks like noise, and like the noise
# that it was before.

# %%
name = "block_0_token_mixing"
units = km.token_mixing_units(model)
largest = np.argsort(-np.linalg.norm(units[name], axis=(1, 2)))[:8]
figure, axes = plt.subplots(2, 8, figsize=(10, 3), layout="constrained")
for row, label, each in zip(axes, ("before", "after"), (units_before, units), strict=True):
    scale = np.quantile(abs(each[name]), 0.99)  # not the maximum, which is a single weight
    for panel, unit in zip(row, largest, strict=True):
        drawn = panel.imshow(each[name][unit], cmap="RdBu_r", vmin=-scale, vmax=scale)
        panel.set(title=f"unit {unit}", xticks=[], yticks=[])
    row[0].set_ylabel(f"{label} training")
    figure.colorbar(drawn, ax=row, extend="both")
plt.show()

# %% [markdown]
# How much order is there? We measure the correlation between the weights of neighbouring patches.
# In noise it is near 0, in a smooth picture near 1. A Dense layer does not know which inputs are
# neighbours. A correlation above 0 was learned from the images: neighbouring patches often look
# alike, so their weights become alike.
#
# And how much of the start is still visible? The last number is the correlation between the weights
# after training and those before.

# %%


def neighbour_correlation(units):
    """Correlation of weights next to each other, left and right or above and below."""
    first = np.concatenate([units[:, :, :-1].ravel(), units[:, :-1].ravel()])
    second = np.concatenate([units[:, :, 1:].ravel(), units[:, 1:].ravel()])
    return np.corrcoef(first, second)[0, 1]


for each, after in units.items():
    before = units_before[each]
    print(f"{each}: neighbours {neighbour_correlation(before):5.2f} before training,", end=" ")
    print(f"{neighbour_correlation(after):5.2f} after;", end=" ")
    print(f"with the start {np.corrcoef(before.ravel(), after.ravel())[0, 1]:.2f}")

# %% [markdown]
# The start still shows, with correlations of 0.25 to 0.39 (0 would be no trace of it), although the
# weight decay left less than 2% of its numbers. So training seems to strengthen patterns that
# chance began. But the order among neighbours was not there at the start: the images taught it.

# %% [markdown]
# ## What one hidden unit computes
#
# We follow one unit of the first block, for one image. Its input is the output of the patch
# embedding, after the norm. The second panel shows one channel of it: a coarse picture of the
# image, here a negative. The unit multiplies it with its weights, patch by patch, adds everything
# up, adds its bias, and applies GELU (which passes large positive numbers, makes large negative
# ones 0, and shrinks small ones, never below -0.17). The result is *one number*: the activation of
# this unit in this channel. We choose the unit and the channel with the largest one. (The unit need
# not be one of the eight above.) Where picture and weights are both red or both blue, the product
# is positive.

# %%
block = model.get_layer(name)
(tokens,) = km.probe.features(model, image[None], "patch_embed")["patch_embed"]
(activations,) = km.probe.token_mixing_activations(model, image[None], name)[name]
unit, channel = np.unravel_index(activations.argmax(), activations.shape)

grid = km.probe.token_grid(model)
picture = grid.patches(np.asarray(block.norm(tokens)).T[channel])
weights = units[name][unit]
total = (picture * weights).sum() + float(block.mixer.fc1.bias[unit])
print(f"unit {unit}, channel {channel}: the sum is {total:.3f}", end=", ")
print(f"GELU of it {float(ops.gelu(total, approximate=False)):.3f}")
print(f"the activation in the model is {activations[unit, channel]:.3f}")
print(f"The product is positive for {(picture * weights > 0).sum()} of {picture.size} patches.")

# %%
figure, axes = plt.subplots(1, 4, figsize=(10, 2.5), layout="constrained")
axes[0].imshow(image.mean(axis=-1), cmap="gray")
axes[0].set_title("image")
parts = {f"channel {channel}": picture, f"weights of unit {unit}": weights}
for panel, (title, part) in zip(
    axes[1:], {**parts, "product": picture * weights}.items(), strict=True
):
    largest = abs(part).max()
    drawn = panel.imshow(part, cmap="RdBu_r", vmin=-largest, vmax=largest)
    figure.colorbar(drawn, ax=panel, shrink=0.8)
    panel.set_title(title)
for panel in axes:
    panel.set_axis_off()
plt.show()

# %% [markdown]
# The next figure has this number for all units (rows) and all channels (columns). A red spot is a
# unit whose pattern was found in that channel. The circle marks the number from above. The second
# Dense layer then gives each patch a weighted sum of these numbers. So each patch receives what was
# found anywhere in the image.

# %%
figure = km.visualize.plot_token_mixing_activations(model, image, name)
figure.axes[0].images[0].set_cmap("RdBu_r")
figure.axes[0].scatter(channel, unit, s=90, facecolors="none", edgecolors="black")
figure

# %% [markdown]
# ## What if the patches are shuffled?
#
# We put the patches of all images into the same new order. We cannot read these images.

# %%
order = np.random.default_rng(0).permutation(grid.rows * grid.columns)


def shuffled(images):
    """Images `(N, H, W, C)` with their patches in another order."""
    n, _, _, channels = images.shape
    P = PATCH_SIZE
    x = images.reshape(n, grid.rows, P, grid.columns, P, channels).swapaxes(2, 3)
    x = x.reshape(n, -1, P, P, channels)[:, order]
    x = x.reshape(n, grid.rows, grid.columns, P, P, channels).swapaxes(2, 3)
    return x.reshape(images.shape)


figure, axes = plt.subplots(1, 4, figsize=(8, 2.2), layout="constrained")
pairs = [*images[:2], *shuffled(images[:2])]
for panel, each, title in zip(axes, pairs, ["original"] * 2 + ["shuffled"] * 2, strict=True):
    panel.imshow(each.mean(axis=-1), cmap="gray")
    panel.set_title(title)
    panel.set_axis_off()
plt.show()

# %% [markdown]
# Nor can the trained Mixer: its weights expect each patch at its place, and its accuracy falls to
# chance, 10%. But we can shuffle its weights in the same way: the input weights of each hidden
# unit, and the output weights and biases. Then all logits are as before, because the mean over all
# tokens has no order. So nothing in the architecture says which patches are neighbours. Only the
# images can teach it, as the correlations above show.

# %%


def accuracy_on_shuffled(model):
    correct = [
        model.predict_on_batch(shuffled(np.asarray(batch))).argmax(axis=-1) == np.asarray(truth)
        for batch, truth in test
    ]
    return np.concatenate(correct).mean()


twin = keras.models.clone_model(model)
twin.set_weights(model.get_weights())
for i in range(DEPTH):
    mixer = twin.get_layer(f"block_{i}_token_mixing").mixer
    mixer.fc1.kernel.assign(np.asarray(mixer.fc1.kernel)[order])
    mixer.fc2.kernel.assign(np.asarray(mixer.fc2.kernel)[:, order])
    mixer.fc2.bias.assign(np.asarray(mixer.fc2.bias)[order])
print(f"original images, original weights: {accuracy:.1%}")
print(f"shuffled images, original weights: {accuracy_on_shuffled(model):.1%}")
print(f"shuffled images, shuffled weights: {accuracy_on_shuffled(twin):.1%}")
change = abs(model.predict_on_batch(images) - twin.predict_on_batch(shuffled(images))).max()
print(f"largest difference of a logit from the first case: {change:.0e}")

# %% [markdown]
# A ConvMixer (notebook 5) has kernels that are neighbourhoods, so shuffled images stay hard for it.
#
# ## To remember
#
# - **Token mixing** is an MLP on the transposed table of tokens.
# - A **hidden unit** of it is a picture with one weight for each patch. It asks one question of
#   the whole image, and gives one answer for each channel.
# - Attention computes its weights from the image. A Mixer has fixed weights, one for each place,
#   so it accepts only the image size for which it was built.
#
# ## Three things to try
#
# 1. Set `image = images[5]` and run the cells after the training again. Which unit has the largest
#    activation, and where do its weights fit the image?
# 2. Train with `weight_decay=0.05`. The test accuracy rises to 87.9%. Do the units still show what
#    was learned?
# 3. Train a new model on shuffled images (arrays in `fit`). Is its accuracy on shuffled test images
#    as good, and why?
