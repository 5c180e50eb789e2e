# %% [markdown]
# # 1. Attention, from scores to heads
#
# A transformer computes with *tokens*: vectors of numbers. In a Vision Transformer a token
# describes one small square of the image, a *patch*. (Notebook 2 has one token without a patch.)
# Attention is the layer in which tokens exchange information. Each token compares itself with all
# tokens, and takes a weighted average of them.
#
# This notebook builds attention by hand, in NumPy, on the patches of one image. Nothing is trained.
# Notebook 2 trains a model and looks at the attention that it learned.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np

import keras_mixers as km
from keras_mixers.layers import MultiHeadSelfAttention

# %% tags=["parameters"]
DATASET = "fashion_mnist"  # or "digits", which needs no download, or any other TFDS name
IMAGE_SIZE = 28  # pixels
PATCH_SIZE = 4  # pixels
IMAGE = 5  # which test image to look at

# %% [markdown]
# ## An image becomes tokens
#
# We cut the image into patches, row by row. The pixels of a patch, written in one line, are a
# vector. These vectors are our tokens: T tokens of d numbers each. We shift and scale all numbers
# to mean 0 and variance 1. (A model normalizes each token by itself. Here one shift and scale for
# the whole image keeps dark patches dark.)

# %%
try:
    _, test, info = km.data.load(DATASET, image_size=IMAGE_SIZE)
except OSError:  # without a network
    _, test, info = km.data.load("digits", image_size=IMAGE_SIZE)
images, labels = (np.asarray(part) for part in next(iter(test)))
image = images[IMAGE].mean(axis=-1)  # grey, (H, W)


def cut(image):
    """An image (H, W) as patches: (rows, columns, P, P)."""
    rows, columns = (size // PATCH_SIZE for size in image.shape)
    return image.reshape(rows, PATCH_SIZE, columns, PATCH_SIZE).swapaxes(1, 2)


def join(patches):
    """The inverse of `cut`."""
    rows, columns = patches.shape[:2]
    return patches.swapaxes(1, 2).reshape(rows * PATCH_SIZE, columns * PATCH_SIZE)


patches = cut((image - image.mean()) / image.std())
rows, columns = patches.shape[:2]
tokens = patches.reshape(rows * columns, -1)
T, d = tokens.shape
print(f"{info.class_names[labels[IMAGE]]}: {rows} x {columns} patches, so T = {T} tokens, d = {d}")

# %% [markdown]
# From now on we follow one token. We call it the *query*, because it asks the others. Its patch is
# dark on the left and bright on the right, so it lies on a left edge. A red frame marks it.
#
# Left: the patches. Right: the tokens as a table, one row for each patch, one column for each pixel
# of a patch. This table is all that attention sees. It ignores the order of the rows, so it cannot
# know which patches were neighbours.

# %%
left, right = np.split(patches, [PATCH_SIZE // 2], axis=-1)
query = int((right.mean(axis=(2, 3)) - left.mean(axis=(2, 3))).argmax())


def frame(axes, x, y, width, height):
    corner = (x - 0.5, y - 0.5)
    axes.add_patch(plt.Rectangle(corner, width, height, fill=False, edgecolor="red", linewidth=2))


def mark(axes, size=1, gap=0):
    """Frame the query; a patch is `size` wide in the picture, with a `gap` to the next patch."""
    row, column = divmod(query, columns)
    frame(axes, column * (size + gap), row * (size + gap), size, size)
    axes.set(xticks=[], yticks=[])


figure, axes = plt.subplots(1, 2, figsize=(7.5, 3.2), layout="constrained")
gaps = np.pad(patches, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
axes[0].imshow(gaps.swapaxes(1, 2).reshape(rows * (PATCH_SIZE + 1), -1), cmap="gray")
mark(axes[0], PATCH_SIZE, gap=1)
axes[0].set(title=f"{T} patches", frame_on=False)
axes[1].imshow(tokens, cmap="gray", aspect="auto")
frame(axes[1], 0, query, d, 1)
axes[1].set(title="tokens", xlabel=f"{d} numbers", ylabel=f"{T} patches")
plt.show()

# %% [markdown]
# ## Four ways to compare two tokens
#
# A *score* is a number for two tokens: how much the *query* q wants to read from the *key* k. Every
# token takes its turn as the query, and each time all tokens are keys. Here q and k are the tokens
# themselves. (A model makes them from the tokens by learned matrices. We come to this below.) We
# compare four formulas. Nearly all transformers use `scaled_dot`, and so does notebook 2.
#
# | name | score | in words |
# |---|---|---|
# | `dot` | $q \cdot k$ | multiply number by number, and add |
# | `scaled_dot` | $q \cdot k / \sqrt{d}$ | the same, divided by $\sqrt{d}$ |
# | `bilinear` | $q \cdot W k$ | a matrix $W$ changes the key first |
# | `additive` | $w \cdot \tanh(q + k)$ | a small network with one hidden layer |
#
# In a model, training finds $W$ and $w$. Our $W$ mirrors a patch left to right, so a query asks for
# its mirror image. Our $w$ is 1 everywhere. The cell compares our scores with those of the layer
# `MultiHeadSelfAttention`.

# %%
pixels = np.arange(d).reshape(PATCH_SIZE, PATCH_SIZE)
W = np.eye(d)[pixels[:, ::-1].ravel()]
w = np.ones(d)
scores = {  # one row for each query, one column for each key: (T, T)
    "dot": tokens @ tokens.T,
    "scaled_dot": tokens @ tokens.T / np.sqrt(d),
    "bilinear": tokens @ (tokens @ W.T).T,
    "additive": np.tanh(tokens[:, None] + tokens[None]) @ w,
}
for name, ours in scores.items():
    layer = MultiHeadSelfAttention(num_heads=1, score=name)
    layer.build((1, T, d))
    if name in ("bilinear", "additive"):
        layer.score_kernel.assign([W if name == "bilinear" else w])  # one for each head
    batch = tokens[None, :, None].astype("float32")  # (images, tokens, heads, numbers)
    theirs = np.asarray(layer.attention_logits(batch, batch))[0, 0]
    print(f"{name}: {ours.shape}, largest difference from the layer {abs(theirs - ours).max():.0e}")

# %% [markdown]
# ## From scores to weights
#
# Scores can be any numbers. The function *softmax* makes weights of them. It takes the exponential
# of each score, and divides by the sum. So the weights of a query are positive and add up to 1.

# %%


def softmax(scores):
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


weights = {name: softmax(score) for name, score in scores.items()}
for name, weight in weights.items():
    print(f"{name}: the weights add up to {weight[query].sum():.3f}, max {weight[query].max():.2f}")

# %% [markdown]
# The query has the red frame. Each square is a key at its place in the image. Negative scores are
# blue, positive ones red. Each panel has its own scale.
#
# - `dot` likes patches that are bright where the query is bright, and dark where it is dark. Its
#   scores are large, so softmax gives almost everything to one patch, here the query itself.
# - `scaled_dot` has the same pattern with smaller numbers. More patches take part.
# - `bilinear` finds the opposite edges, bright on the left and dark on the right, because $W$
#   mirrors the key.
# - `additive` gives a positive score to every bright patch, because `tanh` grows with the key. Its
#   weights are on the brightest few, at the hips.

# %%
figure, axes = plt.subplots(2, 5, figsize=(11, 4.2), layout="constrained")
axes[0, 0].set_title("image")
for panel, label in zip(axes[:, 0], ("scores", "weights"), strict=True):
    panel.imshow(image, cmap="gray")
    panel.set_ylabel(label, fontsize="large")
    mark(panel, PATCH_SIZE)
for (above, below), name in zip(axes.T[1:], scores, strict=True):
    score, weight = (values[name][query].reshape(rows, columns) for values in (scores, weights))
    largest = abs(score).max()
    drawn = above.imshow(score, cmap="RdBu_r", vmin=-largest, vmax=largest)
    figure.colorbar(drawn, ax=above, shrink=0.8)
    figure.colorbar(below.imshow(weight, vmin=0), ax=below, shrink=0.8)
    above.set_title(name)
    mark(above)
    mark(below)
plt.show()

# %% [markdown]
# ## What attention returns
#
# Each token gives away a vector, its *value* v. A query receives the average of all values, with
# its weights: weights (T, T) times values (T, d). Here the patches themselves are the values, so
# the result is again an image.
#
# With `dot`, a patch becomes nearly a copy of the patch with the largest score: often itself, or a
# brighter one that looks alike. With `scaled_dot`, it is an average of similar patches, so details
# vanish. With `bilinear`, it looks like its mirror image: the edges are on the wrong side. With
# `additive`, the image becomes a negative. A dark query receives the brightest patches. For a
# bright query, `tanh(q + k)` is near 1 for many keys, so its weights are nearly equal, and dark
# patches darken the average.

# %%
figure, axes = plt.subplots(1, 5, figsize=(10, 2.3), layout="constrained")
results = {name: weight @ tokens for name, weight in weights.items()}
for panel, (name, result) in zip(axes, {"original": tokens, **results}.items(), strict=True):
    picture = join(result.reshape(patches.shape))
    panel.imshow(picture, cmap="gray", vmin=tokens.min(), vmax=tokens.max())
    panel.set_title(name)
    panel.set_axis_off()
plt.show()

# %% [markdown]
# A layer does not compare the tokens as they are. Three matrices with learned weights make a
# query, a key and a value from each token: $q = x W_q$, $k = x W_k$, $v = x W_v$. So a token can
# ask for one thing, answer to another, and give away a third.
#
# ## Why the dot product is divided by the square root of d
#
# A dot product is a sum of d products. If all numbers are independent with mean 0 and variance 1,
# each product has variance 1, and their sum has variance d. So wide tokens have larger scores than
# narrow ones, for no good reason. Their standard deviation is the root of the variance, $\sqrt{d}$.
# Divided by it, the scores have variance 1 for every d. We measure this with random queries and
# keys:
#
# - the **variance** of the scores,
# - the **entropy** of the weights in bits. 2 to the power of the entropy is the number of keys
#   that a query effectively reads. If all T weights are equal, the entropy is $\log_2 T$.
# - the **slope** of softmax, the sum of $p (1 - p)$ over the weights p: how much the weights
#   change when their scores change. If it is 0, no gradient passes, and training cannot change the
#   scores.

# %%
random = np.random.default_rng(0)
widths = 4 ** np.arange(1, 6)
measured = {"dot": [], "scaled_dot": []}
for width in widths:
    q, k = random.normal(size=(1000, width)), random.normal(size=(T, width))
    for name, score in (("dot", q @ k.T), ("scaled_dot", q @ k.T / np.sqrt(width))):
        p = softmax(score)
        entropy = -(p * np.log2(p + 1e-30)).sum(axis=1).mean()
        slope = (p * (1 - p)).sum(axis=1).mean()
        measured[name].append((score.var(), entropy, slope))
        print(f"d = {width:4}  {name:10}  variance {score.var():7.2f}", end="  ")
        print(f"keys read {2**entropy:5.1f} of {T}  slope {slope:.2f}")

# %% [markdown]
# With `dot`, the variance grows like d. The entropy falls towards 0: a query then reads only one
# key, chosen by chance. The slope falls too, at d = 1024 to 0.07, so training would start nearly
# without gradients. With `scaled_dot`, all three are nearly the same for every d.

# %%
figure, axes = plt.subplots(1, 3, figsize=(10, 2.8), layout="constrained")
for name, values in measured.items():
    for panel, column in zip(axes, np.transpose(values), strict=True):
        panel.plot(widths, column, marker="o", label=name)
for panel, title in zip(axes, ("variance of scores", "entropy (bits)", "slope"), strict=True):
    panel.set(title=title, xlabel="d", xscale="log")
axes[0].set_yscale("log")
axes[1].axhline(np.log2(T), color="gray", linestyle="--", label="equal weights")
axes[1].legend()
axes[1].set_ylim(0)
axes[2].set_ylim(0, 1)
plt.show()

# %% [markdown]
# ## One head, several heads
#
# One query has one set of weights, so it receives one average. But a patch may need two things:
# what patches that look alike have, and what its neighbours have. Therefore a layer has several
# *heads*. A head is one attention with its own queries, keys and values, so it has its own T x T
# table of weights. If a token has D numbers, a layer with H heads uses d = D / H numbers in each
# head. It writes the results of all heads next to each other, which gives D numbers again, and one
# more matrix mixes them.
#
# To see it, we append to each token a second half that describes its place: sine and cosine of its
# row and of its column. (Notebook 2 *adds* such a vector.) The matrices of queries, keys and values
# change nothing here: they are the identity. So with two heads, head 0 sees the pixels and head 1
# sees the place.

# %%
row, column = np.divmod(np.arange(T), columns)
angles = np.pi * np.stack([row / rows, column / columns])
places = 2 * np.concatenate([np.sin(angles), np.cos(angles)]).T  # (T, 4)
places = np.tile(places, d // 4)  # repeated, so that both halves of a token have d numbers
both = np.concatenate([tokens, places], axis=1).astype("float32")[None]
identity = np.eye(2 * d)

maps = []
for num_heads in (1, 2):
    layer = MultiHeadSelfAttention(num_heads)
    layer.build(both.shape)
    layer.qkv.kernel.assign(np.concatenate([identity] * 3, axis=1))  # queries, keys, values
    result, weight = layer(both, return_attention_scores=True)
    print(f"heads: {num_heads}, weights {weight.shape}, result {result.shape},", end=" ")
    print(f"parameters {layer.count_params():,}")
    maps += list(np.asarray(weight)[0, :, query])

# %% [markdown]
# One head adds the scores of both halves, so a key gets weight only if it looks like the query
# *and* is near. Two heads answer both questions, each with its own weights. Head 0 finds the
# patches that look alike. Head 1 is a *near* head: it reads from the query and its neighbours. Two
# heads have as many parameters as one, because each has half of the numbers.

# %%
figure, axes = plt.subplots(1, 4, figsize=(10, 2.4), layout="constrained")
axes[0].imshow(image, cmap="gray")
axes[0].set_title("image")
mark(axes[0], PATCH_SIZE)
titles = ("1 head: both", "head 0 of 2: pixels", "head 1 of 2: place")
for panel, heat, title in zip(axes[1:], maps, titles, strict=True):
    figure.colorbar(panel.imshow(heat.reshape(rows, columns), vmin=0), ax=panel, shrink=0.8)
    panel.set_title(title)
    mark(panel)
plt.show()

# %% [markdown]
# ## To remember
#
# - A **token** is a vector, nearly always the description of one patch.
# - A **score** compares a query with a key. **Softmax** turns the scores of a query into weights.
# - **Attention** returns, for each token, the average of all values with these weights.
# - A **head** is one such attention. A layer has several of them side by side.
#
# ## Three things to try
#
# 1. Set `PATCH_SIZE = 2` and run all cells. How many tokens are there, and how many weights does
#    one head compute now?
# 2. Choose another $W$, for example one that mirrors a patch from top to bottom, and predict which
#    patches the query finds.
# 3. Divide the scores by 0.1 or by 10 before softmax. When does attention copy one patch, and when
#    does it blur the whole image?
