"""Checkpoints: the last two states of a training or an attack, each in a file that ends with its sha256."""

import hashlib
import io
import logging
import os
from pathlib import Path
from typing import Any

import torch

from dcp_core.files import write_atomic

DIGEST = hashlib.sha256().digest_size

log = logging.getLogger(__name__)


class CheckpointError(ValueError):
    """All checkpoints of a run are damaged. The message says what to do."""


def older(path: Path) -> Path:
    """The file with the state before the one in `path`."""
    return path.with_name(f"{path.stem}.older{path.suffix}")


def save(path: Path, state: dict[str, Any]) -> None:
    """Save a state; the one that was saved before is kept in the file `older(path)`.

    Args:
        state: tensors, numbers, texts, and lists and dictionaries of them.

    Raises:
        OSError: if the file cannot be written; the states saved before are then kept.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    write_atomic(
        path, lambda file: (file.write(content), file.write(hashlib.sha256(content).digest())), keep=older(path)
    )


def load(path: Path, device: torch.device | str) -> dict[str, Any] | None:
    """The last state that was saved, with tensors on `device`; None if there is none.

    If its file is damaged, this is the state before it; a warning is logged.

    Raises:
        CheckpointError: if all files are damaged.
    """
    content = _intact(path)
    if content is None and (content := _intact(older(path))) is not None:
        if path.exists():
            log.warning("the checkpoint %s is damaged: the one before it, %s, is used", path, older(path).name)
        os.replace(older(path), path)  # the next save then keeps this one, not the damaged one
    if content is not None:
        return torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    damaged = [each for each in (path, older(path)) if each.exists()]
    if damaged:
        names = " and ".join(map(str, damaged))
        raise CheckpointError(f"damaged: {names}. Delete {names}, and the work starts again from the beginning")
    return None


def remove(path: Path) -> None:
    """Delete both files."""
    for each in (path, older(path)):
        each.unlink(missing_ok=True)


def _intact(path: Path) -> bytes | None:
    """The content of a checkpoint without its sha256; None for a file that is missing or damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    state, digest = content[:-DIGEST], content[-DIGEST:]
    return state if state and hashlib.sha256(state).digest() == digest else None
