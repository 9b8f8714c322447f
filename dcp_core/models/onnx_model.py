"""ONNX files as victims: ONNX Runtime answers, on CPUs several times as fast as eager torch.

A file holds a graph and numbers, never code: nothing is unpickled. It is still checked before it answers.
"""

import tempfile

import onnxruntime
import torch
from torch import Tensor, nn


class OnnxError(ValueError):
    """An ONNX file that cannot be a victim; the message says why."""


class OnnxClassifier(nn.Module):
    """An ONNX graph in the place of a network: pixels (N, 3, size, size) in [0, 1] -> logits (N, K), no gradients.

    Computes on the CPU with as many threads as torch has when it is made, and answers on the pixels' device.
    """

    def __init__(self, content: bytes, size: int, classes: int) -> None:
        """Open a file's content.

        Raises:
            OnnxError: for no ONNX model, one with parts outside of the file or operators that ONNX Runtime does not
                know, and one that does not take such pictures, in any number, or does not give such logits.
        """
        super().__init__()
        self.session = open_session(content)
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise OnnxError(f"a victim has one input and one output, not {len(inputs)} and {len(outputs)}")
        self._input = inputs[0].name
        # A network's device is that of its parameters; this one says where answers go.
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)
        for count in (1, 3):
            try:
                logits = self(torch.zeros(count, 3, size, size))
            except Exception as error:  # ONNX Runtime has a dozen kinds without a common base
                raise OnnxError(
                    f"the model does not take pictures ({count}, 3, {size}, {size}): {error}"
                ) from error
            if tuple(logits.shape) != (count, classes) or not bool(logits.isfinite().all()):
                raise OnnxError(
                    f"the model answers {count} pictures with {tuple(logits.shape)}, not with finite logits "
                    f"({count}, {classes})"
                )

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits of pixels, both float32."""
        (logits,) = self.session.run(None, {self._input: pixels.detach().cpu().contiguous().numpy()})
        return torch.from_numpy(logits).to(pixels.device)


def open_session(content: bytes) -> onnxruntime.InferenceSession:
    """A CPU session of an ONNX file's content, with torch's number of threads.

    Raises:
        OnnxError: for anything that ONNX Runtime cannot run from this content alone.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory() as empty:
        # A graph may name other files for its numbers: it finds none.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", empty)
        try:
            return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # as above
            raise OnnxError(f"ONNX Runtime cannot run this model: {error}") from error
