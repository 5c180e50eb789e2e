# %% [markdown]
# # 6. ConvMixer with Mixer: first local, then global
#
# The ConvMixer of notebook 5 looks at neighbours, with one kernel for all places. The Mixer of
# notebook 3 looks at the whole image at once, with one weight for each pair of a patch and a hidden
# unit. Each has what the other lacks:
#
# | | sees in one block | the same weights everywhere | works for other image sizes |
# |---|---|---|---|
# | ConvMixer, `C` | neighbours | yes | yes |
# | Mixer, `M` | all patches | no: each place has its own | no |
#
# `km.Hybrid` puts both into one model, a letter for each block. `"CM"` is first local and then
# global: the convolution describes each patch with its surroundings, and the Mixer decides what it
# means that this is at the top and that at the bottom. `"MC"` is the other way round. This notebook
# trains them next to the pure models `"CC"` and `"MM"`, looks inside, and then does something to
# the images that the models have never seen: it moves them.

# %%
# %matplotlib inline
import keras
import matplotlib.pyplot as plt
import numpy as np

import keras_mixers as km

# %% tags=["parameters"]
DATASET = "fashion_mnist"  # or "digits", which needs no network, or any TFDS name
IMAGE_SIZE = 28  # pixels
PATCH_SIZE = 4  # pixels
EPOCHS = 2

# %%
# The weight decay is strong, so that mostly what was learned is left in the weights.
recipe = km.Recipe(
    epochs=EPOCHS, batch_size=128, learning_rate=3e-3, weight_decay=2.0, clip_norm=1.0
)
try:
    train, test, info = km.data.load(DATASET, image_size=IMAGE_SIZE, batch_size=recipe.batch_size)
except OSError:  # without a network
    train, test, info = km.data.load("digits", image_size=IMAGE_SIZE, batch_size=recipe.batch_size)
images, labels = (np.asarray(each) for each in next(iter(test)))
print(info.num_train, "images to train,", info.num_validation, "to test,", info.input_shape)


# %% [markdown]
# ## Five words, one recipe
#
# All models have the same patches and the same width. The kernels are 3 x 3 patches, so that one
# block `C` is clearly local on the grid of 7 x 7.


# %%
def build(letters):
    return km.Hybrid(
        letters,
        input_shape=info.input_shape,
        num_classes=info.num_classes,
        patch_size=PATCH_SIZE,
        hidden_dim=64,
        mlp_dim=128,
        tokens_mlp_dim=64,
        kernel_size=3,
        name=letters,
    )


models = {}
print("letters  parameters  multiply-adds  test accuracy")
for letters in ("CC", "MM", "CM", "MC", "CCM"):
    keras.utils.set_random_seed(0)
    model = models[letters] = build(letters)
    recipe.compile(model, len(train))
    model.fit(train, epochs=recipe.epochs, shuffle=False, verbose=0)
    size, work = model.count_params(), km.count_flops(model)
    row = f"{size:10,}  {work:13,}  {100 * model.evaluate(test, verbose=0)[1]:11.1f} %"
    print(f"{letters:7}  {row}")

# %% [markdown]
# Each model was trained once, and two trainings of one model easily differ by half a point. With
# this in mind:
#
# - `"CM"` is more than a point better than both `"CC"` and `"MM"`, and cheaper than `"MM"`. A
#   second local block before the Mixer, `"CCM"`, adds another point.
# - The order matters. `"MC"` has nearly the same parts as `"CM"` and is about as good as the pure
#   models.
# - `"CC"` has the fewest parameters by far. The Mixer pays for having its own weights for each
#   place.
#
# Two epochs are a short training. Which of these differences last in a longer one is a question for
# more epochs and several seeds, and not for this table.
#
# ## Local, then global: how far a change reaches
#
# The next cell turns one patch of an image into its negative and asks after each block which tokens
# are different from before.

# %%
top = IMAGE_SIZE // PATCH_SIZE // 2 * PATCH_SIZE
changed = images[:1].copy()
changed[:, top : top + PATCH_SIZE, top : top + PATCH_SIZE] *= -1


def change(model):
    """How much each token changes after each block: one grid for each block."""
    blocks = km.feature_maps(model, blocks=range(len(model.name)), norm=False)
    before, after = blocks(images[:1]), blocks(changed)
    return [np.linalg.norm(b - a, axis=-1)[0] for a, b in zip(before, after, strict=True)]


figure, panels = plt.subplots(3, 4, figsize=(8, 6), layout="constrained")
for row, letters in zip(panels, ("CCM", "CM", "MC"), strict=True):
    row[0].imshow(changed[0], cmap="gray")
    row[0].set_title(f'"{letters}", one patch changed')
    for axes, letter, difference in zip(row[1:], letters, change(models[letters]), strict=False):
        reached = np.where(difference > 1e-4 * difference.max(), difference, np.nan)
        axes.imshow(np.log10(reached))
        axes.set_title(f"after {letter}")
for axes in panels.ravel():
    axes.set_axis_off()
plt.show()

# %% [markdown]
# Places left white did not change at all, yellow ones changed most (the colours are logarithmic).
# After a `C` the change has reached the eight neighbours, after the second `C` two patches in each
# direction. After an `M` it is everywhere, because each token of a Mixer can depend on each patch.
# So the order decides what the Mixer works with: in `"CM"` it combines descriptions of 3 x 3
# patches, in `"MC"` it gets the bare patches, and the convolution comes when there is nothing local
# left.
#
# ## What each half has learned
#
# The next pictures show the two halves of `"CM"`, its 3 x 3 kernels and then the hidden units of
# its Mixer, and for comparison the hidden units of the first block of `"MM"`, which works on bare
# patches.

# %%
km.visualize.plot_depthwise_kernels(models["CM"], 0, kernels=32)

# %%
km.visualize.plot_token_mixing_units(models["CM"], 0, units=32)

# %%
km.visualize.plot_token_mixing_units(models["MM"], 0, units=32)

# %% [markdown]
# Many kernels have one strong weight that is not in the middle, or a light and a dark side. The
# first kind moves a channel by one patch, the second compares a patch with its neighbour on one
# side.
#
# In the units of `"CM"` there are shapes: a bar on each side, where sleeves and trouser legs are, a
# block in the middle, a few patches against all others. Clothes are symmetric and stand upright, so
# such patches belong together. In the units of `"MM"` most of this is hidden between weights that
# look like noise. The scales differ too: the weights of `"CM"` are larger. This agrees with the
# idea that the convolution leaves the Mixer an easier problem, but it is one model of each kind and
# no proof.
#
# ## Moving the images
#
# All images of this dataset lie in the middle. What happens to a model if they do not? The next
# cell moves the test images to the right, a pixel at a time, and measures each model again. No
# model was trained on moved images.


# %%
def moved(images, pixels):
    """The images, moved to the right; the pixels that come in on the left are black."""
    return np.pad(images, ((0, 0), (0, 0), (pixels, 0), (0, 0)), constant_values=-1)[
        :, :, : images.shape[2]
    ]


batches = [(np.asarray(x), np.asarray(y)) for x, y in test.take(10)]  # 1,280 images
pixels = range(IMAGE_SIZE // 4 + 1)
figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
for letters, model in models.items():
    correct = [
        [np.argmax(model(moved(x, shift)), axis=-1) == y for x, y in batches] for shift in pixels
    ]
    axes.plot(pixels, [100 * np.concatenate(each).mean() for each in correct], ".-", label=letters)
axes.set(xlabel="moved to the right by, pixels", ylabel="test accuracy, %")
axes.legend()
axes.grid(alpha=0.3)
plt.show()

# %% [markdown]
# Each line is one model. On the left are the images as they are, on the right images moved by 7 of
# 28 pixels. Every model suffers, but not in the same way:
#
# - `"MM"` falls fastest. Moved by 3 pixels, which is less than a patch, an image is right in about
#   one of four cases. The Mixer has a weight for each place, and at its places there is now
#   something else.
# - `"CC"` falls as well for 2 pixels, comes back for 4, and falls again. A patch is 4 pixels wide.
#   Moved by exactly one patch, the image is cut into the same patches as before, one place further
#   to the right. The kernels are the same everywhere, and the mean at the end does not ask where a
#   token was. Moved by half a patch, it is cut into patches that the model has never seen.
# - The hybrids end in between, nearer to `"MM"`. One block that knows places is enough to depend on
#   them.
#
# So the Mixer's knowledge of places, which made `"CM"` better on centred images, is what it loses
# on others. Which mixer is best depends on whether place means something in your images.
#
# ## Three things to try
#
# 1. Replace `"CM"` by `"CA"`: attention instead of the Mixer as the global half. It needs no fixed
#    size. Is it better, and what does it cost? How does it stand being moved?
# 2. Train with `augmentation=km.data.Augmentation(translation=0.2)` in `km.data.load`, which moves
#    the training images at random. How much of the loss by moving is left?
# 3. `km.tuning.HyperHybrid(letters=["C", "M", "A"], depth=(1, 3), ...)` searches the words for you.
#    Let it find the best word with at most 50,000 parameters.
