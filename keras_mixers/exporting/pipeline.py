"""Write a model for deployment, prove the file gives the model's answers, then put it in place."""

import os
import sys
import time
from collections.abc import Iterable, Sequence

import keras

from keras_mixers import arguments, files
from keras_mixers.exporting import validation, verify
from keras_mixers.exporting.report import ExportReport
from keras_mixers.exporting.serving import Serving
from keras_mixers.models.variants import variant_of
from keras_mixers.preprocessing import Preprocessing
from keras_mixers.version import __version__

QUIET = 2.0  # seconds before the first line: most exports end earlier


def export(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] | None = None,
    target: str = "onnx",
    dtype: str = "float32",
    quantize: str | None = None,
    calibration_data: Iterable | None = None,
    attention_maps: bool = False,
) -> ExportReport:
    """Export a model for inference: to ONNX, TensorFlow Lite or a SavedModel, as `path` ends.

    The file takes `images`, float32 `(batch, H, W, C)` with any batch, and gives `logits`. With
    `preprocessing` it takes bytes of any height and width, and gives `probabilities` too; a
    SavedModel then also has the signature `serve_encoded`, for JPEG and PNG files.

    It is written to a temporary place, judged by its format's own checker, loaded by its own
    runtime (onnxruntime, TensorFlow), and its answers are compared with the model's at batch 1 and
    3, on random images or the calibration's; only then does it replace what was at `path`. They may
    differ by 1e-4 of the largest answer (by 1e-4, where that is below 1); in float16 by 2e-2; in
    int8 by 0.3 of the length of the answers as a vector. While this runs, the model must not be
    used by another thread.

    Args:
        model: a built functional or sequential model with one input and one output. Whatever
            policy it has, it is exported as it computes in `dtype`.
        path: ends in `.onnx` or `.tflite`, or names a folder for a SavedModel; the folder it lies
            in must exist. ONNX weights over 2 GiB lie in a second file beside it.
        preprocessing: what the weights expect of an image, put into the file.
        class_names: one for each logit, for the file's metadata.
        target: for ONNX, `"onnx"`: operators of the standard alone, opset 18, for any runtime;
            `"onnxruntime"`: faster there, with its own `Attention` and `Gelu`.
        dtype: `"float32"`, or `"float16"` to compute in half precision (images, probabilities and
            logits stay float32).
        quantize: for ONNX and TensorFlow Lite, `"int8"`: products with weights in 8-bit integers
            (in ONNX, convolutions only where calibrated; attention is then not fused);
            `"float16"`: weights stored in half, computed with in float32.
        calibration_data: with `quantize`, images as the file takes them, an array or batches (with
            labels or not, such as a `tf.data.Dataset`), of which the first 256 are used: the ranges
            of int8 are found on them beforehand, and `agreement` is measured on them.
        attention_maps: whether the weights of each `MultiHeadSelfAttention`, `(batch, heads, T,
            T)`, are outputs too: `attention_0`, `attention_1`, ...

    Returns:
        An `ExportReport`.

    Raises:
        ValueError, TypeError: an argument will not do; the message says which, and what would.
        RuntimeError: Keras runs on another backend than TensorFlow, an operator is not to be had,
            or the file does not give the model's answers; what was at `path` stays.
        OSError: it cannot be written; what was at `path` stays.

    Example:
        >>> import tempfile
        >>> from keras_mixers import ViT
        >>> model = ViT("Ti/16", input_shape=(32, 32, 3), depth=1, num_classes=10)
        >>> report = export(model, tempfile.mkdtemp() + "/vit.onnx")
        >>> report.format, report.opset
        ('onnx', 18)
    """
    path, file_format = validation.check_path(path)
    validation.check_model(model)
    validation.check_options(target, dtype, quantize, attention_maps)
    names = class_names
    if class_names is not None:
        names = arguments.class_names(class_names, model.output_shape[-1])
    validation.check_preprocessing(preprocessing, model)
    validation.check_format(
        file_format,
        preprocessing=preprocessing,
        class_names=names,
        target=target,
        dtype=dtype,
        quantize=quantize,
    )
    validation.check_purpose(model, attention_maps, quantize, calibration_data)
    metadata = {
        "keras_mixers_version": __version__,
        "variant": variant_of(model) or model.name,
        **({"class_names": names} if names else {}),
        **({"preprocessing": preprocessing.get_config()} if preprocessing else {}),
    }
    serving = Serving(model, preprocessing, attention_maps, target, dtype, quantize, metadata)
    serving = serving.calibrated(calibration_data)
    progress = Progress(path)

    with files.replacing(path) as temporary:
        details = file_format.save(serving, temporary, progress)
        progress("comparing with the model")
        run = file_format.load(temporary)
        reference = serving.compiled()
        difference = verify.largest_difference(serving, reference, run)
        agreement = verify.agreement(serving, reference, run) if quantize else None
        latency = verify.latency(serving, run)
        size = sum(files.size(file) for file in temporary.parent.iterdir())
    file_format.finish(path)
    return ExportReport(
        path, file_format.FORMAT, size, difference, latency, serving.precision, agreement, **details
    )


class Progress:
    """Prints to stderr which stage an export has reached, after `QUIET` seconds."""

    def __init__(self, path):
        self.path, self.start = path, time.monotonic()

    def __call__(self, stage):
        passed = time.monotonic() - self.start
        if passed > QUIET:
            print(f"{self.path}: {stage} ({passed:.0f} s)", file=sys.stderr, flush=True)
