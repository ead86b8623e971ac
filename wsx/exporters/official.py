"""PyTorch's own exporter, as an oracle and for whom it must be the official one.

Slow (seconds a subnet), not thread-safe, and every file carries its own weights; the file has the same
inputs, outputs and metadata as ours, so whatever reads one reads the other.
"""

import contextlib
import io
import warnings
from collections.abc import Mapping

import onnx
import torch
from onnx import helper
from torch import nn

from wsx.errors import ExportError, MissingExtraError
from wsx.exporters.emit import INPUT, LOGITS


def export_official(
    module: nn.Module, input_shape: tuple[int, ...], *, metadata: Mapping[str, str]
) -> onnx.ModelProto:
    """Return the model of a subnet as ``torch.onnx.export`` writes it, weights included.

    Args:
        module: The subnet, from ``to_module``, in evaluation mode.
        input_shape: Shape of one image (channel, height, width).
        metadata: Written into the model's properties.

    Raises:
        MissingExtraError: onnxscript, which the exporter needs, is not installed.
        ExportError: The exporter fails.
    """
    images = torch.zeros(2, *input_shape)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                (images,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[LOGITS],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                external_data=False,
                verbose=False,
            )
    except ImportError as error:
        raise MissingExtraError(
            f"the official exporter needs onnxscript: pip install onnxscript ({error})"
        ) from error
    except Exception as error:
        # The exporter raises whatever its many layers raise; one line is what a user can act on.
        raise ExportError(f"torch.onnx.export failed: {str(error).strip()[:300]}") from error
    if program is None:
        raise ExportError("torch.onnx.export returned nothing")
    model = program.model_proto
    helper.set_model_props(model, dict(metadata))
    return model
