# %% [markdown]
# # 1. Attention, from scores to heads
#
# A transformer computes with *tokens*: vectors of numbers. In a Vision Transformer each token
# describes one small square of the image, a *patch*. Attention is the layer in which tokens
# exchange information. Each token compares itself with all tokens, and takes a weighted average of
# them.
#
# This notebook builds attention by hand, in a few lines of NumPy, on the patches of one image.
# Nothing is trained here. Notebook 2 trains a whole model and looks at the attention it learned.

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
# so that their mean is 0 and their variance is 1, as a normalization layer does in a model.

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
# From now on we follow one token, the *query*. We choose a patch that is dark on its left and
# bright on its right, so it lies on a left edge. The red frame marks it.
#
# The first picture is the image. The second shows the patches with gaps between them. The third
# shows the tokens as a table: one row for each patch, one column for each pixel of a patch. This
# table is all that attention sees. It has no rows and columns of patches any more.

# %%
left, right = np.split(patches, [PATCH_SIZE // 2], axis=-1)
query = int((right.mean(axis=(2, 3)) - left.mean(axis=(2, 3))).argmax())


def mark(axes, size=1):
    """Draw a red frame around the query's patch; `size` is the width of a patch in the picture."""
    row, column = divmod(query, columns)
    corner = (column * size - 0.5, row * size - 0.5)
    axes.add_patch(plt.Rectangle(corner, size, size, fill=False, edgecolor="red", linewidth=2))
    axes.set_axis_off()


figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
axes[0].imshow(image, cmap="gray")
mark(axes[0], PATCH_SIZE)
axes[0].set_title("image")
gaps = np.pad(patches, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
axes[1].imshow(gaps.swapaxes(1, 2).reshape(rows * (PATCH_SIZE + 1), -1), cmap="gray")
axes[1].set_axis_off()
axes[1].set_title(f"{T} patches")
axes[2].imshow(tokens, cmap="gray", aspect="auto")
axes[2].set(title="tokens", xlabel=f"{d} numbers", ylabel=f"{T} patches")
plt.show()

# %% [markdown]
# ## Four ways to compare two tokens
#
# A *score* says how well a token (the *key* k) fits the question of another token (the *query* q).
# Every token is the query once, and every token is a key. Four formulas are common:
#
# | name | score | in words |
# |---|---|---|
# | dot | $q \cdot k$ | multiply number by number, and add |
# | scaled dot | $q \cdot k / \sqrt{d}$ | the same, divided by $\sqrt{d}$ |
# | bilinear | $q \cdot W k$ | a matrix $W$ changes the key first |
# | additive | $w \cdot \tanh(q + k)$ | a small network with one hidden layer |
#
# In a model, training finds $W$ and $w$. Here we choose them. Our $W$ mirrors a patch left to
# right, so a query asks for its mirror image. Our $w$ is 1 everywhere. The layer
# `MultiHeadSelfAttention` has the four formulas, by its argument `score`. The cell compares its
# scores with ours.

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
# The scores of a query can be any numbers. The function *softmax* makes weights of them. It takes
# the exponential of each score, and divides by the sum. So the weights are positive, and those of
# one query add up to 1.

# %%


def softmax(scores):
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


weights = {name: softmax(score) for name, score in scores.items()}
for name, weight in weights.items():
    print(f"{name}: the weights add up to {weight[query].sum():.3f}, max {weight[query].max():.2f}")

# %% [markdown]
# The pictures show the query of the red frame. Each square is a key at its place in the image.
# Upper row: scores, blue for negative and red for positive. Lower row: weights after softmax.
#
# - **dot** likes patches that are bright where the query is bright, and dark where it is dark. Its
#   scores are large, so softmax gives almost everything to a few patches.
# - **scaled dot** has the same pattern with smaller numbers. More patches take part.
# - **bilinear** finds the opposite edges, bright on the left and dark on the right, because $W$
#   mirrors the key.
# - **additive** likes every bright patch. `tanh` lies between -1 and 1, so scores stay between -d
#   and d.

# %%
figure, axes = plt.subplots(2, 5, figsize=(11, 4.2), layout="constrained")
for panel in axes[:, 0]:
    panel.imshow(image, cmap="gray")
    mark(panel, PATCH_SIZE)
axes[0, 0].set_title("scores →")
axes[1, 0].set_title("weights →")
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
# its weights. This is one product of matrices: weights (T, T) times values (T, d). Here we take
# the patches themselves as values, so that the result is again an image.
#
# Each patch below is an average of patches of the original image. With **dot**, a patch is nearly
# a copy of the patch with the largest score, which looks like itself. With **scaled dot**, it is
# an average of similar patches, so details vanish. With **bilinear**, it looks like its mirror
# image: the edges are on the wrong side. With **additive**, most patches receive nearly the same
# average of bright patches.

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
# narrow ones, for no good reason. We draw random queries and keys, and measure three things:
#
# - the **variance** of the scores,
# - the **entropy** of the weights in bits. 2 to the power of the entropy is the number of keys
#   that a query effectively reads. If all T weights are equal, the entropy is $\log_2 T$.
# - the **slope** of softmax, the sum of $p (1 - p)$ over the weights p: how much the weights
#   change when their scores change. If it is 0, no gradient passes, and training cannot change
#   them.

# %%
random = np.random.default_rng(0)
widths = 4 ** np.arange(1, 6)
measured = {"dot": [], "scaled dot": []}
for width in widths:
    q, k = random.normal(size=(1000, width)), random.normal(size=(T, width))
    for name, score in (("dot", q @ k.T), ("scaled dot", q @ k.T / np.sqrt(width))):
        p = softmax(score)
        entropy = -(p * np.log2(p + 1e-30)).sum(axis=1).mean()
        slope = (p * (1 - p)).sum(axis=1).mean()
        measured[name].append((score.var(), entropy, slope))
        print(f"d = {width:4}  {name:10}  variance {score.var():7.2f}", end="  ")
        print(f"keys read {2**entropy:5.1f} of {T}  slope {slope:.2f}")

# %% [markdown]
# Left: the variance of the dot product grows like d, and that of the scaled one stays near 1.
# Middle: without scaling, the entropy falls towards 0. A query then reads only one key, chosen by
# chance. Right: the slope falls with it, so training would have to start nearly without gradients.
# With scaling, all three are the same for every d.

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
# table of weights. If a token has D numbers and the layer has H heads, the queries, keys and
# values of one head have D / H numbers each. The layer writes the results of all heads next to
# each other, so they have D numbers again, and one more matrix mixes them.
#
# To see it, we give each token a second half that describes its place: sine and cosine of its row
# and of its column. (Notebook 2 has such *position embeddings* in a model.) The matrices of a
# layer would be learned. Here they are the identity, so a head sees a part of the token as it is.
# With two heads, head 0 sees the pixels and head 1 sees the place.

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
# *and* is near. Two heads answer both questions, each with its own weights: head 0 finds all
# patches that look alike, and head 1 all that are near. The printed lines show that the second
# head needs no more parameters, because each head has half of the numbers.

# %%
figure, axes = plt.subplots(1, 4, figsize=(10, 2.4), layout="constrained")
axes[0].imshow(image, cmap="gray")
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
# - A **token** is a vector that describes one patch.
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
