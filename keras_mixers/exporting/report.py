"""What an export reports."""

import dataclasses
import pathlib


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What was exported, and how far its answers are from the model's; `str()` reads as text.

    Attributes:
        path: of the file or folder.
        format: `"onnx"`, `"saved_model"` or `"tflite"`.
        size: in bytes, with a second file of weights if there is one.
        largest_difference: from the answers of the model in float32, absolute, over all outputs,
            at batch 1 and 3, on random images or the calibration's.
        latency: milliseconds for one image on this machine, in the file's own runtime.
        precision: `"float32"`, `"float16"` or `"int8"`.
        agreement: for a quantized file, the share of images whose largest logit is the float32
            model's, of the calibration data or of random images; else None.
        opset: the version of ONNX's operators; None for other formats.
        nodes: how many nodes the graph of an ONNX file has; None for other formats.
    """

    path: pathlib.Path
    format: str
    size: int
    largest_difference: float
    latency: float
    precision: str
    agreement: float | None = None
    opset: int | None = None
    nodes: int | None = None

    def __str__(self):
        parts = [f"{self.format} in {self.precision}", f"{self.size / 1e6:.1f} MB"]
        if self.nodes is not None:
            parts.append(f"{self.nodes} nodes (opset {self.opset})")
        parts.append(f"within {self.largest_difference:.1e} of the model")
        if self.agreement is not None:
            parts.append(f"the same class for {self.agreement:.1%} of images")
        parts.append(f"{self.latency:.2g} ms an image")
        return f"{self.path}: {', '.join(parts)}"
