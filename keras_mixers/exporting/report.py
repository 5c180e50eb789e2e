"""The report of an export."""

import dataclasses
import pathlib
from typing import NamedTuple

FEW = 0.5  # of the weights
SLOWER = 1.1  # times the latency of float32, because latencies of equal files differ
MOST_LAYERS = 10  # that the text of a report lists


class LayerSensitivity(NamedTuple):
    """What changes if only one layer is computed in int8; see `ExportReport.sensitivity`."""

    error: float
    agreement: float


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What `export` wrote, and how far its outputs are from the model's.

    `str()` gives one line. With `sensitivity`, it gives one more for each of the ten layers with
    the largest errors.

    Attributes:
        path: the file or folder.
        format: `"onnx"`, `"saved_model"`, `"tflite"` or `"web"`.
        size: in bytes, including a second file of weights.
        largest_difference: the largest absolute difference from the outputs of the model in
            float32, over all outputs, at batch sizes 1 and 3, or at the file's own. The images are
            random; in int8 they come from the calibration data if there are any.
        latency: milliseconds for one image on this machine, in the format's runtime. With `batch`,
            those of one call, divided by the number of its images.
        precision: `"float32"`, `"float16"` or `"int8"`.
        agreement: for a quantized file, the fraction of images for which the file and the float32
            model predict the same class. The images are the calibration data, or random. None for
            other files, and for a model with several outputs.
        quantized: for a quantized file, the fraction of the weights that it stores in `precision`.
            None for other files. The text of the report says so if it is below one half.
        opset: the version of the ONNX operators; None for other formats.
        nodes: the number of nodes in the ONNX graph; None for other formats.
        in_float: for an int8 file in ONNX, `{kind of product, or path of a layer: why it stays in
            float}`. Norms, activations, softmax and sums always stay in float. None for other
            files.
        float32_size: for an int8 file, the size of the file that `export` writes without
            `quantize`, in bytes. None for other files.
        float32_latency: for an int8 file, the latency of this other file, measured in turn with
            `latency`. None for other files.
        sensitivity: with `sensitivity=True`, `{path of a layer: (error, agreement)}`, the largest
            error first, if only this layer is computed in int8. The pairs are named tuples. The
            error is the norm of the
            difference of the first output, relative to the norm of this output. The agreement is
            the fraction of images that keep their class. The images are the first 32 of the
            calibration data, or random. None without.
    """

    path: pathlib.Path
    format: str
    size: int
    largest_difference: float
    latency: float
    precision: str
    agreement: float | None = None
    quantized: float | None = None
    opset: int | None = None
    nodes: int | None = None
    in_float: dict[str, str] | None = None
    float32_size: int | None = None
    float32_latency: float | None = None
    sensitivity: dict[str, LayerSensitivity] | None = None

    @property
    def disadvantages(self) -> list[str]:
        """In which respects int8 is worse than float32: `"larger..."` and `"slower..."`."""
        found = []
        if self.float32_size is not None and self.size > self.float32_size:
            found.append("larger than in float32")
        if self.float32_latency is not None and self.latency > SLOWER * self.float32_latency:
            found.append("slower than in float32")
        return found

    def __str__(self) -> str:
        parts = [f"{self.format} in {self.precision}", f"{self.size / 1e6:.1f} MB"]
        if self.float32_size is not None:
            parts[-1] += f" (float32: {self.float32_size / 1e6:.1f})"
        if self.nodes is not None:
            parts.append(f"{self.nodes} nodes (opset {self.opset})")
        parts.append(f"within {self.largest_difference:.1e} of the model")
        if self.agreement is not None:
            parts.append(f"the same class for {self.agreement:.1%} of images")
        parts.append(f"{self.latency:.2g} ms an image")
        if self.float32_latency is not None:
            parts[-1] += f" (float32: {self.float32_latency:.2g})"
        line = f"{self.path}: {', '.join(parts)}"
        if self.in_float:
            reasons = [f"{what} ({why})" for what, why in self.in_float.items()]
            line += f"; in float: {', '.join(reasons)}"
        if self.quantized is not None and self.quantized < FEW:
            line += f"; only {self.quantized:.1%} of the weights are in {self.precision}"
        for disadvantage in self.disadvantages:
            line += f"; {disadvantage}"
        return "\n".join([line, *self._sensitive_layers()])

    def _sensitive_layers(self):
        """A line for each of the most sensitive layers, and one that counts the others."""
        layers = list((self.sensitivity or {}).items())
        for path, (error, agreement) in layers[:MOST_LAYERS]:
            yield f"  int8 only in {path}: error {error:.2g}, the same class for {agreement:.1%}"
        if len(layers) > MOST_LAYERS:
            yield f"  and {len(layers) - MOST_LAYERS} layers with smaller errors"
