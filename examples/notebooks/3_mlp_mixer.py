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
# Transpose the table, and the same Dense layer mixes the patches of one channel. Transpose it
# back, and the shape is as before. This is *token mixing*. The cell writes it in four lines, and
# compares it with the layer `TokenMixing`.

# %%
T, D, hidden_units = 49, 64, 32
x = keras.random.normal((1, T, D), seed=0)  # one image: 49 tokens of 64 channels
layer = TokenMixing(tokens_mlp_dim=hidden_units)
expected = layer(x)

transposed = ops.transpose(x, (0, 2, 1))  # (1, 64, 49): one row for each channel
hidden = ops.gelu(layer.fc1(transposed), approximate=False)  # (1, 64, 32): the hidden units
mixed = layer.fc2(hidden)  # (1, 64, 49): back to the patches
ours = ops.transpose(mixed, (0, 2, 1))  # (1, 49, 64)
print("shapes:", *(tuple(each.shape) for each in (x, transposed, hidden, mixed, ours)))
print(f"largest difference from the layer: {float(ops.max(ops.abs(ours - expected))):.0e}")

# %% [markdown]
# Each hidden unit has T input weights, one for each patch. It computes a weighted sum of *one*
# channel over *all* patches. All channels share the same hidden units.
#
# A block of the model is token mixing, then *channel mixing*: an ordinary MLP on each token. Both
# add their result to the tokens, as in a ViT. There is no class token: the head reads the mean of
# all tokens. And there are no position embeddings, because each place has its own weights.

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
# The recipe has a strong weight decay: in each step, every matrix loses a small part of its value.
# What the training does not need fades away, also the random numbers of the start. So the weights
# that remain can be looked at. The last line states the accuracy on test images.

# %%
recipe.compile(model, steps_per_epoch=len(train))
model.fit(train, epochs=EPOCHS, shuffle=False, verbose=2)
_, accuracy = model.evaluate(test, verbose=0)
print(f"Test accuracy: {accuracy:.1%}")

# %% [markdown]
# ## Hidden units as pictures
#
# The weights of a hidden unit, one for each patch, are laid out on the grid of patches. Each small
# picture is one of the 64 units of the first block. Red weights are positive, blue ones are
# negative, and black is zero.
#
# At the start the weights were random noise. Now many units are nearly black, so the model hardly
# uses them. Others have stripes or regions: a unit that is red in one part and blue in another
# compares these parts of the image. Some noise is left.

# %%
km.visualize.plot_token_mixing_units(model, layer=0)

# %% [markdown]
# Is there really more order than at the start? We measure it: the correlation between the weights
# of neighbouring patches, in each block. In noise it is near 0. In a smooth picture it is near 1.
# For a Dense layer its inputs have no order, so it did not know which patches are neighbours. A
# correlation above 0 was learned from the images: neighbouring patches often look alike, so their
# weights become alike.

# %%


def neighbour_correlation(units):
    """Correlation of weights next to each other, left and right or above and below."""
    first = np.concatenate([units[:, :, :-1].ravel(), units[:, :-1].ravel()])
    second = np.concatenate([units[:, :, 1:].ravel(), units[:, 1:].ravel()])
    return np.corrcoef(first, second)[0, 1]


units = km.token_mixing_units(model)
for name, after in units.items():
    before = neighbour_correlation(units_before[name])
    print(f"{name}: {before:5.2f} before training, {neighbour_correlation(after):5.2f} after")

# %% [markdown]
# ## What one hidden unit computes
#
# We follow one unit of the first block, for one image. Its input is the output of the patch
# embedding, after the norm. The second panel shows one channel of it: a coarse picture of the
# image. The unit multiplies this picture with its weights, patch by patch, adds everything up,
# adds its bias, and applies GELU (which keeps positive numbers and suppresses negative ones). The
# result is *one number*: the activation of this unit in this channel.
#
# We choose the unit and the channel with the largest activation, so the picture fits the weights
# well: in most places both are positive (red) or both are negative (blue), so the product is
# positive.

# %%
name = "block_0_token_mixing"
block = model.get_layer(name)
(tokens,) = km.probe.features(model, images[IMAGE : IMAGE + 1], "patch_embed")["patch_embed"]
(activations,) = km.probe.token_mixing_activations(model, images[IMAGE : IMAGE + 1], name)[name]
unit, channel = np.unravel_index(activations.argmax(), activations.shape)

grid = km.probe.token_grid(model)
picture = grid.patches(np.asarray(block.norm(tokens)).T[channel])
weights = units[name][unit]
total = (picture * weights).sum() + float(block.mixer.fc1.bias[unit])
print(f"unit {unit}, channel {channel}: the sum is {total:.3f}", end=", ")
print(f"GELU of it {float(ops.gelu(total, approximate=False)):.3f}")
print(f"the activation in the model is {activations[unit, channel]:.3f}")

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
# The next figure has this number for all units (rows) and all channels (columns). A bright spot is
# a unit whose pattern was found in that channel. The second Dense layer then gives each patch a
# weighted sum of these numbers. So each patch learns what was found anywhere in the image.

# %%
km.visualize.plot_token_mixing_activations(model, image, layer=0)

# %% [markdown]
# ## What if the patches are shuffled?
#
# We cut all images into patches and put these back in another order, the same one for all images.
# For us the images become unreadable.

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
for panel, each in zip(axes, [*images[:2], *shuffled(images[:2])], strict=True):
    panel.imshow(each.mean(axis=-1), cmap="gray")
    panel.set_axis_off()
plt.show()

# %% [markdown]
# For the trained Mixer they are unreadable too: its weights expect each patch at its place. But we
# can shuffle its weights in the same way: the input weights of each hidden unit, and the output
# weights and biases. Then all outputs are as before. So a Mixer has no idea which patches are
# neighbours. If all images had been shuffled from the start, training would have been just as
# good, because random weights have no order either. (The mean over all tokens at the end has no
# order.)

# %%


def accuracy_on(change, model):
    """Accuracy on the test images after `change(images)`."""
    correct = total = 0
    for batch, truth in test:
        predicted = np.argmax(model.predict_on_batch(change(np.asarray(batch))), axis=-1)
        correct += (predicted == np.asarray(truth)).sum()
        total += len(truth)
    return correct / total


twin = keras.models.clone_model(model)
twin.set_weights(model.get_weights())
for i in range(DEPTH):
    mixer = twin.get_layer(f"block_{i}_token_mixing").mixer
    mixer.fc1.kernel.assign(np.asarray(mixer.fc1.kernel)[order])
    mixer.fc2.kernel.assign(np.asarray(mixer.fc2.kernel)[:, order])
    mixer.fc2.bias.assign(np.asarray(mixer.fc2.bias)[order])
print(f"original images, original weights: {accuracy_on(lambda images: images, model):.1%}")
print(f"shuffled images, original weights: {accuracy_on(shuffled, model):.1%}")
print(f"shuffled images, shuffled weights: {accuracy_on(shuffled, twin):.1%}")

# %% [markdown]
# A ConvMixer is different: its kernels are neighbourhoods, so shuffled images stay hard for it. A
# ViT without position embeddings is different again: its class token gives the same output for any
# order of the patches.
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
# 1. Draw the units of the last block (`layer=-1`). Are they smoother or rougher? Compare with the
#    printed correlations.
# 2. Train with `weight_decay=0.05`, as one usually would. What do the hidden units look like, and
#    what happens to the correlations and to the accuracy?
# 3. Train on shuffled images (`train.map(...)`, or arrays in `fit`). Is the accuracy the same?
