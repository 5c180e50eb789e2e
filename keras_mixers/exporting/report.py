"""The report of an export."""

import dataclasses
import pathlib

FEW = 0.5  # of the weights


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What `export` wrote, and how far its outputs are from the model's; `str()` gives one line.

    Attributes:
        path: the file or folder.
        format: `"onnx"`, `"saved_model"` or `"tflite"`.
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
            None for other files. Below one half, the file is hardly smaller or faster than in
            float32, and the text of the report says so.
        opset: the version of the ONNX operators; None for other formats.
        nodes: the number of nodes in the ONNX graph; None for other formats.
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

    def __str__(self) -> str:
        parts = [f"{self.format} in {self.precision}", f"{self.size / 1e6:.1f} MB"]
        if self.nodes is not None:
            parts.append(f"{self.nodes} nodes (opset {self.opset})")
        parts.append(f"within {self.largest_difference:.1e} of the model")
        if self.agreement is not None:
            parts.append(f"the same class for {self.agreement:.1%} of images")
        parts.append(f"{self.latency:.2g} ms an image")
        line = f"{self.path}: {', '.join(parts)}"
        if self.quantized is not None and self.quantized < FEW:
            line += (
                f"; only {self.quantized:.1%} of the weights are in {self.precision}, so the file"
                " may be larger and slower than in float32"
            )
        return line
