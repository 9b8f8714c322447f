"""Named victims: the shipped ones, a user's own, and torchvision's.

A victim is a folder `victims/NAME` below `precomputed/` or `home()`:
`weights.safetensors`, or `model.onnx`, or both; `card.json`, which says what it is and how it was made;
`test_answers.safetensors`, its clean logits on its whole test set and the labels. Nothing in it is ever unpickled.

`model.onnx` is the whole of a quantized victim. Beside the weights of an fp32 victim it is the same network for
ONNX Runtime, which answers several times as fast as eager torch on CPUs (equal to 1e-5).
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_bytes
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dcp_core import release
from dcp_core.files import PRECOMPUTED, home, write_atomic
from dcp_core.models.architectures import Classifier, build
from dcp_core.provenance import hardware, today, versions
from dcp_core.vision import torchvision

TORCHVISION = "torchvision:"
WEIGHTS, ONNX, CARD, ANSWERS = "weights.safetensors", "model.onnx", "card.json", "test_answers.safetensors"
PRECISIONS = {"fp32": "fp32", "ptq": "int8 PTQ", "qat": "int8 QAT"}  # of a card, and in words


class VictimError(ValueError):
    """A victim is missing or unusable; the message says what to do next."""


@dataclass(frozen=True)
class Card:
    """What a victim is. `test_accuracy` in percent of the whole test set; `precision` one of `PRECISIONS`.

    `sha256` is that of the file with the weights, `onnx_sha256` that of `model.onnx` beside an fp32 victim's;
    `of` is the fp32 victim that a quantized one was made from.
    """

    name: str
    title: str
    dataset: str
    architecture: str
    classes: tuple[str, ...]
    size: int
    precision: str = "fp32"
    test_accuracy: float | None = None
    test_pictures: int = 0
    train_pictures: int = 0
    recipe: dict[str, Any] = field(default_factory=dict)
    parameters: int = 0
    sha256: str = ""
    onnx_sha256: str = ""
    of: str = ""
    date: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    hardware: str = ""


@dataclass(frozen=True)
class Victim:
    """A card and its model, in eval mode: pixels (N, 3, size, size) in [0, 1] -> logits (N, K)."""

    card: Card
    model: nn.Module


def names() -> list[str]:
    """The victims on this machine, shipped ones first."""
    found: dict[str, None] = {}
    for root in roots():
        for card in sorted(root.glob(f"*/{CARD}")):
            found.setdefault(card.parent.name)
    return list(found)


def card(name: str) -> Card:
    """What is known of a victim, without loading its weights.

    Raises:
        VictimError: for an unknown name or a broken card.
    """
    path = _folder(name) / CARD
    try:
        fields = json.loads(path.read_text())
        known = Card(**{**fields, "classes": tuple(fields["classes"])})
        if known.precision not in PRECISIONS:
            raise ValueError(f"precision {known.precision!r} is none of {', '.join(PRECISIONS)}")
        return known
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise VictimError(f"the card {path} is broken ({error}); train the victim again") from error


def load(name: str, device: str = "cpu") -> Victim:
    """A victim ready to answer. `torchvision:NAME` gives any classification model of torchvision on ImageNet.

    What has a `model.onnx` answers by ONNX Runtime: quantized victims always, fp32 ones on CPUs.

    Raises:
        VictimError: for an unknown name, files that do not match the card, or weights that cannot be fetched.
    """
    if name.startswith(TORCHVISION):
        return _load_torchvision(name, device)
    known = card(name)
    if known.precision == "fp32" and not (known.onnx_sha256 and torch.device(device).type == "cpu"):
        return Victim(known, network(name).to(device))
    content = onnx_file(name)
    from dcp_core.models.onnx_model import OnnxClassifier, OnnxError  # ONNX Runtime: not for every command

    try:
        model = OnnxClassifier(content, known.size, len(known.classes))
    except OnnxError as error:
        raise VictimError(f"{_folder(name) / ONNX} cannot be used: {error}") from error
    return Victim(known, model.to(device).eval())


def network(name: str) -> Classifier:
    """The torch network of an fp32 victim, for who trains it further or asks for its gradients; on the CPU.

    Raises:
        VictimError: as `load`, and for a quantized victim, which has none.
    """
    if name.startswith(TORCHVISION):
        model = _load_torchvision(name, "cpu").model
        assert isinstance(model, Classifier)
        return model
    known, path = card(name), _folder(name) / WEIGHTS
    if known.precision != "fp32":
        raise VictimError(f"{name} is {PRECISIONS[known.precision]}: take {known.of or 'the fp32 victim'} instead")
    try:
        model = build(known.architecture, len(known.classes))
        model.load_state_dict(load_bytes(_read(path, known.sha256)))
    except (SafetensorError, RuntimeError) as error:
        raise VictimError(f"the weights {path} cannot be read: {error}") from error
    return model.eval()


def onnx_file(name: str) -> bytes:
    """The content of a victim's `model.onnx`.

    Raises:
        VictimError: if it has none (the message has the command that makes it), or one that is not the card's.
    """
    known = card(name)
    if known.precision == "fp32" and not known.onnx_sha256:
        raise VictimError(
            f"{name} has no ONNX file yet: python -m dcp_core quantize --victim {name} --method fp32"
        )
    return _read(_folder(name) / ONNX, known.onnx_sha256 or known.sha256)


def size(name: str, file: str) -> int:
    """Bytes on disk of one of a victim's files.

    Raises:
        VictimError: for an unknown victim or a file that it does not have.
    """
    path = _folder(name) / file
    if not path.exists():
        raise VictimError(f"{name} has no {file}")
    return path.stat().st_size


def _read(path: Path, sha256: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise VictimError(f"{path} cannot be read: {error}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise VictimError(f"{path} is not the file that its card describes (its sha256 is {digest[:12]}...)")
    return content


def test_answers(name: str) -> tuple[Tensor, Tensor]:
    """Clean logits float32 (N, K) on the victim's full test set, and its labels int64 (N,).

    Raises:
        VictimError: when the file is missing or broken.
    """
    path = _folder(name) / ANSWERS
    try:
        stored = load_file(path)
        return stored["logits"], stored["labels"].long()
    except (OSError, SafetensorError, KeyError) as error:
        raise VictimError(f"{path} is missing or broken ({error}); train the victim again") from error


def save(
    model: Classifier,
    described: Card,
    logits: Tensor,
    labels: Tensor,
    root: Path | None = None,
) -> Card:
    """Store a victim and its clean answers on its test set; the card's measured fields are filled in here.

    Args:
        described: a card with the fields that nobody can measure from the model.
        logits: clean logits (N, K) on the test set; labels (N,).
        root: the folder of victims; `home()/victims` without it.
    """
    folder = (root or home() / "victims") / described.name
    folder.mkdir(parents=True, exist_ok=True)
    weights = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    _save_tensors(weights, folder / WEIGHTS)
    return _complete(
        folder,
        dataclasses.replace(
            described,
            parameters=sum(p.numel() for p in model.parameters()),
            sha256=hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest(),
            hardware=described.hardware or hardware(next(model.parameters()).device),
        ),
        logits,
        labels,
    )


def save_quantized(
    content: bytes, described: Card, logits: Tensor, labels: Tensor, root: Path | None = None
) -> Card:
    """Store a victim that is one ONNX file; arguments as for `save`."""
    folder = (root or home() / "victims") / described.name
    write_atomic(folder / ONNX, lambda file: file.write(content))
    digest = hashlib.sha256(content).hexdigest()
    described = dataclasses.replace(described, sha256=digest, hardware=described.hardware or hardware())
    return _complete(folder, described, logits, labels)


def add_onnx(name: str, content: bytes) -> Card:
    """Store `model.onnx` beside the weights of an fp32 victim, from when on it answers on CPUs."""
    folder, known = _folder(name), card(name)
    write_atomic(folder / ONNX, lambda file: file.write(content))
    complete = dataclasses.replace(known, onnx_sha256=hashlib.sha256(content).hexdigest())
    _write_card(folder, complete)
    return complete


def _complete(folder: Path, described: Card, logits: Tensor, labels: Tensor) -> Card:
    _save_tensors({"logits": logits.float(), "labels": labels.to(torch.int16)}, folder / ANSWERS)
    complete = dataclasses.replace(
        described,
        test_accuracy=round(100 * float((logits.argmax(1) == labels).double().mean()), 2),
        test_pictures=len(labels),
        date=today(),
        versions=versions(),
    )
    _write_card(folder, complete)  # last: a victim exists once it has a card
    return complete


def _write_card(folder: Path, described: Card) -> None:
    text = json.dumps(dataclasses.asdict(described), indent=2, ensure_ascii=False)
    write_atomic(folder / CARD, lambda file: file.write(text.encode()))


def _save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    part = path.with_name(f".{path.name}.part")
    save_file(tensors, part)
    part.chmod(0o644)
    part.replace(path)


def roots() -> tuple[Path, Path]:
    """The folders of victims: the shipped ones, and this machine's user's own."""
    return PRECOMPUTED / "victims", home() / "victims"


def _folder(name: str) -> Path:
    for root in roots():
        # Comparing with the folder's entries keeps a name such as "../../etc" from leading elsewhere.
        if any(card.parent.name == name for card in root.glob(f"*/{CARD}")):
            return root / name
    raise VictimError(
        f"no victim '{name}'; known: {', '.join(names()) or 'none'}, or {TORCHVISION}NAME. "
        + (release.hint(name) or "`python -m dcp_core train` makes one")
    )


def _load_torchvision(name: str, device: str) -> Victim:
    models = torchvision().models
    short = name.removeprefix(TORCHVISION)
    if short not in models.list_models(module=models):
        raise VictimError(f"torchvision has no classification model '{short}'; try {TORCHVISION}resnet18")
    weights = models.get_model_weights(short).DEFAULT
    try:
        network = models.get_model(short, weights=weights)
    except (OSError, RuntimeError) as error:
        raise VictimError(
            f"the weights of {short} could not be fetched ({error}): check the connection"
        ) from error
    preset = weights.transforms()
    model = Classifier(network, tuple(preset.mean), tuple(preset.std)).to(device).eval()
    described = Card(
        name=name,
        title=f"ImageNet {short} (torchvision)",
        dataset="imagenet",
        architecture=short,
        classes=tuple(weights.meta["categories"]),
        size=preset.crop_size[0],
        test_accuracy=weights.meta["_metrics"]["ImageNet-1K"]["acc@1"],
        test_pictures=50_000,
        parameters=weights.meta["num_params"],
        hardware="published by torchvision",
    )
    return Victim(described, model)
