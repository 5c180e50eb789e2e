# %% [markdown]
# # 5. ConvMixer: is it the patches?
#
# ViT and MLP-Mixer cut an image into patches, and then mix tokens and channels in turn. They differ
# in how they mix tokens. Perhaps this matters little, and the patches matter most? The authors of
# ConvMixer asked this question. Their model has patches too, but mixes only by convolutions:
#
# 1. **Patch embedding**: a convolution whose kernel and stride are one patch. The tokens stay on
#    their grid, like the pixels of a small picture with many channels.
# 2. **Depthwise convolution**: mixes tokens. Each channel has one small kernel and sees only
#    itself. A kernel of 5 x 5 reaches two patches far in each direction.
# 3. **Pointwise convolution** (1 x 1): mixes channels. It is the same Dense layer on each token.
#
# Steps 2 and 3 are a block, and blocks repeat. On a large grid, no block lets a token look across
# the whole image.
#
# Source: "Patches Are All You Need?", arXiv 2201.09792.

# %%
# %matplotlib inline
import dataclasses
import time

import keras
import matplotlib.pyplot as plt
import numpy as np

import keras_mixers as km

# %% tags=["parameters"]
DATASET = "fashion_mnist"  # or "digits", which needs no network, or any TFDS name
IMAGE_SIZE = 28  # pixels
PATCH_SIZES = (2, 4, 7)  # pixels
EPOCHS = 2

# %%
recipe = km.Recipe(epochs=EPOCHS, batch_size=128, learning_rate=5e-3, clip_norm=1.0)
try:
    train, test, info = km.data.load(DATASET, image_size=IMAGE_SIZE, batch_size=recipe.batch_size)
except OSError:  # without a network
    train, test, info = km.data.load("digits", image_size=IMAGE_SIZE, batch_size=recipe.batch_size)
images = np.asarray(next(iter(test))[0])
print(info.num_train, "images to train,", info.num_validation, "to test,", info.input_shape)

# %% [markdown]
# ## The whole model in plain Keras
#
# The next cell writes a ConvMixer with Keras's own layers. Read it as the list above. Only the
# depthwise step has a residual, `x + mixed`. After each convolution there is a GELU (which keeps
# positive numbers and suppresses negative ones) and a BatchNorm. A ViT and a Mixer have a LayerNorm
# before each step instead.
#
# `km.ConvMixer` has the same layers, and so the same number of parameters. It gives them names, so
# that the tools of this package find them.


# %%
def plain_conv_mixer(width, depth, kernel_size, patch_size):
    def activated(x):
        return keras.layers.BatchNormalization()(keras.activations.gelu(x))

    inputs = keras.Input(info.input_shape)
    x = activated(keras.layers.Conv2D(width, patch_size, strides=patch_size)(inputs))
    for _ in range(depth):
        mixed = activated(keras.layers.DepthwiseConv2D(kernel_size, padding="same")(x))
        x = activated(keras.layers.Conv2D(width, 1)(x + mixed))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(info.num_classes)(x))


def conv_mixer(patch_size, kernel_size=5):
    keras.utils.set_random_seed(0)
    return km.ConvMixer(
        "256/8-k5-p2",  # a published size; the values below replace its own
        input_shape=info.input_shape,
        num_classes=info.num_classes,
        patch_size=patch_size,
        hidden_dim=64,
        depth=3,
        kernel_size=kernel_size,
    )


print(f"{plain_conv_mixer(64, 3, 5, PATCH_SIZES[1]).count_params():,} parameters by hand")
print(f"{conv_mixer(PATCH_SIZES[1]).count_params():,} parameters in km.ConvMixer")

# %% [markdown]
# ## Is it the patches?
#
# The next cell trains five models on the same images, each time in another order:
#
# - a ConvMixer with three sizes of patches. Smaller patches make more tokens of an image. The
#   kernels are 5 x 5 *patches* each time, so with smaller patches a kernel covers fewer pixels.
# - a ConvMixer whose kernels are 1 x 1. It has patches, but each token sees only its own patch
#   until the mean at the end.
# - a ViT of two blocks with the same patches and width. The learning rate of the ConvMixers is too
#   large for a ViT, so it gets a smaller one.
#
# The seconds are the processor time to classify all test images, summed over the cores. Other
# programs change this number less than the time on a clock.


# %%
def vit(patch_size):
    keras.utils.set_random_seed(0)
    return km.ViT(
        "Ti/16",
        input_shape=info.input_shape,
        num_classes=info.num_classes,
        patch_size=patch_size,
        hidden_dim=64,
        depth=2,
        num_heads=4,
        mlp_dim=128,
        pool="gap",
    )


middle = PATCH_SIZES[1]
models = {f"ConvMixer, {size} x {size} pixels": conv_mixer(size) for size in PATCH_SIZES}
models[f"ConvMixer, {middle} x {middle}, kernels 1 x 1"] = conv_mixer(middle, kernel_size=1)
models[f"ViT, {middle} x {middle}"] = vit(middle)

print("model, patches                    parameters  seconds  test accuracy")
for name, model in models.items():
    learning_rate = 3e-3 if name.startswith("ViT") else recipe.learning_rate
    dataclasses.replace(recipe, learning_rate=learning_rate).compile(model, len(train))
    model.fit(train, epochs=recipe.epochs, shuffle=False, verbose=0)
    model.evaluate(test.take(1), verbose=0)  # Keras compiles the model in the first call
    begin = time.process_time()
    accuracy = 100 * model.evaluate(test, verbose=0)[1]
    seconds = time.process_time() - begin
    print(f"{name:32}{model.count_params():12,}{seconds:9.1f}{accuracy:13.1f} %")

# %% [markdown]
# - **Patches without mixing** give 82 %. With kernels of 1 x 1 no token knows its neighbours, and
#   still four of five images are classified correctly. Kernels of 5 x 5 add six points, for
#   28 % more parameters.
# - **Patches of 2 pixels** are better than those of 4 by about a point, and take twice as long. One
#   training does not separate 4 and 7 pixels: two trainings of one model often differ by half a
#   point. Only the first convolution depends on the size of the patches, so the number of
#   parameters is nearly the same.
# - **The ViT** has the same patches as the ConvMixers with 4 x 4 pixels, and three times as many
#   parameters, but is four points below the one with mixing. So here it is not only the patches.
#   One possible reason: the structure of a ConvMixer already says that neighbours matter and that
#   all places are alike. A ViT has to learn both from the images, which takes more of them, or more
#   epochs. (The two also differ in depth, norms and learning rate, so this is one example and not
#   a proof.)
#
# ## What the depthwise kernels look for
#
# A depthwise kernel has one weight for each of the 25 patches around a patch, for one channel. It
# says from where the channel takes its new value. The first picture has 30 kernels of block 0 of
# the ConvMixer with patches of 4 pixels, the second of its last block. Red weights add, blue ones
# subtract, and black is zero. The two pictures have different scales.

# %%
model = models[f"ConvMixer, {middle} x {middle} pixels"]
km.visualize.plot_depthwise_kernels(model, 0, kernels=30)

# %%
km.visualize.plot_depthwise_kernels(model, -1, kernels=30)

# %% [markdown]
# In block 0 most kernels look like noise, and some have one or two strong weights: they add a copy
# of the channel that is moved by a patch or two. In the last block they are smoother. About eight
# have a blue middle and red around it: such a kernel compares a place with its surroundings.
#
# ## How far a token sees
#
# Now we take the model with patches of 2 pixels. A kernel of 5 x 5 reaches two patches far. The
# next block reaches two more, from tokens that already know their neighbours. So what a token sees,
# its **receptive field**, grows with each block: 5 x 5 patches, 9 x 9, 13 x 13. The next cell shows
# it from the other side. It makes one patch of an image white, in the red frame. Then it compares
# the tokens after each block with those of the unchanged image.

# %%
size = PATCH_SIZES[0]
model = models[f"ConvMixer, {size} x {size} pixels"]
place = IMAGE_SIZE // size // 2  # the row and the column of the changed patch
pixels = slice(place * size, (place + 1) * size)
changed = images[:1].copy()
changed[:, pixels, pixels] = 1.0  # white
before, after = (km.probe.features(model, each) for each in (images[:1], changed))
changes = {name: np.linalg.norm(after[name] - before[name], axis=-1)[0] for name in before}
largest = max(change.max() for change in changes.values())

figure, panels = plt.subplots(1, 4, figsize=(10, 2.9), layout="constrained")
panels[0].imshow(changed[0], cmap="gray", extent=(-0.5, 2 * place - 0.5, 2 * place - 0.5, -0.5))
panels[0].set_title("the changed image")
for block, (axes, change) in enumerate(zip(panels[1:], changes.values(), strict=True)):
    logarithm = np.log10(np.where(change > 0, change / largest, np.nan))
    drawn = axes.imshow(logarithm, vmin=-3, vmax=0)
    axes.set_title(f"block {block}: {np.count_nonzero(change)} patches")
for axes in panels:
    axes.set(xticks=[], yticks=[])
    corner = (place - 0.5, place - 0.5)
    axes.add_patch(plt.Rectangle(corner, 1, 1, fill=False, edgecolor="red", linewidth=2))
scale = figure.colorbar(drawn, ax=panels, ticks=range(-3, 1), label="change / largest")
scale.ax.set_yticklabels(f"1/{10**power:,}" for power in range(3, -1, -1))
plt.show()

# %% [markdown]
# On the right are the 14 x 14 tokens after each block. A square is white if its token did not
# change at all. The numbers are 5 x 5, 9 x 9 and 13 x 13, as the arithmetic says. The colours are
# logarithmic, relative to the largest change of all. Each time the change is largest near its
# origin: a receptive field has a centre and fades to its edge.
#
# Three blocks reach 6 patches in each direction. The grid has 14 x 14, so even the token in the
# middle misses a row and a column, and a token in a corner sees only 7 x 7. The published
# ConvMixers for ImageNet have kernels of 7 to 9 patches and 12 to 32 blocks, so they reach much
# further. In a Mixer, each token sees all others after one block. (Notebook 6 shows this.)
#
# ## To remember
#
# - A ConvMixer is a short stack of convolutions: one cuts the patches, and each block has one that
#   mixes neighbouring tokens and one that mixes channels.
# - A token sees its neighbourhood, which grows with each block.
# - On these small images, patches without any mixing went far, and mixing neighbours added six
#   points.
#
# ## Three things to try
#
# 1. Give the model with patches of 2 pixels a kernel of 9 x 9 and one block, or of 3 x 3 and four
#    blocks. Both see 9 x 9 patches. Which is better, and which is faster?
# 2. Train the ViT and the ConvMixer with `EPOCHS = 10`. Does the difference between them shrink?
# 3. Double `hidden_dim`. Then look at the depthwise kernels again: are there new ones, or more of
#    the same?
