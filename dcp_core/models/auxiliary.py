"""The second networks that AM, MAD and GRAD² need for a victim. They are stored in the victim's folder, each with a card.

`misinformation` (for AM) is trained to be wrong on the victim's training pictures. `surrogate` (for GRAD², optionally for
MAD) is used in place of the unknown clone; it is trained on the victim's clean answers to pictures that a thief may send.
`untrained` (for MAD as published) is a newly initialised surrogate, always with the same seed.
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
from dcp_core.models.architectures import build, second_architecture
from dcp_core.models.cards import check_sha256, file_of, read_card, read_file, replace_card, store_file
from dcp_core.models.inference import predict
from dcp_core.provenance import hardware, today, versions

TRAINED: tuple[Kind, ...] = ("surrogate", "misinformation")
EVERY = 5  # codebooks are computed from every fifth stored answer


@dataclass(frozen=True)
class AuxiliaryCard:
    """The description of a second network. `seconds` is its training time, `accuracy` its test accuracy in percent."""

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
    """The defense with the second network or the stored answers that it needs for a victim; unchanged if it needs none.

    Raises:
        VictimError: if they are missing (the message has the command that trains the network) or damaged.
    """
    if isinstance(defense, Learned):
        return defense.armed(stored_answers(victim))
    if not isinstance(defense, ModelBased) or defense.needs is None:
        return defense
    return defense.armed(load(victim, defense.needs, device))


def stored_answers(victim: str) -> StoredAnswers:
    """The answers from which the codebook of ModelGuard-S is computed: every fifth stored answer to the victim's test set.

    They represent the queries of customers, and need neither pictures nor a network. Four fifths of the test set are not
    used for the codebook, so that measurements on the test set are valid for new customers.

    Raises:
        VictimError: if the victim has no stored answers.
    """
    if victim.startswith(zoo.TORCHVISION):
        raise zoo.VictimError(
            f"a codebook needs stored answers of the victim, and {victim} has none: choose a trained victim"
        )
    return StoredAnswers(zoo.test_answers(victim)[0][::EVERY])


def load(victim: str, kind: Kind, device: str | torch.device = "cpu") -> nn.Module:
    """A second network of a victim, in eval mode.

    Raises:
        VictimError: as `arm`.
    """
    if victim.startswith(zoo.TORCHVISION):
        raise zoo.VictimError(
            f"AM, MAD and GRAD² need a second network, and {victim} has none: choose a trained victim"
        )
    known = zoo.card(victim)
    if kind == "untrained":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return build(second_architecture(known.architecture), len(known.classes)).to(device).eval()
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
    """The card of a second network; None if there is no such network.

    Raises:
        VictimError: if the card is damaged.
    """
    found = _card_in(victim, kind)
    return None if found is None else found[1]


def training_task(
    kind: str, victim: zoo.Victim, pool: ImageSet
) -> tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]:
    """Training targets and loss function of a second network.

    Args:
        kind: "surrogate" or "misinformation".
        pool: the training pictures.

    Returns:
        Posteriors (N, K) and cross-entropy for a surrogate; labels (N,) and the loss of AM for a misinformation model.

    Raises:
        VictimError: if a misinformation model would be trained on other data than the victim's training set.
    """
    if kind == "surrogate":
        return predict(victim.model, pool.images).softmax(-1), F.cross_entropy
    if pool.labels is None or pool.classes != victim.card.classes:
        raise zoo.VictimError(
            f"a misinformation model must be trained on the victim's own training set, not on {pool.name}: "
            "leave out the pool"
        )
    return pool.labels, misinformation_loss


def keep(network: nn.Module, described: AuxiliaryCard, root: Path | None = None) -> AuxiliaryCard:
    """Store a second network in its victim's folder, and return the complete card.

    An older one of the same kind is replaced atomically, as by `storing.save`.

    Args:
        described: a card with the fields that cannot be computed from the network.
        root: folder of victims. Default: `home()/victims`.
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
    """The folder and the card of a second network. The user's own network has priority over an included one."""
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
