"""Store and remove named victims. `zoo.py` finds and loads them, and describes their files."""

import dataclasses
import shutil
from pathlib import Path

import torch
from safetensors.torch import save as tensors_as_bytes
from torch import Tensor

from dcp_core.files import home
from dcp_core.models import zoo
from dcp_core.models.architectures import Classifier
from dcp_core.models.cards import VictimError, replace_card, store_file
from dcp_core.models.zoo import Card
from dcp_core.provenance import hardware, today, versions


def save(
    model: Classifier,
    described: Card,
    logits: Tensor,
    labels: Tensor,
    root: Path | None = None,
) -> Card:
    """Store a victim and its clean answers to its test set.

    A victim of the same name is replaced atomically: after an interruption, the old or the new one is complete.

    Args:
        described: a card with all fields that cannot be computed from the model.
        logits: clean logits (N, K) on the test set.
        labels: integers (N,).
        root: folder of victims. Default: `home()/victims`.

    Returns:
        The complete card, with accuracy, number of parameters, checksums, date, versions and hardware.

    Raises:
        VictimError: if the name is not valid as the name of a folder.
    """
    folder = _new_folder(described.name, root)
    weights = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    complete = dataclasses.replace(
        described,
        parameters=sum(p.numel() for p in model.parameters()),
        sha256=store_file(folder, zoo.WEIGHTS, tensors_as_bytes(weights)),
        onnx_sha256="",  # an older ONNX file does not belong to the new network
        hardware=described.hardware or hardware(next(model.parameters()).device),
    )
    return _complete(folder, complete, logits, labels)


def save_onnx(content: bytes, described: Card, logits: Tensor, labels: Tensor, root: Path | None = None) -> Card:
    """Store a victim that is one ONNX file, quantized or given; see `save`."""
    folder = _new_folder(described.name, root)
    digest = store_file(folder, zoo.ONNX, content)
    described = dataclasses.replace(described, sha256=digest, hardware=described.hardware or hardware())
    return _complete(folder, described, logits, labels)


def save_service(
    content: bytes, described: Card, logits: Tensor, labels: Tensor, root: Path | None = None
) -> Card:
    """Store a victim that is a service, which is one TOML file; see `save`."""
    folder = _new_folder(described.name, root)
    digest = store_file(folder, zoo.DESCRIPTION, content)
    return _complete(folder, dataclasses.replace(described, sha256=digest), logits, labels)


def add_onnx(name: str, content: bytes) -> Card:
    """Store `model.onnx` beside the weights of an fp32 victim, which then uses ONNX Runtime on CPUs."""
    folder, known = zoo.folder(name), zoo.card(name)
    complete = dataclasses.replace(known, onnx_sha256=store_file(folder, zoo.ONNX, content))
    replace_card(folder / zoo.CARD, complete)
    return complete


def _complete(folder: Path, described: Card, logits: Tensor, labels: Tensor) -> Card:
    answers = tensors_as_bytes({"logits": logits.float().contiguous(), "labels": labels.to(torch.int16)})
    complete = dataclasses.replace(
        described,
        answers_sha256=store_file(folder, zoo.ANSWERS, answers),
        test_accuracy=round(100 * float((logits.argmax(1) == labels).double().mean()), 2),
        test_pictures=len(labels),
        date=today(),
        versions=versions(),
    )
    replace_card(folder / zoo.CARD, complete)
    return complete


def checked_name(name: str) -> str:
    """Check the name of a new victim, and return it.

    Raises:
        VictimError: if it is not valid as the name of a folder.
    """
    if not name or name.startswith((".", zoo.TORCHVISION)) or Path(name).name != name:
        raise VictimError(f"a victim's name is also a folder's: {name!r} cannot be one, choose another")
    return name


def _new_folder(name: str, root: Path | None) -> Path:
    return (root or home() / "victims") / checked_name(name)


def removable(name: str) -> bool:
    """Whether a victim is the user's own, and not an included one."""
    return zoo.folder(name).parent == home() / "victims"


def remove(name: str) -> None:
    """Delete one of the user's own victims, with its second networks. The card is deleted first, which hides the rest.

    Raises:
        VictimError: if the victim is unknown or an included one.
    """
    if not removable(name):
        raise VictimError(f"{name} comes with this package and cannot be removed")
    folder = zoo.folder(name)
    (folder / zoo.CARD).unlink()
    shutil.rmtree(folder)
