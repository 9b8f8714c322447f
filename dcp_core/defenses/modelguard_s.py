"""ModelGuard-S: Tang, Dai, Wu, Chen and Liu, USENIX Security 2024. It replaces answers by entries of a codebook.

Every class has an ordered list of centroids. The answer to a posterior with top class k is the first centroid of class k
within an l1 distance of epsilon. In the published form, the codebook grows: if no centroid is near enough, the posterior
itself is answered and added to the list. Then an answer depends on earlier queries.

Here, the codebook is computed once and then fixed. The defense is then a function of the posterior, which can be swept,
exported, and served by several processes. If no centroid is within epsilon, the answer is the nearest centroid of the class,
or the posterior itself if the class has no centroid. For the sequence y from which the codebook was computed, both forms
give equal answers: those of the published form are `look_up(y, learn_codebook(y, epsilon), epsilon)`.

The codebook is computed from the victim's stored answers to pictures like those of customers (see
`auxiliary.stored_answers`). Therefore the answer to a customer is near a centroid, but the answer to a thief may not be.
Clients see the centroids. Each centroid is the clean answer to one of the stored pictures.
"""

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from dcp_core.defenses.base import Answer, Defense, parameter
from dcp_core.defenses.nodes import Nodes

FAR = (
    9.0  # value of all entries of a missing centroid, which is farther from any posterior than any two posteriors
)
MISSING = 2.5  # larger distances are to missing centroids, because two posteriors have a distance of at most 2
BLOCK = 2**20  # numbers compared at once
DIGITS = 6  # decimals of epsilon that distinguish codebooks; float32 has no more
KEPT = 64  # number of cached codebooks, and of cached results of first defenses


class StoredAnswers:
    """Clean answers from which codebooks are computed. Recently used codebooks are cached."""

    def __init__(self, logits: Tensor) -> None:
        """Take a victim's clean logits (n, K).

        Raises:
            ValueError: if there are none.
        """
        if not len(logits):
            raise ValueError("a codebook cannot be computed: there are no stored answers of the victim")
        self.logits = logits
        self._codebooks = lru_cache(KEPT)(lambda epsilon: learn_codebook(logits.softmax(-1), epsilon))
        self._behind = lru_cache(KEPT)(self._answered_by)

    def codebook(self, epsilon: float) -> Tensor:
        """The codebook (K, C, K) of these answers, see `learn_codebook`."""
        return self._codebooks(round(epsilon, DIGITS))

    def behind(self, defense: Defense) -> "StoredAnswers":
        """These answers after a defense. A randomised defense always uses the same random numbers here."""
        return self._behind(defense)

    def _answered_by(self, defense: Defense) -> "StoredAnswers":
        return StoredAnswers(defense(logits=self.logits, generator=torch.Generator().manual_seed(0)).log())


@dataclass(frozen=True)
class Learned(Defense):
    """Base of defenses that are computed from stored answers of the victim. `armed` sets the stored answers."""

    stored: StoredAnswers | None = dataclasses.field(default=None, repr=False, compare=False, kw_only=True)

    def armed(self, stored: StoredAnswers) -> Self:
        """This defense with stored answers of its victim."""
        return dataclasses.replace(self, stored=stored)

    def known(self) -> StoredAnswers:
        """The stored answers.

        Raises:
            ValueError: if `armed` was not called.
        """
        if self.stored is None:
            raise ValueError(f"{self.title} needs stored answers of the victim: give it some with `armed`")
        return self.stored


_NODES = """
    defense_class = ArgMax <axis = -1, keepdims = 0> (defense_y)
    defense_centroids = Gather <axis = 0> (defense_codebook, defense_class)
    defense_row = Unsqueeze (defense_y, defense_column)
    defense_apart = Sub (defense_centroids, defense_row)
    defense_distances = Abs (defense_apart)
    defense_l1 = ReduceSum <keepdims = 0> (defense_distances, defense_last)
    defense_near = LessOrEqual (defense_l1, defense_within)
    defense_nears = Cast <to = 1> (defense_near)
    defense_first = ArgMax <axis = -1, keepdims = 1> (defense_nears)
    defense_nearest = ArgMin <axis = -1, keepdims = 1> (defense_l1)
    defense_any_near = ReduceMax <keepdims = 1> (defense_nears, defense_last)
    defense_has_near = Greater (defense_any_near, defense_zero)
    defense_place = Where (defense_has_near, defense_first, defense_nearest)
    defense_centroid = GatherND <batch_dims = 1> (defense_centroids, defense_place)
    defense_least = ReduceMin <keepdims = 1> (defense_l1, defense_last)
    defense_none = Greater (defense_least, defense_missing)
    posterior = Where (defense_none, defense_y, defense_centroid)"""


@dataclass(frozen=True)
class ModelGuardS(Learned):
    """ModelGuard-S with a fixed codebook: answers the first centroid within epsilon, or else the nearest centroid."""

    epsilon: float = parameter(
        1.0,
        "ε",
        "Largest l1 distance at which a centroid replaces an answer.",
        low=0.05,
        high=2.0,
        label="Largest l1 distance",
    )

    name: ClassVar[str] = "mgs"
    title: ClassVar[str] = "ModelGuard-S (frozen)"
    short: ClassVar[str] = "ModelGuard-S"
    source: ClassVar[str] = "Tang et al., USENIX Security 2024; codebook frozen here"
    mark: ClassVar[tuple[str, str, str] | None] = ("#3d6fb5", "triangle-right", "dot")
    symmetric: ClassVar[bool] = False  # a centroid belongs to a class
    strength: ClassVar[str | None] = "epsilon"
    grid: ClassVar[tuple[float, ...]] = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.3, 1.6, 2.0)

    def nodes(self, classes: int) -> Nodes:
        """See `Defense`. The file contains the codebook, so epsilon is a constant of the file.

        Raises:
            ValueError: if `armed` was not called.
        """
        codebook = self.known().codebook(self.epsilon).float().cpu().numpy()
        limits = {"defense_within": self.epsilon, "defense_missing": MISSING}
        constants: dict[str, np.ndarray] = {name: np.array(value, np.float32) for name, value in limits.items()}
        return Nodes(_NODES, constants=constants | {"defense_codebook": codebook, "defense_column": np.array([1])})

    def _perturb(self, answer: Answer, strength: Any) -> Tensor:
        if isinstance(strength, Tensor):
            return torch.stack([self._perturb(answer, each) for each in strength.flatten().tolist()])
        epsilon = round(strength, DIGITS)
        return look_up(answer.y, self.known().codebook(epsilon), epsilon)


def learn_codebook(y: Tensor, epsilon: float) -> Tensor:
    """The codebook of a sequence of posteriors (n, K) by the published rule, with its order of centroids.

    Args:
        epsilon: largest l1 distance at which an earlier centroid replaces a posterior, 0 to 2.

    Returns:
        C centroids for each top class, (K, C, K). If a class has fewer, the rest has the value `FAR`.
    """
    top = y.argmax(-1)
    count = torch.zeros(y.shape[1], dtype=torch.int64, device=y.device)
    chosen: list[Tensor] = []
    waiting = torch.arange(len(y), device=y.device)  # not yet within epsilon of a centroid
    while len(waiting):
        # The first waiting posterior of each class is not near any centroid, so the rule adds it.
        first = torch.full_like(count, len(y)).scatter_reduce(0, top[waiting], waiting, "amin")
        chosen.append(first)
        near = (y[waiting] - y[first[top[waiting]]]).abs().sum(-1) <= epsilon
        waiting = waiting[~near]
    missing = y.new_full((1, y.shape[1]), FAR)
    return torch.cat([y, missing])[torch.stack(chosen, 1)]


def look_up(y: Tensor, codebook: Tensor, epsilon: float) -> Tensor:
    """Answers (N, K) of the form with a fixed codebook to posteriors (N, K).

    Args:
        codebook: (K, C, K), from `learn_codebook`.
        epsilon: l1 distance within which a centroid is near enough, 0 to 2.

    Raises:
        ValueError: if the codebook has another number of classes.
    """
    if codebook.shape[0] != y.shape[1]:
        raise ValueError(
            f"the answers have {y.shape[1]} classes, but the codebook has {codebook.shape[0]}: use the victim's own answers"
        )
    codebook = codebook.to(y)
    rows = max(1, BLOCK // (codebook.shape[1] * codebook.shape[2]))
    return torch.cat([_nearest(part, codebook, epsilon) for part in y.split(rows)])


def _nearest(y: Tensor, codebook: Tensor, epsilon: float) -> Tensor:
    centroids = codebook[y.argmax(-1)]  # (N, C, K)
    distance = (centroids - y[:, None]).abs().sum(-1)
    within = distance <= epsilon
    place = torch.where(within.any(-1), within.to(torch.uint8).argmax(-1), distance.argmin(-1))
    found = centroids[torch.arange(len(y), device=y.device), place]
    return torch.where(distance.amin(-1, keepdim=True) > MISSING, y, found)
