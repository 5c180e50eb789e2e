# %% [markdown]
# # 7. From a checkpoint file to a model in a browser and on a server
#
# A trained model has to work where Keras is not: on a server, in a browser, on a phone. This
# notebook takes one model all the way: a file of weights, a model for larger images, an ONNX file
# that takes bytes of a picture and returns probabilities, the same file in 8 bits, a web page, and
# a folder for a server. After each step it asks the same question: is the answer still the same?

# %%
# %matplotlib inline
import contextlib
import io
import json
import os
import pathlib
import tempfile
import warnings

import keras
import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
import tensorflow as tf
from PIL import Image

import keras_mixers as km

tf.get_logger().setLevel("ERROR")  # because TensorFlow logs where it has written a SavedModel

# %% tags=["parameters"]
DATASET = "fashion_mnist"  # or "digits", which needs no network, or any TFDS name
IMAGE_SIZE = 28  # pixels
PATCH_SIZE = 4  # pixels
DEPTH = 2
EPOCHS = 2

# %%
recipe = km.Recipe(epochs=EPOCHS, batch_size=128, learning_rate=3e-3, clip_norm=1.0)
try:
    train, test, info = km.data.load(DATASET, image_size=IMAGE_SIZE, batch_size=recipe.batch_size)
except OSError:  # without a network
    train, test, info = km.data.load("digits", image_size=IMAGE_SIZE, batch_size=recipe.batch_size)
images, labels = (np.asarray(each) for each in next(iter(test)))
os.chdir(tempfile.mkdtemp())  # the files of this notebook go into a new folder
info.preprocessing

# %% [markdown]
# The last line is the **preprocessing**: what happens to a picture before the model sees it. The
# values of a picture are bytes, from 0 to 255. The model was trained on `(value / 255 - mean) /
# std`, here from -1 to 1, and on one image size. A model that gets pictures prepared in another way
# answers without an error, and is wrong more often. So the preprocessing should travel with the
# model. `model.set_info(info)` attaches it, together with the names of the classes.


# %%
def vit(image_size, patch_size):
    return km.ViT(
        "Ti/16",
        input_shape=(image_size, image_size, info.input_shape[-1]),
        num_classes=info.num_classes,
        patch_size=patch_size,
        hidden_dim=64,
        depth=DEPTH,
        num_heads=4,
        mlp_dim=128,
        pool="gap",
    )


keras.utils.set_random_seed(0)
model = vit(IMAGE_SIZE, PATCH_SIZE)
model.set_info(info)
recipe.compile(model, len(train))
model.fit(train, epochs=recipe.epochs, shuffle=False, verbose=0)
print(f"test accuracy: {model.evaluate(test, verbose=0)[1]:.2%}")

# %% [markdown]
# ## A checkpoint is a file of named arrays
#
# `model.save("model.keras")` is Keras's way to keep a model, and the best one for Keras. Most
# published weights are in another form, though: a `.safetensors` file with a name for each array,
# such as `blocks.0.attn.qkv.weight`. There is no code in it, and no model: you build the model, and
# the names say where each array belongs. `km.save_weights` writes such a file with the names of
# timm, a large library of PyTorch models, so that timm can load it. `km.load_weights` reads it.


# %%
def size_of(path):
    return f"{pathlib.Path(path).stat().st_size / 1000:.0f} kB"


km.save_weights(model, "vit.safetensors")
copy = vit(IMAGE_SIZE, PATCH_SIZE)
print(km.load_weights(copy, "vit.safetensors"))
same = np.array_equal(model.predict(images, verbose=0), copy.predict(images, verbose=0))
print(f"{size_of('vit.safetensors')}, equal logits: {same}")

# %% [markdown]
# Now the same file into a model for images of twice the height and width. Nothing in the blocks
# depends on the number of tokens: attention works for any number, and the MLPs see one token at a
# time. Only two arrays have another shape:
#
# - With **patches of twice the size** there are as many tokens as before. The filters of the patch
#   embedding are resized, so that a larger patch gives the token that the smaller one gave.
# - With **patches of the same size** there are four times as many tokens. The position embeddings,
#   one for each token, are resized as if they were a small picture.
#
# `adapt=True` allows it, and the report says what was resized. Neither model is trained again. All
# three numbers below are of the same 2,560 test images.

# %%
large_size = 2 * IMAGE_SIZE
_, large_test, _ = km.data.load(info.name, image_size=large_size, batch_size=recipe.batch_size)
accuracy = model.evaluate(test.take(20), verbose=0)[1]
print(f"{IMAGE_SIZE} pixels, patches of {PATCH_SIZE}: {accuracy:.1%}")
for patch_size in (2 * PATCH_SIZE, PATCH_SIZE):
    large = vit(large_size, patch_size)
    report = km.load_weights(large, "vit.safetensors", adapt=True)
    recipe.compile(large, len(train))
    accuracy = large.evaluate(large_test.take(20), verbose=0)[1]
    print(f"{large_size} pixels, patches of {patch_size}: {accuracy:.1%}", report, sep="\n")

# %% [markdown]
# With the larger patches the model is as good as before. The difference is far below the half point
# that one should not read anything into. The images say nothing new either: they are the small
# ones, enlarged. With the smaller patches the accuracy falls by many points. Each token now shows a
# quarter of the area that it showed in training, and there are four times as many. Such a model has
# to be trained for an epoch or two at the new size, and the resized weights are a good start for
# that.
#
# ## One file that takes a picture
#
# ONNX is a format for networks that many programs can run: on servers, in browsers, on phones. It
# holds a graph of simple operations and the weights. `km.export` writes one for the model **with**
# its preprocessing, and puts the class names into it. Before it writes the file, it runs the file
# and the model on the same random images, and it raises an error if they differ. It reports its
# progress and its warnings to stderr, which the function below leaves out.


# %%
def export(path, **options):
    """`km.export` of the model, without what it writes to stderr."""
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return km.export(model, path, **options)


print(export("vit.onnx"))

# %% [markdown]
# The report says how far the file is from the model, and how long one image takes. From here on
# nothing needs Keras. The next cell uses only onnxruntime, NumPy and Pillow, as a server would. It
# opens a PNG file, which the first lines write, and asks the ONNX file what is on it.

# %%
raw = km.data.images(info.name).batch(500).as_numpy_iterator()
pictures, truth = map(np.concatenate, zip(*raw, strict=True))  # bytes, as a camera would give them
keras.utils.save_img("picture.png", pictures[0], scale=False)

session = onnxruntime.InferenceSession("vit.onnx")
picture = np.asarray(Image.open("picture.png")).reshape(1, *pictures[0].shape)
(probabilities,) = session.run(["probabilities"], {"images": picture})
names = json.loads(session.get_modelmeta().custom_metadata_map["class_names"])

(prediction,) = km.predict(model, "picture.png", top=info.num_classes)
by_keras = dict(zip(prediction.class_names, prediction.probabilities, strict=True))
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
left.imshow(pictures[0].squeeze(), cmap="gray")
left.set_axis_off()
right.barh(np.arange(len(names)) + 0.2, probabilities[0], 0.4, label="onnxruntime")
right.barh(np.arange(len(names)) - 0.2, [by_keras[name] for name in names], 0.4, label="Keras")
right.set(xlabel="probability", yticks=range(len(names)), yticklabels=names)
right.invert_yaxis()
right.legend()
plt.show()
difference = np.abs(probabilities[0] - [by_keras[name] for name in names]).max()
print(f"largest difference of a probability: {difference:.0e}")

# %% [markdown]
# The picture on the left is the file. The bars are the probabilities of its classes, computed
# twice: by onnxruntime from the bytes of the picture, and by Keras. Each pair of bars has the same
# length. They differ only by rounding, because both compute in float32 but add numbers in another
# order.
#
# ## Eight bits
#
# A weight in float32 takes 32 bits. `quantize="int8"` stores it as an integer of 8 bits and one
# scale for each column, and computes the large products in integers. The **calibration data** are a
# few hundred training images: they show which range the numbers between the layers have, so that
# this range is cut into 256 steps. What this costs in accuracy has to be measured.

# %%
calibration = km.data.images(info.name, "train").batch(64)
print(export("vit-int8.onnx", quantize="int8", calibration_data=calibration))


# %%
def accuracy_of(file):
    session = onnxruntime.InferenceSession(file)
    parts = np.array_split(np.arange(len(pictures)), 20)
    logits = [session.run(["logits"], {"images": pictures[part]})[0] for part in parts]
    return np.mean(np.concatenate(logits).argmax(-1) == truth)


for file in ("vit.onnx", "vit-int8.onnx"):
    print(f"{file:14}{size_of(file):>7}, accuracy {accuracy_of(file):.2%}")

# %% [markdown]
# The file is half as large, and the accuracy is the same within a tenth of a point. It is not a
# quarter of the size, because the description of the graph and the preprocessing are in both files,
# and for a model as small as this they weigh as much as the weights. The report says more: for
# almost all images both files give the same class, the products inside attention stay in float, and
# one image takes as long as before. For a model this small, the time goes into starting each
# operation and not into the products. Eight bits pay for models with millions of weights.
#
# ## In a browser
#
# A browser can run the ONNX file too, by onnxruntime-web. Then no picture leaves the computer of
# the user, and the server has nothing to compute. `format="web"` writes a folder with all that it
# takes.

# %%
address = "https://cdn.jsdelivr.net/npm/onnxruntime-web@1.30.0/dist/"
export("page", format="web", runtime=address)
for file in sorted(pathlib.Path("page").iterdir()):
    print(f"{file.name:12}{size_of(file):>7}")

# %% [markdown]
# - `model.onnx` is the ONNX file, here with the attention of the last block as one more output.
# - `model.json` has the class names, the image size, and the place of onnxruntime-web.
# - `index.html` is the page. It opens a picture or the camera, shows the most probable classes as
#   bars, and lays the attention over the picture: bright where the last block looks.
#
# This page loads onnxruntime-web from the address above. With `npm install onnxruntime-web` and
# without `runtime=`, the folder gets a copy and needs no other server. A browser opens no ONNX file
# by `file://`, so any server of files has to hand out the folder: `python -m http.server
# --directory page`, then `http://localhost:8000` in the browser.
#
# ## On a server
#
# TensorFlow Serving is a program that watches a folder and answers requests with the newest version
# of a model in it. A version is a subfolder with a number. `version=1` writes this layout, and a
# later `version=2` goes next to it, while the server still answers with 1.

# %%
pathlib.Path("models").mkdir()
export("models/clothes", version=1, top=3)
for file in sorted(path for path in pathlib.Path("models").rglob("*") if path.is_file()):
    print(file)

# %% [markdown]
# This folder is a SavedModel, TensorFlow's own format. Its signature `serve_encoded` takes the
# bytes of image files and also decodes them, so that a client needs no image library. The next cell
# calls the signature as the server would. `class_names` has the three most probable classes,
# because of `top=3`.

# %%
serve = tf.saved_model.load("models/clothes/1").signatures["serve_encoded"]
answer = serve(encoded=tf.constant([pathlib.Path("picture.png").read_bytes()]))
for name, output in answer.items():
    print(f"{name:14}{output.numpy()[0]}")

# %% [markdown]
# With the server running, a client sends the same bytes over HTTP, in base64:
#
# ```console
# docker run -p 8501:8501 -v "$PWD/models/clothes:/models/clothes" \
#     -e MODEL_NAME=clothes tensorflow/serving
# curl localhost:8501/v1/models/clothes:predict -d '{"signature_name": "serve_encoded",
#     "instances": [{"b64": "'$(base64 -w0 picture.png)'"}]}'
# ```
#
# If you want no TensorFlow on the server, `examples/serve.py` does the same with the ONNX file. It
# is about 300 lines of Python over onnxruntime, with batches, limits and time-outs. A client sends
# the picture as it is:
#
# ```console
# python examples/serve.py vit.onnx
# curl --data-binary @picture.png localhost:8000/classify
# ```
#
# ## What the checks do not check
#
# All these files give the answers of the model. Whether the model is right about *your* pictures is
# another question. Its clothes are light on a black background. The next cell shows the file the
# negative of its test pictures: the same clothes, dark on white.

# %%
negatives = session.run(["logits"], {"images": 255 - pictures[:1000]})[0].argmax(-1)
print(f"accuracy on 1000 negatives: {np.mean(negatives == truth[:1000]):.1%}")

# %% [markdown]
# A model that guesses is right in one of ten cases, and this one does not do better. It did not
# learn what a coat is, but what a light coat on black is. No check of an export can find this, only
# pictures from the place where the model is used. `km.evaluate` on a folder of such pictures is the
# last step before a model goes out, and the first one after.
#
# ## Three things to try
#
# 1. Export with `attention_maps=True` and draw the output `attention_0` of the ONNX file for
#    `picture.png`. Notebook 2 says how to read it.
# 2. Export in int8 without `calibration_data`, and with `sensitivity=True`. Which layer loses most?
#    Does `keep_float=[...]` with this layer give the accuracy back?
# 3. Train with half of the images as negatives, export, and measure again on both kinds.
