"""The second networks that AM, MAD and GRAD^2 need for a victim: kept beside it, each with a card of its own.

`misinformation` is trained to be wrong on the victim's training pictures (AM); `surrogate` stands for the thief's
network and is trained on the victim's clean answers to pictures that a thief may ask about (GRAD^2, MAD on request);
`untrained` is a surrogate as initialised, drawn anew from a fixed seed (MAD as published).
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as tensors_as_bytes
from torch import Tensor, nn

from dcp_core.data.datasets import ImageSet
from dcp_core.defenses import Defense
from dcp_core.defenses.adaptive_misinformation import misinformation_loss
from dcp_core.defenses.model_based import Kind, ModelBased
from dcp_core.defenses.modelguard_s import Learned, StoredAnswers
from dcp_core.files import home
from dcp_core.models import zoo
from dcp_core.models.architectures import ARCHITECTURES, build
from dcp_core.models.cards import check_sha256, file_of, read_card, read_file, replace_card, store_file
from dcp_core.models.inference import predict
from dcp_core.provenance import hardware, today, versions

TRAINED: tuple[Kind, ...] = ("surrogate", "misinformation")
EVERY = 5  # of the stored answers one is learned on


@dataclass(frozen=True)
class AuxiliaryCard:
    """What a second network is. `seconds` its training took; `accuracy` on the victim's test set in percent."""

    kind: str
    victim: str
    architecture: str
    data: str
    pictures: int
    recipe: dict[str, Any]
    seconds: float
    accuracy: float
    parameters: int
    sha256: str
    date: str = field(default_factory=today)
    versions: dict[str, str] = field(default_factory=versions)
    hardware: str = ""

    def __post_init__(self) -> None:
        check_sha256(sha256=self.sha256)

    @property
    def files(self) -> dict[str, str]:
        """The file with the weights, and its sha256."""
        return {f"{self.kind}.safetensors": self.sha256}


def arm(defense: Defense, victim: str, device: str | torch.device = "cpu") -> Defense:
    """`defense` with the network or the stored answers that it needs for that victim; as it is if it needs none.

    Raises:
        VictimError: when they are missing (the message has the command that makes a network) or broken.
    """
    if isinstance(defense, Learned):
        return defense.armed(stored_answers(victim))
    if not isinstance(defense, ModelBased) or defense.needs is None:
        return defense
    return defense.armed(load(victim, defense.needs, device))


def stored_answers(victim: str) -> StoredAnswers:
    """The answers that ModelGuard-S is learned on: every fifth of the victim's stored answers to its test set.

    They stand for what customers send, and need neither pictures nor a network. What is measured on the test set holds
    for new customers because four fifths of it were not learned on.

    Raises:
        VictimError: for a victim without stored answers.
    """
    if victim.startswith(zoo.TORCHVISION):
        raise zoo.VictimError(
            f"a codebook is learned on a victim's stored answers, which {victim} does not come with: choose a trained "
            "victim"
        )
    return StoredAnswers(zoo.test_answers(victim)[0][::EVERY])


def load(victim: str, kind: Kind, device: str | torch.device = "cpu") -> nn.Module:
    """A second network of a victim, in eval mode.

    Raises:
        VictimError: as `arm`.
    """
    if victim.startswith(zoo.TORCHVISION):
        raise zoo.VictimError(
            f"AM, MAD and GRAD² need a second network, which {victim} does not come with: choose a trained victim"
        )
    known = zoo.card(victim)
    if kind == "untrained":
        if known.architecture not in ARCHITECTURES:
            raise zoo.VictimError(f"there is no untrained surrogate of the architecture '{known.architecture}'")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return build(known.architecture, len(known.classes)).to(device).eval()
    found = _card_in(victim, kind)
    if found is None:
        raise zoo.VictimError(
            f"{victim} has no {kind} model yet: python -m dcp_core auxiliary --victim {victim} --kind {kind}"
        )
    folder, about = found
    path = file_of(folder, f"{kind}.safetensors", about.sha256)
    try:
        network = build(about.architecture, len(known.classes))
        network.load_state_dict(load_tensors(read_file(path, about.sha256)))
    except (SafetensorError, RuntimeError) as error:
        raise zoo.VictimError(f"the {kind} model {path} cannot be read: {error}") from error
    return network.to(device).eval()


def card(victim: str, kind: str) -> AuxiliaryCard | None:
    """What is known of a second network; None if there is none.

    Raises:
        VictimError: for a broken card.
    """
    found = _card_in(victim, kind)
    return None if found is None else found[1]


def lesson(kind: str, victim: zoo.Victim, pool: ImageSet) -> tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]:
    """Targets and loss that train a second network on a pool.

    Raises:
        VictimError: for a misinformation model and a pool without the victim's labels.
    """
    if kind == "surrogate":
        return predict(victim.model, pool.images).softmax(-1), F.cross_entropy
    if pool.labels is None or pool.classes != victim.card.classes:
        raise zoo.VictimError(f"a misinformation model learns from the victim's own training set, not {pool.name}")
    return pool.labels, misinformation_loss


def keep(network: nn.Module, described: AuxiliaryCard, root: Path | None = None) -> AuxiliaryCard:
    """Store a second network beside its victim, below `root` (a folder of victims; `home()/victims` without it).

    One of the same kind is replaced in one step, as by `zoo.save`.
    """
    folder = (root or home() / "victims") / described.victim
    weights = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    complete = dataclasses.replace(
        described,
        sha256=store_file(folder, f"{described.kind}.safetensors", tensors_as_bytes(weights)),
        parameters=sum(p.numel() for p in network.parameters()),
        hardware=described.hardware or hardware(next(network.parameters()).device),
    )
    replace_card(folder / f"{described.kind}.json", complete)
    return complete


def _card_in(victim: str, kind: str) -> tuple[Path, AuxiliaryCard] | None:
    """A second network's card and its folder; what this machine's user made goes before what was shipped."""
    name = zoo.card(victim).name
    for root in reversed(zoo.roots()):
        path = root / name / f"{kind}.json"
        if path.exists():
            about = read_card(path, AuxiliaryCard)
            if (about.victim, about.kind) != (victim, kind):
                raise zoo.VictimError(
                    f"the card {path} is broken (it is of a {about.kind} model of '{about.victim}'): make it again"
                )
            return path.parent, about
    return None
