"""Victims that are ONNX files, run by ONNX Runtime. On CPUs it is several times as fast as eager torch.

An ONNX file contains a graph and numbers, but no code. It is checked before it is used.
"""

import onnxruntime
import torch
from torch import Tensor, nn

from dcp_core.models.onnx_session import OnnxError, fixed_batch, in_batches, new_session


class OnnxClassifier(nn.Module):
    """An ONNX graph as a module that maps pixels (N, 3, size, size) in [0, 1] to logits (N, K), without gradients.

    It runs on the CPU, with torch's number of threads at the time of its creation. Logits are on the pixels' device. A graph
    that takes only a fixed number of pictures, `batch`, is called as often as needed, and its last batch is filled up.
    """

    def __init__(self, content: bytes, size: int, classes: int) -> None:
        """Open a file's content.

        Raises:
            OnnxError: if the content is not an ONNX model, refers to other files, has operators that ONNX Runtime does not
                know, does not take such pictures in any number, or does not give such logits.
        """
        super().__init__()
        self.session = open_session(content)
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise OnnxError(
                f"the model must have one input and one output, but it has {len(inputs)} and {len(outputs)}"
            )
        self._input = inputs[0].name
        self.batch = fixed_batch(self.session)
        # Callers read a module's device from its parameters, so this module needs one.
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)
        for count in (1, 3):
            try:
                logits = self(torch.zeros(count, 3, size, size))
            except Exception as error:  # ONNX Runtime's errors have no common base class
                raise OnnxError(
                    f"the model does not take pictures ({count}, 3, {size}, {size}): {error}"
                ) from error
            if tuple(logits.shape) != (count, classes) or not bool(logits.isfinite().all()):
                raise OnnxError(
                    f"the model's answer to {count} pictures has shape {tuple(logits.shape)}, but it must be finite logits "
                    f"({count}, {classes})"
                )

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (N, K) of pixels (N, 3, size, size), both float32."""
        given = pixels.detach().cpu().contiguous()
        (logits,) = in_batches(self.session, {self._input: given.numpy()}, self.batch)
        return torch.from_numpy(logits).to(pixels.device)


def open_session(content: bytes) -> onnxruntime.InferenceSession:
    """A CPU session of an ONNX file's content, with torch's number of threads; see `new_session`."""
    return new_session(content, torch.get_num_threads())
