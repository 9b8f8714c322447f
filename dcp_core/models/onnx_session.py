"""Run ONNX files with ONNX Runtime, without torch."""

import tempfile

import numpy as np
import onnxruntime


class OnnxError(ValueError):
    """An ONNX file that cannot be used. The message says why."""


def new_session(content: bytes, threads: int) -> onnxruntime.InferenceSession:
    """A CPU session of an ONNX file's content.

    Raises:
        OnnxError: if ONNX Runtime cannot run the content without other files.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory() as empty:
        # A graph may refer to other files: in an empty folder it finds none.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", empty)
        try:
            return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no common base class
            raise OnnxError(f"ONNX Runtime cannot run this model: {error}") from error


def in_batches(
    session: onnxruntime.InferenceSession, inputs: dict[str, np.ndarray], batch: int | None
) -> list[np.ndarray]:
    """All outputs of a graph for any number of pictures (N, ...), also of one that takes only `batch` at once."""
    if batch is None:
        return session.run(None, inputs)
    ((name, pictures),) = inputs.items()
    parts = []
    for start in range(0, len(pictures), batch):
        part = pictures[start : start + batch]
        filled = np.concatenate([part, np.repeat(part[-1:], batch - len(part), 0)])
        parts.append([found[: len(part)] for found in session.run(None, {name: filled})])
    return [np.concatenate(each) for each in zip(*parts, strict=True)]


def fixed_batch(session: onnxruntime.InferenceSession) -> int | None:
    """The number of pictures that a graph takes at once; None for any number."""
    first = session.get_inputs()[0].shape[0]
    return first if isinstance(first, int) else None
