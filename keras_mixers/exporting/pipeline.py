"""Export a model: write a temporary file, compare its outputs with the model, replace `path`."""

import dataclasses
import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

import keras

from keras_mixers import arguments, files
from keras_mixers.exporting import (
    in_tensorflow,
    outside,
    repository,
    tflite,
    validation,
    verify,
    web,
)
from keras_mixers.exporting.report import ExportReport
from keras_mixers.exporting.serving import Serving
from keras_mixers.exporting.web.attention import attention_of
from keras_mixers.models.variants import variant_of
from keras_mixers.preprocessing import Preprocessing
from keras_mixers.version import __version__

QUIET = 2.0  # seconds before the first line of progress, because most exports end earlier


def export(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    version: int | None = None,
    preprocessing: Preprocessing | str | None = validation.FROM_MODEL,
    class_names: Sequence[str] | str | None = validation.FROM_MODEL,
    target: str = "onnx",
    dtype: str = "float32",
    quantize: str | None = None,
    calibration_data: Iterable[Any] | None = None,
    attention_maps: bool = False,
    batch: int | None = None,
    top: int | None = None,
    runtime: str | os.PathLike[str] | None = None,
    keep_float: Sequence[str] = (),
    sensitivity: bool = False,
    picture_size: int | tuple[int, int] | None = None,
) -> ExportReport:
    """Export a model to ONNX, TensorFlow Lite or a SavedModel; `path` or `format` decides which.

    The file takes `images`, float32 `(batch, H, W, C)`, by default of any batch size, and returns
    `logits`.
    With `preprocessing`, by default the model's, it takes uint8 images of any size and returns also
    `probabilities`: the softmax of the logits, or their sigmoid if the model is compiled with
    `Recipe(loss="sigmoid")`. A SavedModel then also has the signature `serve_encoded`, if the
    images have 1, 3 or 4 channels. It takes JPEG, PNG, GIF, BMP and WebP files of at most 2 ** 26
    pixels, and 2 ** 18 on one side. Without `preprocessing`, as by default in TensorFlow Lite
    files, apply the softmax or the sigmoid to the logits.

    A SavedModel and onnxruntime refuse images of another shape. TensorFlow Lite's interpreter does
    not check the shape, so that images of another size or number of channels give wrong outputs.

    `export` writes to a temporary path, runs the format's checker, and loads the file in the
    format's runtime (onnxruntime or TensorFlow). It compares the file's outputs with the model's
    at batch sizes 1 and 3, or at `batch`. Only then does the file replace the old one.

    The images to compare are random; in int8 they come from `calibration_data` if it is given. The
    tolerance is 1e-4 times the largest output, or 1e-4 if all outputs are below 1. In float16 both
    numbers are 2e-2. In int8 the norm of the difference may be 0.3 times the norm of the outputs.

    Do not use the model in another thread during the export, because `export` changes its layers
    for a short time.

    If the Keras backend is JAX or torch, another process exports a copy of the model in TensorFlow.
    It first compares the outputs of the copy with those of the model. It imports the modules whose
    classes and functions the model uses, if `keras.saving.register_keras_serializable` registers
    them.

    Args:
        model: a built functional or Sequential model with one input. If it has several outputs,
            such as those of `km.feature_maps`, the file returns them under the names of the layers
            that compute them, and neither `logits` nor `probabilities`. The file computes in
            `dtype` with the model's float32 weights, whatever the model's dtype policy is.
        path: ends in `.onnx` or `.tflite`, or names a folder for a SavedModel. Its parent folder
            must exist, except with `version`. ONNX weights over 2 GiB go into a second file next
            to `path`.
        format: `"onnx"`, `"tflite"` or `"saved_model"`; `None` for the one that `path` names.
            `"web"`: `path` becomes a folder with the ONNX file and one page, which classifies
            pictures and what the camera shows in a browser, by onnxruntime-web. The page also shows
            the attention of the model's last block. `python -m http.server -d <path>` serves it.
            The ONNX file must hold `preprocessing`, and takes the options of ONNX below except
            `version` and `dtype="float16"`.
        version: a positive integer. `path` is then the folder of a model on a server, and the file
            goes into `path/<version>`, next to other versions. TensorFlow Serving reads a
            SavedModel, which is the default here. Triton reads `format="onnx"`, for which `export`
            also writes config.pbtxt and, with class names, labels.txt. Existing ones stay if they
            describe this model. A server that watches `path` sees a version only when it is
            complete. TensorFlow Serving does not load again a version that it has loaded, so
            `export` warns if it replaces one.
        preprocessing: how to prepare images for the model; it becomes part of the file. `"model"`
            for the model's (see `ImageModel`), because who runs the file cannot look it up.
            `None` for a file that takes prepared images. TensorFlow Lite can hold it only for
            pictures of one size, so there `"model"` means `None` without `picture_size`.
            `"outside"`: as `None`, and `export` writes the model's next to the file: for
            `vit.onnx`, `prepare(image)` for Pillow into `vit_onnx_preprocessing.py`, and
            `prepare(imageData)` for browsers into `vit_onnx_preprocessing.js`. Both give the bits
            of `Preprocessing`. If they have changed, `"outside"` raises an error, and other exports
            leave them and warn. It is for runtimes without uint8, float64 or unknown sizes. To use
            another `Preprocessing`, set `model.preprocessing` before.
        class_names: one string for each logit, stored in the file's metadata. `"model"` for the
            model's, `None` for none. A model of one logit may have two names, of which the file
            stores that of the class whose probability it returns. A TensorFlow Lite file is also a
            zip archive, with labels.txt and keras_mixers.json.
        target: for ONNX. `"onnx"`: only standard operators, opset 18, for any runtime.
            `"onnxruntime"`: also onnxruntime's `Attention` and `Gelu`, which are faster there.
        dtype: `"float32"`, or `"float16"` to compute in half precision (images, probabilities and
            logits stay float32).
        quantize: for ONNX and TensorFlow Lite. `"int8"`: compute products with weights in 8-bit
            integers. ONNX files do this to convolutions only with `calibration_data`, but not to
            depthwise ones. They fuse attention only without `calibration_data`. The report tells
            which fraction of the weights is `quantized`, what stays in float and why (`in_float`),
            and the size and latency of the same file in float32. `export` warns if int8 makes the
            file larger or slower, as for a ConvMixer without calibration.
            `"float16"`: store weights in half precision, compute in float32.
        calibration_data: with `quantize`, images as the file takes them: an array, or images or
            batches of any sizes, with or without labels, such as a list or a `tf.data.Dataset`.
            A file with preprocessing takes what `keras_mixers.data.images` gives.
            `export` uses the first 256 images to choose the ranges of int8 numbers in advance, and
            to measure `agreement`. The ranges are those of prepared images.
        attention_maps: whether the file also returns the weights of each `MultiHeadSelfAttention`,
            `(batch, heads, T, T)`, as `attention_0`, `attention_1`, ...
        batch: the only batch size that the file takes; `None` for any. With a number, and without
            `preprocessing`, all shapes in the file are numbers, which some NPUs need.
        top: for a SavedModel with class names and `serve_encoded`, which then also returns the most
            probable classes: `class_names` and `class_probabilities`, `(batch, top)`. A
            number above that of all classes gives all.
        runtime: for `format="web"`: the folder of the npm package onnxruntime-web, from which
            `export` copies three files, or an address from which the page loads them. `None` for
            `node_modules/onnxruntime-web` in the current folder.
        keep_float: for int8 in ONNX. Paths of layers that stay in float, or their first parts:
            `"block_0_attention"` also names `"block_0_attention/attention/qkv"`.
        sensitivity: for int8 in ONNX. Whether the report also has `sensitivity`, the error that
            int8 makes in each layer, which tells what to name in `keep_float`. `export` then
            quantizes the model once for each layer.
        picture_size: for TensorFlow Lite with `preprocessing`: (height, width) in pixels of all
            images that the file takes, or an int for a square. The weights of the resize are then
            constants in the file, because the format lacks the float64 that computes them.

    Returns:
        An `ExportReport`.

    Raises:
        ValueError, TypeError: if an argument is invalid; the message names it.
        ValueError: on JAX or torch, if another process cannot load the model, because it uses a
            class or function that a script defines, or that is not registered.
        RuntimeError: if the format lacks an operator, or if the file's outputs differ from the
            model's. What was at `path` is unchanged.
        OSError: if the file cannot be written. What was at `path` is unchanged.

    Example:
        >>> import tempfile
        >>> from keras_mixers import ViT
        >>> model = ViT("Ti/16", input_shape=(32, 32, 3), depth=1, num_classes=10)
        >>> report = export(model, tempfile.mkdtemp() + "/vit.onnx")
        >>> report.format, report.opset
        ('onnx', 18)
    """
    options = dict(locals())
    if keras.backend.backend() != "tensorflow":
        return in_tensorflow.export(**options)
    path, file_format, version = validation.check_path(path, format, version)
    validation.check_model(model)
    validation.check_options(target, dtype, quantize, attention_maps, batch, sensitivity)
    keep_float = validation.check_keep_float(keep_float)
    preprocessing, class_names = validation.meant(
        model,
        file_format is not tflite or picture_size is not None,
        preprocessing=preprocessing,
        class_names=class_names,
    )
    prepared_by, is_file = None, bool(file_format.SUFFIX) and version is None
    if isinstance(preprocessing, str) and preprocessing == outside.OUTSIDE:
        prepared_by, preprocessing = outside.check(model, path, is_file), None
    names = validation.check_class_names(class_names, model)
    validation.check_preprocessing(preprocessing, model)
    picture_size = validation.check_picture_size(
        picture_size, file_format, options["preprocessing"], preprocessing, quantize
    )
    validation.check_format(
        file_format,
        preprocessing=preprocessing,
        class_names=names,
        target=target,
        dtype=dtype,
        quantize=quantize,
        keep_float=keep_float,
        sensitivity=sensitivity,
    )
    validation.check_has_effect(
        model, attention_maps, quantize, calibration_data, keep_float, sensitivity
    )
    metadata = {
        "keras_mixers_version": __version__,
        "variant": variant_of(model) or model.name,
        **({"class_names": names} if names else {}),
        **({"preprocessing": preprocessing.get_config()} if preprocessing else {}),
        **({"preprocessing_outside": prepared_by.get_config()} if prepared_by else {}),
    }
    if file_format is web and attention_of(model):
        attention_maps = True  # the page shows them
    runtime = validation.check_runtime(runtime, file_format, model, preprocessing)
    top = validation.check_top(top, file_format, model, names, preprocessing)
    serving = Serving(
        model,
        preprocessing,
        attention_maps=attention_maps,
        target=target,
        dtype=dtype,
        quantize=quantize,
        batch=batch,
        picture_size=picture_size,
        metadata=metadata,
        top=top,
        runtime=runtime,
        keep_float=keep_float,
        sensitivity=sensitivity,
    ).calibrated(calibration_data)
    repository.check_fits(path, file_format, version, serving)
    replaced = repository.replaced(path, file_format, version)
    progress = Progress(path)
    with repository.replacing(path, file_format, version) as temporary:
        details = file_format.save(serving, temporary, progress)
        progress("comparing with the model")
        run = file_format.load(temporary)
        reference = serving.compiled()
        difference = verify.largest_difference(serving, reference, run)
        agreement = verify.agreement(serving, reference, run) if quantize else None
        details |= measured(serving, file_format, temporary, run, progress)
        if prepared_by:
            outside.check_files(path)  # again, because an export can take minutes
            outside.write(temporary, prepared_by, model.input_shape[-1])
    path = repository.destination(path, file_format, version)
    file_format.finish(path)
    if is_file and not prepared_by:
        outside.remove(path)
    report = ExportReport(
        path,
        file_format.FORMAT,
        largest_difference=difference,
        precision=serving.precision,
        agreement=agreement,
        **details,
    )
    if replaced:
        arguments.warn(replaced)
    if report.disadvantages:
        arguments.warn(
            f"`quantize`='int8' makes {path.name!r} {' and '.join(report.disadvantages)}"
        )
    return report


def measured(serving, file_format, path, run, progress):
    """Size and latency of the file at `path`, and for int8 those of the same file in float32."""
    size = size_of(path.parent)
    if serving.quantize != "int8":
        return {"size": size, "latency": verify.latencies(serving, run)[0]}
    progress("comparing with float32")
    original = dataclasses.replace(
        serving, quantize=None, calibration=(), keep_float=(), sensitivity=False
    )
    with files.temporary_folder(path.parent.parent) as folder:
        float32 = folder / path.name
        file_format.save(original, float32, lambda _stage: None)
        latencies = verify.latencies(serving, run, file_format.load(float32))
        return {
            "size": size,
            "latency": latencies[0],
            "float32_size": size_of(folder),
            "float32_latency": latencies[1],
        }


def size_of(folder):
    """Bytes of all files that an export wrote into a folder."""
    return sum(files.size(file) for file in folder.iterdir())


class Progress:
    """Prints to stderr which stage an export has reached, after `QUIET` seconds."""

    def __init__(self, path):
        self.path, self.start = path, time.monotonic()

    def __call__(self, stage):
        passed = time.monotonic() - self.start
        if passed > QUIET:
            print(f"{self.path}: {stage} ({passed:.0f} s)", file=sys.stderr, flush=True)
