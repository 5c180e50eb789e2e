# %% [markdown]
# # 4. Mixer with attention: what a little attention adds
#
# Notebook 2 mixed tokens by attention, notebook 3 by a small MLP across the patches. The main
# difference: attention computes its weights from the image, so each image has its own map. The MLP
# has learned its weights, and they are the same for every image.
#
# A model can have both, because both fit into the same place of a block. `km.Hybrid` builds a
# model from a *pattern* with one letter for each block. `"MA"` is a Mixer block (`M`) and then a
# block with attention (`A`). This notebook asks: What does attention cost? What does it add to the
# accuracy? And what changes inside?

# %%
# %matplotlib inline
import time

import keras
import matplotlib.pyplot as plt
import numpy as np

import keras_mixers as km

# %% tags=["parameters"]
DATASET = "fashion_mnist"  # or "digits", which needs no download, or any other TFDS name
IMAGE_SIZE = 28  # pixels
PATCH_SIZE = 4  # pixels
EPOCHS = 2  # the digits are few images: they need 40
TRAININGS = 2  # of each pattern, each with another seed
IMAGE = 0  # which test image to look at

# %%
# The weight decay is strong, as in notebook 3, so that the weights have less noise.
recipe = km.Recipe(
    epochs=EPOCHS, batch_size=128, learning_rate=3e-3, weight_decay=2.0, clip_norm=1.0
)
options = {"image_size": IMAGE_SIZE, "batch_size": recipe.batch_size}
try:
    train, test, info = km.data.load(DATASET, **options)
except OSError:  # without a network
    train, test, info = km.data.load("digits", **options)
images = np.asarray(next(iter(test))[0])

# %% [markdown]
# ## Five patterns, one recipe
#
# Only the letters differ. Attention needs position embeddings (notebook 2), so all models have
# them, also those that could do without. Each pattern is trained twice, with different random
# numbers at the start and another order of the images. So we see how much is chance.
#
# The table has three measures of cost. A *multiply-add* is one product, added to a sum. The layers
# of a model need this many for one image. The seconds are processor time for all test images,
# summed over the cores. Other programs change this number less than the time on a clock.

# %%
patterns = ("A", "MM", "MA", "MMM", "MMA")
models, accuracies = {}, {}
print("pattern  seed  parameters  multiply-adds  seconds  test accuracy")
for pattern in patterns:
    for seed in range(TRAININGS):
        keras.utils.set_random_seed(seed)
        model = models[pattern, seed] = km.Hybrid(
            pattern,
            input_shape=info.input_shape,
            num_classes=info.num_classes,
            patch_size=PATCH_SIZE,
            hidden_dim=64,
            num_heads=4,
            mlp_dim=128,
            tokens_mlp_dim=64,
            position_embedding="learned",
        )
        recipe.compile(model, steps_per_epoch=len(train))
        model.fit(train, epochs=EPOCHS, shuffle=False, verbose=0)  # the dataset shuffles itself
        model.evaluate(test.take(1), verbose=0)  # because Keras compiles in the first call
        begin = time.process_time()
        accuracy = accuracies[pattern, seed] = 100 * model.evaluate(test, verbose=0)[1]
        seconds = time.process_time() - begin
        sizes = f"{model.count_params():10,}  {km.count_flops(model):13,}"
        print(f"{pattern:7}  {seed:4}  {sizes}  {seconds:7.1f}  {accuracy:11.1f} %")

# %%
names = {"MM": "only Mixer blocks", "A": "with attention"}  # for the legend, once a colour
figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
for pattern in patterns:
    x = km.count_flops(models[pattern, 0]) / 1e6
    y = [accuracies[pattern, seed] for seed in range(TRAININGS)]
    colour = "tab:orange" if "A" in pattern else "tab:blue"
    axes.plot([x] * TRAININGS, y, "o-", color=colour, label=names.get(pattern))
    axes.annotate(f'"{pattern}"', (x, y[0]), (8, -3), textcoords="offset points")
axes.set(title="Each dot is one training", ylabel="test accuracy, %")
axes.set_xlabel("multiply-adds for one image, in millions")
axes.margins(x=0.15)
axes.legend(loc="lower right")
axes.grid(alpha=0.3)
plt.show()

# %% [markdown]
# Two trainings of the same pattern differ by up to 0.6 points here, and those of `"A"` by 1.5. So
# read nothing into differences of this size.
#
# - A third block adds at most half a point: compare `"MMM"` with `"MM"`.
# - Attention costs more than a Mixer block. `"MA"` has 20 % more parameters than `"MM"`, and 29 %
#   more multiply-adds. `"MMA"` has 14 % and 19 % more than `"MMM"`. On this processor the seconds
#   show little of it: the same for `"MA"` and `"MM"`, about 10 % more for `"MMA"`.
# - It adds no accuracy here. `"MA"` is level with `"MM"`, and `"MMA"` with `"MMM"`, up to chance.
#   `"A"`, one block of attention on bare patches, is the worst.
#
# ## The attention after mixing
#
# In `"A"`, attention is the first thing that happens to the patches. In `"MA"` it comes after a
# Mixer block, so each token already knows something of the whole image. The pictures show from
# which patches the one in the red frame reads. Each panel has its own scale: read the numbers next
# to it. Head 0 of one model has nothing to do with head 0 of the other.

# %%
middle = (IMAGE_SIZE // PATCH_SIZE // 2,) * 2  # row and column
figure = km.visualize.plot_attention(models["A", 0], images[IMAGE], query=middle)
figure.suptitle('"A": what the patch in the middle reads')
figure

# %%
figure = km.visualize.plot_attention(models["MA", 0], images[IMAGE], query=middle)
figure.suptitle('"MA": what the patch in the middle reads, after mixing')
figure

# %% [markdown]
# In `"A"`, head 0 reads from the patch itself and from the hem below it, head 1 reads the shoulder
# on the left, head 2 a patch next to the collar, and head 3 reads the sleeves. In `"MA"`, heads 0
# and 2 read tokens at the hem, and head 3 some patches on the right. Head 1 reads from nearly all:
# its largest weight is about 0.03, and even attention has 1 / 49 = 0.02.
#
# One image and one query can mislead. The next cell computes two numbers for each head, over 128
# test images and all queries:
#
# - the **number of patches** from which a query effectively reads: 1 if one patch has all of the
#   weight, 49 if all have the same (2 to the power of the entropy in bits, notebook 1);
# - what two images have **in common**: the sum over the patches of the smaller of their two
#   weights. 100 % means that the map is the same for both. The weights of a Mixer always are.

# %%
print("pattern  head  patches  in common")
for pattern in ("A", "MA"):
    (maps,) = km.attention_maps(models[pattern, 0], images).values()  # (N, heads, T, T)
    patches = 2 ** -(maps * np.log2(maps + 1e-9)).sum(axis=-1)
    common = np.minimum(maps[0::2], maps[1::2]).sum(axis=-1)  # pairs of images
    for head in range(maps.shape[1]):
        in_common = 100 * common[:, head].mean()
        print(f"{pattern:7}  {head:4}  {patches[:, head].mean():7.1f}  {in_common:7.0f} %")

# %% [markdown]
# In `"MA"` each head reads from more patches, 23 to 36, than any head of `"A"`, 11 to 16. Whether
# mixing or the strong weight decay spreads them, this notebook does not show. In `"MA"` two images
# share 47 to 67 % of the attention. The rest depends on the image, while the weights of a Mixer are
# fixed.
#
# ## To remember
#
# - A pattern of `km.Hybrid` combines Mixer and attention blocks in any order.
# - Attention lets a model look at each image in another way, at a higher cost. On these small
#   images, after a short training, the Mixer did not need it.
#
# ## Three things to try
#
# 1. Put attention first: `"AM"`. The parts are the same as in `"MA"`. Is the accuracy the same?
#    What do the hidden units of its Mixer look like (`km.visualize.plot_token_mixing_units`)?
# 2. Two seeds are two samples. Train `"MM"` and `"MA"` with `TRAININGS = 5`. Is the difference
#    between the patterns larger than the differences within each?
# 3. Halve the patches: `PATCH_SIZE = 2` gives 196 tokens instead of 49. Which of the two mixers
#    gets more expensive? (Compare `km.count_flops` and `model.count_params()` before you train.)
