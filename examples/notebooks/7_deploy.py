# %% [markdown]
# # 7. From a checkpoint file to a model in a browser and on a server
#
# A trained model has to work where Keras is not installed. This notebook takes one model all the
# way: a file of weights, an ONNX file that takes a picture and returns probabilities, the same file
# in 8 bits, a web page, and a folder for a server. After most steps it asks the same question: is
# the answer still the same?

# %%
# %matplotlib inline
import json
import pathlib
import shutil
import warnings

import keras
import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
import tensorflow as tf
from PIL import Image

import keras_mixers as km

tf.get_logger().setLevel("ERROR")  # because TensorFlow logs where it has written a SavedModel
warnings.filterwarnings("ignore", "`quantize`")  # 8 bits may make so small a model slower

# %% tags=["parameters"]
DATASET = "fashion_mnist"  # or "digits", which needs no download, or any other TFDS name
IMAGE_SIZE = 28  # pixels
PATCH_SIZE = 4  # pixels
DEPTH = 2  # blocks
EPOCHS = 2  # the digits are few images: they need 40

# %%
recipe = km.Recipe(epochs=EPOCHS, batch_size=128, learning_rate=3e-3, clip_norm=1.0)
options = {"image_size": IMAGE_SIZE, "batch_size": recipe.batch_size}
try:
    train, test, info = km.data.load(DATASET, **options)
except OSError:  # without a network
    train, test, info = km.data.load("digits", **options)
folder = pathlib.Path("out/deploy")  # for all files of this notebook
shutil.rmtree(folder, ignore_errors=True)  # those of an earlier run
folder.mkdir(parents=True)
info.preprocessing

# %% [markdown]
# The output is the **preprocessing**. A picture has bytes, from 0 to 255. The model gets images of
# one size, and `(value / 255 - mean) / std`, here from -1 to 1. Pictures that are prepared in
# another way raise no error, but the model is wrong more often. So the preprocessing should travel
# with the model. `model.set_info(info)` attaches it, together with the names of the classes.

# %%
sizes = {"hidden_dim": 64, "depth": DEPTH, "num_heads": 4, "mlp_dim": 128, "pool": "gap"}


def vit(image_size, patch_size):
    shape = (image_size, image_size, info.input_shape[-1])
    task = {"input_shape": shape, "num_classes": info.num_classes}
    return km.ViT("Ti/16", patch_size=patch_size, **sizes, **task)


keras.utils.set_random_seed(0)
model = vit(IMAGE_SIZE, PATCH_SIZE)
model.set_info(info)
recipe.compile(model, steps_per_epoch=len(train))
# `shuffle=False`, because the dataset shuffles itself
model.fit(train, epochs=recipe.epochs, shuffle=False, verbose=0)
print(f"Test accuracy: {model.evaluate(test, verbose=0)[1]:.1%}")

# %% [markdown]
# ## A checkpoint is a file of named arrays
#
# For Keras, `model.save("model.keras")` is the best way to keep a model. But most published weights
# are `.safetensors` files: arrays with names, such as `blocks.0.attn.qkv.weight`, and no code. You
# build the model, and the names say where each array belongs. `km.save_weights` writes such a file
# with the names of timm, a large library of PyTorch models. `km.load_weights` reads it.

# %%
checkpoint = folder / "vit.safetensors"
km.save_weights(model, checkpoint)
copy = vit(IMAGE_SIZE, PATCH_SIZE)
print(km.load_weights(copy, checkpoint))
few = test.take(20)  # batches
same = np.array_equal(model.predict(few, verbose=0), copy.predict(few, verbose=0))
print(f"{checkpoint.stat().st_size / 1000:.0f} kB, equal outputs: {same}")

# %% [markdown]
# The next cell loads the same file into models for images of twice the height and width, without
# training. `adapt=True` resizes the one array that does not fit. With patches of twice the size it
# is the filters of the patch embedding, so that a larger patch gives the token that the smaller one
# gave (a *pseudo-inverse* computes such filters). With patches of the same size there are four
# times as many tokens. The position embeddings are then resized like a small picture
# (*bicubic_antialias* is one way to do it). All accuracies are of the same 2,560 test images.

# %%
_, large_test, _ = km.data.load(info.name, **options | {"image_size": 2 * IMAGE_SIZE})
print(f"{IMAGE_SIZE} pixels, patches of {PATCH_SIZE}: {model.evaluate(few, verbose=0)[1]:.1%}")
for patch_size in (2 * PATCH_SIZE, PATCH_SIZE):
    large = vit(2 * IMAGE_SIZE, patch_size)
    report = km.load_weights(large, checkpoint, adapt=True)
    recipe.compile(large, steps_per_epoch=len(train))  # `evaluate` needs the loss and the metric
    accuracy = large.evaluate(large_test.take(20), verbose=0)[1]
    print(f"{2 * IMAGE_SIZE} pixels, patches of {patch_size}: {accuracy:.1%}", report, sep="\n")

# %% [markdown]
# With the larger patches the model is as good as before: 0.1 points are about 3 images. With the
# smaller patches it loses many points, because a token now shows only a quarter of the area that it
# showed in training. In practice one fine-tunes such a model at the new size.
#
# ## One file that takes a picture
#
# ONNX is a format for networks that many programs can run. It holds a graph of simple operations,
# and the weights. `km.export` writes one for the model **with** its preprocessing and class names.
# It first writes a temporary file, runs it, and compares it with the model. It raises an error if
# they differ by more than 1e-4 of the largest output. Only then does it replace the old file.

# %%
print(km.export(model, folder / "vit.onnx"))

# %% [markdown]
# *Nodes* are the operations of the graph, and *opset* is the version of ONNX's list of operations.
# The next cell writes a test picture as a PNG file. The cell after it classifies it only with
# onnxruntime, NumPy and Pillow, as a server would. The last cell does it with Keras.

# %%
pictures, truth = next(km.data.images(info.name).batch(2560).as_numpy_iterator())  # bytes
keras.utils.save_img(folder / "picture.png", pictures[0], scale=False)

# %%
session = onnxruntime.InferenceSession(folder / "vit.onnx")
names = json.loads(session.get_modelmeta().custom_metadata_map["class_names"])
picture = np.asarray(Image.open(folder / "picture.png"))
picture = picture.reshape(1, *pictures.shape[1:])  # (1, 28, 28, 1): a batch of one image
(probabilities,) = session.run(["probabilities"], {"images": picture})
print(f"{names[probabilities.argmax()]}: {probabilities.max():.2%}")

# %%
(prediction,) = km.predict(model, folder / "picture.png")
print(f"{prediction.class_names[0]}: {prediction.probabilities[0]:.2%}")
print(f"difference: {abs(prediction.probabilities[0] - probabilities.max()):.0e}")

# %% [markdown]
# They differ only by rounding: both compute in float32, but add numbers in another order.
#
# ## Eight bits
#
# A weight in float32 takes 32 bits. `quantize="int8"` stores it as an integer of 8 bits, with one
# scale for each column, and computes the large products in integers. The **calibration data** are
# training images, of which `export` reads the first 256. They show the range of the numbers between
# the layers. In int8 `export` accepts larger differences, up to 0.3 of the norm of the outputs. So
# you have to measure the accuracy.

# %%
calibration = km.data.images(info.name, "train").batch(64)
int8 = {"quantize": "int8", "calibration_data": calibration}
print(km.export(model, folder / "vit-int8.onnx", **int8))


def accuracy_of(file, pictures):
    session = onnxruntime.InferenceSession(file)
    (logits,) = session.run(["logits"], {"images": pictures})
    return np.mean(logits.argmax(axis=-1) == truth)


for file in (folder / "vit.onnx", folder / "vit-int8.onnx"):
    size = file.stat().st_size / 1000
    print(f"{file.name:14}{size:.0f} kB, accuracy {accuracy_of(file, pictures):.1%}")

# %% [markdown]
# The file is half as large, and the accuracy is the same: 0.1 points are 2 or 3 of 2,560 images. A
# quarter of the weights would be 73 kB. The other 90 kB are mostly the graph, scales and
# preprocessing. In this run the file was slower in 8 bits, as the report says. A large model gains
# more: measure it.
#
# ## In a browser
#
# A browser can run the ONNX file too, by onnxruntime-web. Then no picture leaves the computer of
# the user. `format="web"` writes a folder with all that it takes.

# %%
address = "https://cdn.jsdelivr.net/npm/onnxruntime-web@1.30.0/dist/"
km.export(model, folder / "page", format="web", runtime=address)
print(*sorted(file.name for file in (folder / "page").iterdir()))

# %% [markdown]
# The page, `index.html`, loads onnxruntime-web from the address, opens a picture or the camera, and
# shows the most probable classes. It also lays the attention of the last block over the picture. A
# page opened with `file://` cannot load the ONNX file. Start a file server in the folder of this
# notebook by `python -m http.server --directory out/deploy/page`, and open `http://localhost:8000`.
#
# ## On a server
#
# TensorFlow Serving is a program that watches a folder with one subfolder for each version of a
# model. `version=1` writes this layout. A later `version=2` is written next to it. The server
# answers with version 1 until version 2 is loaded. Such a version is a SavedModel, TensorFlow's
# format. The cell calls its signature `serve_encoded`, which takes the bytes of image files.
# `top=3` adds the three most probable classes.

# %%
km.export(model, folder / "models/clothes", version=1, top=3)
serve = tf.saved_model.load(str(folder / "models/clothes/1")).signatures["serve_encoded"]
answer = serve(encoded=tf.constant([(folder / "picture.png").read_bytes()]))
for name in ("class_names", "class_probabilities"):
    print(f"{name:22}{answer[name].numpy()[0]}")
print(f"difference: {abs(answer['probabilities'] - probabilities).numpy().max():.0e}")

# %% [markdown]
# The README has the command for a client, which was not run against a server, and shows another
# server, for the ONNX file and without TensorFlow: see [Deploy](../../README.md#deploy).
#
# ## What the checks do not check
#
# All these files give the answers of the model. Whether the model is right about *your* pictures is
# another question. The next cell classifies negatives of the test pictures: dark clothes on white.

# %%
negatives = 255 - pictures
print(f"accuracy on negatives: {accuracy_of(folder / 'vit.onnx', negatives):.1%}")
figure, axes = plt.subplots(1, 6, figsize=(10, 2), layout="constrained")
(logits,) = session.run(["logits"], {"images": negatives[: len(axes)]})
for panel, negative, each in zip(axes, negatives, logits, strict=False):
    panel.imshow(negative, cmap="gray", vmin=0, vmax=255)
    panel.set(xticks=[], yticks=[], title=names[each.argmax()])
plt.show()

# %% [markdown]
# A model that guesses is right in one of ten cases, and this one is hardly better. It calls five of
# these six negatives a bag. It did not learn what a coat is, but what a light coat on black is. No
# check of an export can find this, only pictures from the place where the model is used. So run
# `km.evaluate` on a folder of such pictures before you deploy a model, and again afterwards.
#
# ## Three things to try
#
# 1. Export with `attention_maps=True` and draw the output `attention_0` of the ONNX file for
#    `picture.png`. Notebook 2 says how to read it.
# 2. Export in int8 with `sensitivity=True`. Which layer loses most? Does `keep_float=[...]` with
#    this layer give the accuracy back?
# 3. Train with half of the images as negatives, export, and measure again on both kinds.
