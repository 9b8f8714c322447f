"""Named victims: included ones, the user's own, and those of torchvision.

A victim is a folder `victims/NAME` in `precomputed/` or `home()`. Its files are `weights.safetensors`, `model.onnx`, or
both; `card.json`, which describes the victim and its training; and `test_answers.safetensors`, its clean logits on its
whole test set and the labels. Pickle files are never loaded. The names of stored files contain the first digits of their
sha256 (see `cards.py`). `storing.py` writes and removes victims.

A quantized victim, and one that was given as a file (`dcp_core/given`), has only `model.onnx`. For other fp32 victims,
`model.onnx` is the same network as the weights. On CPUs, ONNX Runtime answers several times as fast as eager torch, with
posteriors equal to 1e-5.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from dcp_core import release
from dcp_core.files import PRECOMPUTED, disk_trouble, home, read_regular
from dcp_core.models.architectures import Classifier, build
from dcp_core.models.cards import (
    VictimError,
    check_sha256,
    file_of,
    read_card,
    read_file,
)
from dcp_core.models.service import Service, ServiceError, read_service
from dcp_core.vision import torchvision

TORCHVISION = "torchvision:"
WEIGHTS, ONNX, CARD, ANSWERS = "weights.safetensors", "model.onnx", "card.json", "test_answers.safetensors"
GIVEN, SERVICE = "file", "service"  # sources of victims that were made elsewhere
SOURCES = ("", GIVEN, SERVICE)
DESCRIPTION = "service.toml"
PRECISIONS = {"fp32": "fp32", "ptq": "int8 PTQ", "qat": "int8 QAT"}  # value in a card -> description


@dataclass(frozen=True)
class Card:
    """The description of a victim. `test_accuracy` is in percent, `precision` is one of `PRECISIONS`.

    `sha256` is that of the main file (weights, or `model.onnx` of a quantized victim), `onnx_sha256` that of `model.onnx` of
    an fp32 victim, and `answers_sha256` that of the test answers. `of` is the fp32 victim from which a quantized victim
    was made. `source` is empty for victims of this project, and `GIVEN` for one that was given as a file. The file contains
    its `preprocessing`, see `models/preprocessing.py`. A `SERVICE` has `service.toml`, see `models/service.py`, and in its
    recipe `most_requests`, the limit on requests in all.

    Raises:
        ValueError: if the size is below 1, precision or source is unknown, the accuracy above 100, or a sha256 invalid.
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
    answers_sha256: str = ""
    of: str = ""
    source: str = ""
    preprocessing: dict[str, Any] = field(default_factory=dict)
    date: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    hardware: str = ""

    def __post_init__(self) -> None:
        check_sha256(sha256=self.sha256, onnx_sha256=self.onnx_sha256, answers_sha256=self.answers_sha256)
        if self.size < 1:
            raise ValueError(f"size is {self.size}, below one pixel")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision {self.precision!r} is not one of {', '.join(PRECISIONS)}")
        if self.source not in SOURCES:
            raise ValueError(f"source {self.source!r} is not known to this version")
        if self.test_accuracy is not None and not 0 <= self.test_accuracy <= 100:
            raise ValueError(f"test_accuracy is {self.test_accuracy}, not a percentage")

    @property
    def files(self) -> dict[str, str]:
        """The files of the victim with their sha256, which is "" if the card does not have it."""
        if self.source == SERVICE:
            network = {DESCRIPTION: self.sha256}
        else:
            network = {WEIGHTS: self.sha256, ONNX: self.onnx_sha256} if self.has_weights else {ONNX: self.sha256}
        return network | {ANSWERS: self.answers_sha256}

    @property
    def has_weights(self) -> bool:
        """Whether the victim has a torch network, and not only an ONNX file."""
        return self.precision == "fp32" and not self.source

    @property
    def has_onnx(self) -> bool:
        """Whether the victim has a `model.onnx`."""
        return bool(self.onnx_sha256) or not (self.has_weights or self.source == SERVICE)


@dataclass(frozen=True)
class Victim:
    """A card and its model, in eval mode: pixels (N, 3, size, size) in [0, 1] -> logits (N, K)."""

    card: Card
    model: nn.Module


def cards() -> list[Card]:
    """The cards of the victims on this machine, included ones first. Cards that cannot be read are left out."""
    return [found for found in _every_card() if isinstance(found, Card)]


def names() -> list[str]:
    """The names of the victims of `cards`."""
    return [found.name for found in cards()]


def problems() -> list[VictimError]:
    """One error for each card that cannot be read. `cards` and `names` leave these victims out."""
    return [found for found in _every_card() if isinstance(found, VictimError)]


def card(name: str) -> Card:
    """The card of a victim. Its weights are not loaded.

    Raises:
        VictimError: if the name is unknown or the card is damaged.
    """
    return _card_in(folder(name))


def load(name: str, device: str = "cpu") -> Victim:
    """Load a victim. `torchvision:NAME` loads a classification model of torchvision on ImageNet.

    Quantized victims use ONNX Runtime. Victims in fp32 use it on CPUs if they have a `model.onnx`.

    Raises:
        VictimError: if the name is unknown, files do not match the card, or weights cannot be downloaded.
    """
    if name.startswith(TORCHVISION):
        return _load_torchvision(name, device)
    known = card(name)
    if known.has_weights and not (known.onnx_sha256 and torch.device(device).type == "cpu"):
        return Victim(known, network(name).to(device))
    if known.source == SERVICE:
        return _load_service(known, device)
    content = onnx_file(name)
    from dcp_core.models.onnx_model import OnnxClassifier  # imports ONNX Runtime, which few commands need
    from dcp_core.models.onnx_session import OnnxError

    try:
        model = OnnxClassifier(content, known.size, len(known.classes))
    except OnnxError as error:
        raise VictimError(f"{_path(known, ONNX)} cannot be used: {error}") from error
    return Victim(known, model.to(device).eval())


def network(name: str) -> Classifier:
    """The torch network of an fp32 victim on the CPU, for further training or gradients.

    Raises:
        VictimError: as `load`, and if the victim is quantized or was given as a file, because it has no torch network.
    """
    if name.startswith(TORCHVISION):
        model = _load_torchvision(name, "cpu").model
        assert isinstance(model, Classifier)
        return model
    known = card(name)
    if known.source:
        raise VictimError(
            f"{name} was given as a {known.source}: it has no torch network that could be trained further"
        )
    if not known.has_weights:
        raise VictimError(f"{name} is {PRECISIONS[known.precision]}: take {known.of or 'the fp32 victim'} instead")
    path = _path(known, WEIGHTS)
    try:
        model = build(known.architecture, len(known.classes))
        model.load_state_dict(load_tensors(read_file(path, known.sha256)))
    except (SafetensorError, RuntimeError) as error:
        raise VictimError(f"the weights {path} cannot be read: {error}") from error
    return model.eval()


def onnx_file(name: str) -> bytes:
    """The content of a victim's `model.onnx`.

    Raises:
        VictimError: if there is none (the message has the command that makes it), or it does not match the card.
    """
    known = card(name)
    if known.source == SERVICE:
        raise VictimError(f"{name} is a service: its network is not on this machine")
    if not known.has_onnx:
        raise VictimError(
            f"{name} has no ONNX file yet: python -m dcp_core quantize --victim {name} --method fp32"
        )
    return read_file(_path(known, ONNX), known.onnx_sha256 or known.sha256)


def size(name: str, file: str) -> int:
    """Size in bytes of a file of a victim: `WEIGHTS`, `ONNX` or `ANSWERS`.

    Raises:
        VictimError: if the victim is unknown or does not have the file.
    """
    path = _path(card(name), file)
    if not path.exists():
        raise VictimError(f"{name} has no {file}")
    return path.stat().st_size


def test_answers(name: str) -> tuple[Tensor, Tensor]:
    """Clean logits, float32 (N, K), on the victim's whole test set, and the labels, int64 (N,).

    Raises:
        VictimError: if the file is missing, damaged, or does not match the card.
    """
    known = card(name)
    path = _path(known, ANSWERS)
    try:
        content = read_file(path, known.answers_sha256) if known.answers_sha256 else read_regular(path)
        stored = load_tensors(content)
        logits, labels = stored["logits"].float(), stored["labels"].long()
    except (OSError, SafetensorError, KeyError, VictimError) as error:
        raise VictimError(f"{path} is missing or broken ({error}); train the victim again") from error
    if logits.shape != (len(labels), len(known.classes)):
        raise VictimError(
            f"{path} has answers {tuple(logits.shape)} for {len(labels)} labels and {len(known.classes)} classes; "
            "train the victim again"
        )
    return logits, labels


def roots() -> tuple[Path, Path]:
    """The folders of victims: of the included ones, and of the user's own."""
    return PRECOMPUTED / "victims", home() / "victims"


def _every_card() -> list[Card | VictimError]:
    """The card of each victim, or the error of a card that cannot be read."""
    folders: dict[str, Path] = {}
    for root in roots():
        for path in sorted(root.glob(f"*/{CARD}")):
            folders.setdefault(path.parent.name, path.parent)
    found: list[Card | VictimError] = []
    for folder in folders.values():
        try:
            found.append(_card_in(folder))
        except VictimError as error:
            found.append(error)
    return found


def _card_in(folder: Path) -> Card:
    known = read_card(folder / CARD, Card)
    if known.name != folder.name:
        raise VictimError(
            f"the card {folder / CARD} is of '{known.name}': rename the folder or make the victim again"
        )
    return known


def _path(known: Card, file: str) -> Path:
    return file_of(folder(known.name), file, known.files.get(file, ""))


def folder(name: str) -> Path:
    """The folder of a victim.

    Raises:
        VictimError: if no victim has this name.
    """
    for root in roots():
        # Compared with existing entries, so that a name such as "../../etc" cannot leave the folder.
        if any(card.parent.name == name for card in root.glob(f"*/{CARD}")):
            return root / name
    raise VictimError(
        f"no victim '{name}'; known: {', '.join(names()) or 'none'}, or {TORCHVISION}NAME. "
        + (release.hint(name) or "`python -m dcp_core victims add` adds your own, `train` makes one")
    )


def service(name: str) -> Service:
    """The description of a victim that is a service.

    Raises:
        VictimError: if the victim is unknown or no service, or the description is damaged or does not fit the card.
    """
    known = card(name)
    path = _path(known, DESCRIPTION)
    try:
        found = read_service(read_file(path, known.sha256).decode())
    except (ServiceError, UnicodeDecodeError) as error:
        raise VictimError(f"{path} cannot be used: {error}") from error
    if found.classes != known.classes or found.size != known.size:
        raise VictimError(f"{path} does not fit its card: add the service again")
    return found


def _load_service(known: Card, device: str) -> Victim:
    from dcp_core.models.remote import RemoteClassifier  # imports the HTTP client, which few commands need

    most = known.recipe.get("most_requests")
    if not isinstance(most, int):
        raise VictimError(f"the card of {known.name} has no limit on requests: add the service again")
    return Victim(known, RemoteClassifier(service(known.name), most).to(device).eval())


def _load_torchvision(name: str, device: str) -> Victim:
    models = torchvision().models
    short = name.removeprefix(TORCHVISION)
    if short not in models.list_models(module=models):
        raise VictimError(f"torchvision has no classification model '{short}'; try {TORCHVISION}resnet18")
    weights = models.get_model_weights(short).DEFAULT
    try:
        network = models.get_model(short, weights=weights)
    except (OSError, RuntimeError) as error:
        if disk_trouble(error):
            raise
        raise VictimError(
            f"the weights of {short} could not be downloaded ({error}): check the internet connection"
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
