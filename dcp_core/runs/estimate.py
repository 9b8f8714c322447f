"""Estimate how long a run takes on this machine: a small part of the same work is timed and scaled up."""

import dataclasses
import time
from functools import lru_cache, partial

import torch
from torch import Tensor, nn

from dcp_core.attacks import Attack, Event, Oracle, Theft
from dcp_core.data import synthetic
from dcp_core.data.datasets import DATASETS, ImageSet, Split, path_of, pictures
from dcp_core.defenses import Defense
from dcp_core.models import zoo
from dcp_core.models.architectures import build
from dcp_core.models.auxiliary import arm
from dcp_core.models.fast import WHITEN_LEAST
from dcp_core.models.inference import predict
from dcp_core.models.pretrained import FEATURES, FROZEN, REPORT, STEPS, FrozenNet, train_head
from dcp_core.runs.spec import RunSpec
from dcp_core.runs.worker import LOGS, curve_pictures, transfer_pictures

START = 5.0  # seconds in which a new process imports torch; a busy machine needs longer
PIECE = 256  # number of pictures that are timed
PGD_PASSES = 10 * 3  # forward passes of the clone that take as long as one adversarial picture


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Seconds that the parts of a run take on this machine if nothing else runs, with torch's current threads."""

    loading: float
    attack: float
    judging: float

    @property
    def seconds(self) -> float:
        """Seconds of the whole run."""
        return self.loading + self.attack + self.judging


def estimate(spec: RunSpec) -> Estimate:
    """Time a small part of a run and scale it up; takes a second or two, once for each kind of run.

    Raises:
        ValueError: for a victim or second network that is missing.
    """
    card = _victim(spec.victim).card
    test = max(1, card.test_pictures)
    _, seen = _sides(spec)
    victim, clone = _speed_of_victim(spec.victim), _speed_of_clone(spec.clone, len(card.classes), seen)
    logs = LOGS * min(curve_pictures(spec.budget), test)
    clone *= spec.make_attack().passes
    few = min(transfer_pictures(card.size), test) if card.source != zoo.SERVICE else 0
    judging = (logs + test + few * PGD_PASSES) * clone + few * victim
    drawing = _drawing(card.dataset, "test") + (_drawing(spec.pool, "train") if spec.pool else 0)
    loading = START + drawing + (0 if card.source else test * victim)
    return Estimate(loading, _attack_seconds(spec), judging)


def _attack_seconds(spec: RunSpec) -> float:
    attack, defense = spec.make_attack(), spec.make_defense()
    local = _local_seconds(spec, attack, defense)
    if _victim(spec.victim).card.source == zoo.SERVICE:
        return local + spec.budget / zoo.service(spec.victim).per_second
    return local


def _local_seconds(spec: RunSpec, attack: Attack, defense: Defense) -> float:
    """Seconds that this machine computes."""
    if spec.clone == FROZEN:
        return _frozen_seconds(spec)
    return attack.seconds(spec.budget, partial(_timed, spec.victim, spec.clone, _sides(spec), defense))


def _sides(spec: RunSpec) -> tuple[int, int]:
    """See `RunSpec.sides`. The pictures of a folder have the victim's size; those of an unread file may have another."""
    size = _victim(spec.victim).card.size
    pool = None if spec.pool is None else DATASETS[spec.pool].size if spec.pool in DATASETS else size
    return spec.sides(size, pool)


def _frozen_seconds(spec: RunSpec) -> float:
    """Seconds of an attack with a pretrained clone, if no features of its pictures are stored yet."""
    card = _victim(spec.victim).card
    pictures = spec.budget // spec.attack_parameters.get("repeats", 1)
    feature = _speed_of_clone(spec.clone, len(card.classes), card.size)
    answer = _speed_of_answer(spec.victim, spec.make_defense())
    return spec.budget * answer + pictures * feature + STEPS / REPORT * _speed_of_head(len(card.classes))


def _clock() -> float:
    """Seconds so far. Where one thread computes everything, they are its processor time, so that other programs that run
    during the measurement do not count."""
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    return time.thread_time() if alone else time.monotonic()


@lru_cache(maxsize=64)
def _speed_of_answer(victim: str, defense: Defense) -> float:
    """Seconds of one defended answer."""
    size = _victim(victim).card.size
    oracle = _theft(victim, FROZEN, (size, size), defense, 2 * PIECE, None).oracle
    pictures = _noise(PIECE, size)
    oracle.query(pictures[:8])
    began = _clock()
    oracle.query(pictures)
    return (_clock() - began) / PIECE


@lru_cache(maxsize=16)
def _speed_of_head(classes: int) -> float:
    """Seconds of the steps between two reports of the training of a pretrained clone's head."""
    network = FrozenNet(classes)
    features, targets = torch.rand(PIECE, FEATURES), torch.full((PIECE, classes), 1 / classes)
    first, last = train_head(network, features, targets, 0, steps=2 * REPORT)
    return last.seconds - first.seconds


@lru_cache(maxsize=64)
def _timed(
    victim: str, clone: str, sides: tuple[int, int], defense: Defense, attack: Attack, budget: int
) -> list[tuple[Event, float]]:
    """Every event of a small theft, and the seconds until it; see `attacks.base.Timed` and `RunSpec.sides`."""
    pool = ImageSet("timing", _noise(max(budget, WHITEN_LEAST), sides[0]), None, ()) if attack.needs_pool else None
    theft = _theft(victim, clone, sides, defense, budget, pool)
    theft.logs = budget  # an event after each iteration
    began = _clock()
    return [(event, _clock() - began) for event in attack.steps(theft)]


def _theft(
    victim: str, clone: str, sides: tuple[int, int], defense: Defense, budget: int, pool: ImageSet | None
) -> Theft:
    loaded, guarded = _victim(victim), arm(defense, victim)
    sent, seen = sides
    oracle = Oracle(loaded.model, guarded, budget, shape=(3, sent, sent), side=loaded.card.size)
    network = build(clone, oracle.classes)
    if clone != FROZEN:
        network.side = seen
    return Theft(oracle, network, pool=pool, known_defense=guarded)


class _Silent(nn.Module):
    """Takes the place of a service, which gets no requests for an estimate."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.known_classes = classes
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.zeros(len(pixels), self.known_classes)


@lru_cache(maxsize=4)
def _victim(name: str) -> zoo.Victim:
    if not name.startswith(zoo.TORCHVISION) and zoo.card(name).source == zoo.SERVICE:
        return zoo.Victim(zoo.card(name), _Silent(len(zoo.card(name).classes)))
    return zoo.load(name)


@lru_cache(maxsize=16)
def _speed_of_victim(name: str) -> float:
    """Seconds of one answer without a defense."""
    return _forward(_victim(name).model, _victim(name).card.size)


@lru_cache(maxsize=16)
def _speed_of_clone(architecture: str, classes: int, size: int) -> float:
    """Seconds of one forward pass of one picture."""
    return _forward(build(architecture, classes), size)


def _forward(model: nn.Module, size: int) -> float:
    pictures = _noise(PIECE if size <= 64 else 16, size)
    predict(model, pictures[:8])
    began = _clock()
    predict(model, pictures)
    return (_clock() - began) / len(pictures)


def _noise(count: int, size: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)


def _drawing(name: str, split: Split) -> float:
    """Seconds that it takes to draw a data set; 0 if it is already on this machine or is not drawn."""
    if name not in DATASETS or not DATASETS[name].drawn:
        return 0.0
    if path_of(name).exists() or path_of(f"{name}-{split}").exists():
        return 0.0
    return pictures(name, split) / synthetic.BLOCK * _block(name == "textures")


@lru_cache(maxsize=2)
def _block(textures: bool) -> float:
    began = _clock()
    synthetic.textures(synthetic.BLOCK, 0) if textures else synthetic.signs(synthetic.BLOCK, 0)
    return _clock() - began
