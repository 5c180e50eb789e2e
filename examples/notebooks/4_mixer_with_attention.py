# %% [markdown]
# # 4. Mixer with attention: what a little attention adds
#
# Notebook 2 mixed tokens by attention, notebook 3 by a small MLP across the patches. They differ in
# one thing. Attention computes its weights from the image, so each image has its own map. The MLP
# has learned its weights once: after the training they are the same for every image.
#
# Nothing forces a model to choose. A block is `x + mixer(norm(x))`, followed by an MLP across the
# channels, and both mixers fit into the same place. `km.Hybrid` builds a model from a word with one
# letter for each block: `"MMA"` is two Mixer blocks (`M`) and then one with attention (`A`).
#
# This notebook trains five such words and asks: What does attention cost? What does it add to the
# accuracy? And what changes inside, in the attention and in the Mixer?

# %%
# %matplotlib inline
import time

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
# All models have the same patches, the same width and the same training. Only the letters differ.
# `"M"` and `"A"` have one block, `"MM"` and `"MA"` two, `"MMA"` three.
#
# The table has two measures of cost. Multiply-adds are counted from the shapes of the layers, for
# one image. The seconds are measured: processor time to classify all test images, summed over the
# cores. They depend less than a clock on what else the computer does.


# %%
def build(letters):
    return km.Hybrid(
        letters,
        input_shape=info.input_shape,
        num_classes=info.num_classes,
        patch_size=PATCH_SIZE,
        hidden_dim=64,
        num_heads=4,
        mlp_dim=128,
        tokens_mlp_dim=64,
        name=letters,
    )


models, accuracy, seconds = {}, {}, {}
for letters in ("M", "A", "MM", "MA", "MMA"):
    keras.utils.set_random_seed(0)
    model = models[letters] = build(letters)
    recipe.compile(model, len(train))
    model.fit(train, epochs=recipe.epochs, shuffle=False, verbose=0)
    model.evaluate(test.take(1), verbose=0)  # Keras compiles the model in the first call
    begin = time.process_time()
    accuracy[letters] = 100 * model.evaluate(test, verbose=0)[1]
    seconds[letters] = time.process_time() - begin

print("letters  parameters  multiply-adds   seconds  test accuracy")
for letters, model in models.items():
    size, work = model.count_params(), km.count_flops(model)
    row = f"{size:10,}  {work:13,}  {seconds[letters]:8.1f}  {accuracy[letters]:11.1f} %"
    print(f"{letters:7}  {row}")

# %%
figure, panels = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
costs = {
    "parameters": {letters: model.count_params() for letters, model in models.items()},
    "seconds to classify the test images": seconds,
}
for axes, (name, cost) in zip(panels, costs.items(), strict=True):
    for letters, value in cost.items():
        colour = "tab:orange" if "A" in letters else "tab:blue"
        axes.errorbar(value, accuracy[letters], yerr=0.5, fmt="o", color=colour, capsize=3)
        axes.annotate(letters, (value, accuracy[letters]), (6, 6), textcoords="offset points")
    axes.set(xlabel=name, xlim=(0, 1.15 * max(cost.values())))
    axes.grid(alpha=0.3)
panels[0].set_ylabel("test accuracy, %")
plt.show()

# %% [markdown]
# Each dot is a model: blue without attention, orange with it. The bars are half a point up and
# down. That much two trainings of the same model easily differ, so read nothing into dots whose
# bars overlap.
#
# - A second block helps: `"MM"` and `"MA"` are about two points or more above `"M"` and `"A"`.
# - It does not matter which second block. `"MM"` and `"MA"` have the same accuracy within the bars,
#   and `"MA"` has more parameters and takes longer.
# - Attention on bare patches, `"A"`, is the worst of the five.
# - `"MMA"` has the highest dot and the highest cost. Its bar overlaps that of `"MM"`.
#
# So in this short training a little attention adds no accuracy that stands out from chance. The
# images are small and centred, and with weights for each place a Mixer has what it needs for them.
# What attention does add is seen inside.
#
# ## The attention after mixing
#
# In `"A"`, attention is the first thing that happens to the patches. In `"MA"` and `"MMA"` it comes
# after Mixer blocks, so that each token it compares already knows something of the whole image. The
# next three pictures show the attention of the patch in the middle of one test image, in the three
# models. As in notebook 2, bright patches are those from which it reads. `mean` is the mean of the
# four heads.

# %%
middle = (IMAGE_SIZE // PATCH_SIZE // 2,) * 2  # row and column
km.visualize.plot_attention(models["A"], images[0], query=middle)

# %%
km.visualize.plot_attention(models["MA"], images[0], query=middle)

# %%
km.visualize.plot_attention(models["MMA"], images[0], query=middle)

# %% [markdown]
# The heads of `"A"` point. From the middle of the coat they do not read its neighbours: each reads
# a few patches at the outline, such as the shoulder at the top, the hem at the bottom or the end of
# a sleeve. There one kind of clothing differs from another. Some heads of `"MA"` and `"MMA"` point
# to the same places. The pictures are of different models, so head 0 of one has nothing to do with
# head 0 of the next.
#
# After mixing there is another kind of head, one in `"MA"` and two in `"MMA"`: it reads all patches
# about equally. Look at its scale: its largest weight is about 0.02, which is 1 / 49. Such a head
# adds the mean of the image, whatever is on it.
#
# One image and one query can mislead. The next cell computes three numbers over 128 test images,
# all queries and all heads:
#
# - the **distance** in pixels between a patch and what it reads, weighted by the attention
#   (notebook 2);
# - the **number of patches** over which the attention is spread: 1 if one patch has all of the
#   weight, 49 if all have the same;
# - what two images have **in common**: for a query and a head, the sum over the patches of the
#   smaller of the two weights. 100 % means that the map is the same for both, as it is in a Mixer.

# %%
print("letters  distance  patches  in common")
for letters in ("A", "MA", "MMA"):
    model = models[letters]
    (maps,) = km.attention_maps(model, images, layers=-1).values()
    (distance,) = km.probe.attention_distance(model, images, layers=-1).values()
    patches = np.exp(-(maps * np.log(maps + 1e-9)).sum(-1))
    common = np.minimum(maps[0::2], maps[1::2]).sum(-1)
    numbers = f"{distance.mean():6.1f} px{patches.mean():9.1f}{100 * common.mean():9.0f} %"
    print(f"{letters:7}{numbers}")

# %% [markdown]
# The distance is the same in all three: attention after mixing is neither more local nor less. It
# is spread over more patches, because of the heads that average. The last column is what no Mixer
# has: about half of the attention goes to the same places in any two images, and the rest depends
# on the image. In `"MMA"` this rest is largest, although two of its heads had an even map above.
# Its other heads follow the image all the more.
#
# ## The Mixer before attention
#
# Does a Mixer block learn something else if attention follows? The next two pictures show the 32
# strongest hidden units of the first block: in `"MM"`, where a second Mixer follows, and in `"MA"`.
# Each small map has the weight of the unit for each patch, as in notebook 3.

# %%
km.visualize.plot_token_mixing_units(models["MM"], 0, units=32)

# %%
km.visualize.plot_token_mixing_units(models["MA"], 0, units=32)

# %% [markdown]
# In both pictures most units look like noise, with some patches of one colour next to each other,
# and there is no difference that the eye could find. The next cell measures as in notebook 3: the
# correlation of the weights of neighbouring patches.


# %%
def neighbour_correlation(units):
    """The correlation of weights next to each other: near 0 for noise, near 1 if smooth."""
    first = np.concatenate([units[:, :, :-1].ravel(), units[:, :-1].ravel()])
    second = np.concatenate([units[:, :, 1:].ravel(), units[:, 1:].ravel()])
    return np.corrcoef(first, second)[0, 1]


print("letters  block  correlation of neighbours")
for letters in ("M", "MM", "MA", "MMA"):
    for block, units in enumerate(km.token_mixing_units(models[letters]).values()):
        print(f"{letters:7}{block:7}{neighbour_correlation(units):27.2f}")

# %% [markdown]
# All values are above 0: the Mixers have learned that neighbours belong together, before attention
# as well as without it. The first blocks lie close together, whatever follows them, and a second
# block is a little rougher than the first of the same model. Attention after a Mixer has not
# changed its units in a way that one training could show.
#
# In short: attention and Mixer can be put together in any order without new code. In this study the
# attention makes the model look at each image in its own way, at a higher cost, and the accuracy
# stays that of the Mixer. Larger images, more data and a longer training can change that, and the
# questions to ask stay the same.
#
# ## Three things to try
#
# 1. Put attention first: `"AM"` and `"AMM"`. The parts are the same. Is the accuracy, and what do
#    the units of a Mixer look like that follows attention?
# 2. One seed is one throw of the dice. Train `"MM"` and `"MA"` with three seeds each. How far apart
#    are three models with the same word, and is the difference between the words larger?
# 3. Halve the patches: `PATCH_SIZE = 2` gives 196 tokens instead of 49. Which of the two mixers
#    gets more expensive? (Compare `km.count_flops` and `model.count_params()` before you train.)
