"""Engines, which compute the API's answers. This one is an exported file; `victims.py` has the one that needs torch."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dcp_core.models.onnx_session import OnnxError, fixed_batch, in_batches, new_session

OUTPUTS = ["posterior", "defense_y"]  # defended and clean posteriors


@dataclass(frozen=True)
class Engine:
    """A defended classifier.

    `answer` maps pixels, float32 (N, 3, size, size) in [0, 1], to clean and defended posteriors, each float32 (N, K).
    """

    classes: tuple[str, ...]
    size: int
    answer: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def exported(path: Path) -> Engine:
    """A file of `dcp export --for server`, answered by ONNX Runtime. This needs no torch.

    It uses as many threads as `OMP_NUM_THREADS` says, by default one for each core.

    Raises:
        OnnxError: if the file is not such a file.
        OSError: if it cannot be read.
    """
    session = new_session(path.read_bytes(), int(os.environ.get("OMP_NUM_THREADS") or 0))
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if [each.name for each in inputs] != ["pixels"] or [each.name for each in outputs] != OUTPUTS:
        raise OnnxError(f"{path} is not made for a server: `dcp export --for server` writes such a file")
    classes = tuple(json.loads(session.get_modelmeta().custom_metadata_map["classes"]))
    batch = fixed_batch(session)

    def answer(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        defended, clean = in_batches(session, {"pixels": np.ascontiguousarray(pixels)}, batch)
        return clean, defended

    return Engine(classes, int(inputs[0].shape[-1]), answer)
