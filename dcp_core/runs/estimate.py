"""How long a run will take on this machine: a small piece of the very same work is timed, and scaled up."""

import dataclasses
import math
import time
from functools import lru_cache

import torch
from torch import Tensor, nn

from dcp_core.attacks import Oracle, Theft, make_attack
from dcp_core.attacks.data_free import DataFree
from dcp_core.attacks.knockoff import KnockoffNets
from dcp_core.data import synthetic
from dcp_core.data.datasets import DATASETS, ImageSet, path_of
from dcp_core.defenses import Defense
from dcp_core.models import zoo
from dcp_core.models.architectures import build
from dcp_core.models.auxiliary import arm
from dcp_core.models.inference import predict
from dcp_core.runs.spec import RunSpec
from dcp_core.runs.worker import LOGS, TRANSFER_PICTURES, curve_pictures

START = 5.0  # seconds until a fresh process has loaded torch; more on a busy machine
PIECE = 256  # pictures of a timed piece
PGD_PASSES = 10 * 3  # forward passes that making one adversarial picture costs on the clone
TIMED = 2  # iterations of a data-free attack that are timed, after one that warms up
ASKED = "asking"


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Seconds of a run's parts on this machine, alone and with the threads it is asked with."""

    loading: float
    attack: float
    judging: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.loading + self.attack + self.judging


def estimate(spec: RunSpec) -> Estimate:
    """Time a small piece of a run (a second or two, once per kind of run) and scale it up.

    Raises:
        ValueError: for a victim or second network that is missing.
    """
    card = _victim(spec.victim).card
    test = max(1, card.test_pictures)
    victim, clone = _speed_of_victim(spec.victim), _speed_of_clone(spec.clone, len(card.classes), card.size)
    logs = LOGS * min(curve_pictures(spec.budget), test)
    judging = (logs + test + min(TRANSFER_PICTURES, test) * PGD_PASSES) * clone
    drawing = _drawing(card.dataset, "test") + (_drawing(spec.pool, "train") if spec.pool else 0)
    loading = START + drawing + test * victim
    return Estimate(loading, _attack_seconds(spec), judging)


def _attack_seconds(spec: RunSpec) -> float:
    attack = spec.make_attack()
    if isinstance(attack, KnockoffNets):
        answer, step = _knockoff(*_who(spec), attack.batch)
        pictures = math.ceil(spec.budget / attack.repeats)
        return spec.budget * answer + attack.epochs * pictures * step
    if not isinstance(attack, DataFree):
        raise ValueError(f"nobody has said yet how long {attack.title} takes")
    return spec.budget / attack.queries_per_iteration * _iteration(*_who(spec), attack)


def _who(spec: RunSpec) -> tuple[str, str, Defense]:
    return spec.victim, spec.clone, spec.make_defense()


@lru_cache(maxsize=64)
def _knockoff(victim: str, clone: str, defense: Defense, batch: int) -> tuple[float, float]:
    """Seconds of one answer, and of one picture in one epoch of the clone's training."""
    size = _victim(victim).card.size
    seconds = 0.0, 0.0
    for count in (2 * batch, max(2 * batch, PIECE)):  # the first warms up: a first step takes seconds
        theft = _theft(victim, clone, defense, count, ImageSet("timing", _noise(count, size), None, ()))
        began, marks = time.monotonic(), []
        for event in make_attack("knockoff", epochs=2, batch=batch).steps(theft):
            marks.append((event.phase, time.monotonic()))
        asked = max(at for phase, at in marks if phase == ASKED)
        trained = max(at for phase, at in marks if phase == "training")
        seconds = (asked - began) / count, (trained - asked) / (2 * count)
    return seconds


@lru_cache(maxsize=64)
def _iteration(victim: str, clone: str, defense: Defense, whole: DataFree) -> float:
    """Seconds of one iteration, timed with a smaller batch where that is large."""
    small = dataclasses.replace(whole, batch=max(2, min(whole.batch, 32)))
    theft = _theft(victim, clone, defense, (1 + TIMED) * small.queries_per_iteration, None)
    steps, ticks = small.steps(theft), []
    theft.logs = 1 + TIMED  # an event after each iteration
    for event in steps:
        ticks.append((event.queries, time.monotonic()))
    first, last = ticks[0], ticks[-1]
    done = (last[0] - first[0]) / small.queries_per_iteration
    return (last[1] - first[1]) / done * whole.batch / small.batch


def _theft(victim: str, clone: str, defense: Defense, budget: int, pool: ImageSet | None) -> Theft:
    loaded, guarded = _victim(victim), arm(defense, victim)
    size = loaded.card.size
    oracle = Oracle(loaded.model, guarded, budget, shape=(3, size, size))
    return Theft(oracle, build(clone, oracle.classes), pool=pool, known_defense=guarded)


@lru_cache(maxsize=4)
def _victim(name: str) -> zoo.Victim:
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
    began = time.monotonic()
    predict(model, pictures)
    return (time.monotonic() - began) / len(pictures)


def _noise(count: int, size: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)


def _drawing(name: str, split: str) -> float:
    """Seconds that drawing a set takes the first time; 0 for one that is here."""
    counts = {"signs": 10_000, "signs_pool": 30_000, "signs_pool_small": 4096, "textures": 30_000}
    if name not in DATASETS or not DATASETS[name].drawn:
        return 0.0
    if path_of(name).exists() or path_of(f"{name}-{split}").exists():
        return 0.0
    return counts[name] / synthetic.BLOCK * _block(name == "textures")


@lru_cache(maxsize=2)
def _block(textures: bool) -> float:
    began = time.monotonic()
    synthetic.textures(synthetic.BLOCK, 0) if textures else synthetic.signs(synthetic.BLOCK, 0)
    return time.monotonic() - began
