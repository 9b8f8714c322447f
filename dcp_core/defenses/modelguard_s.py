"""ModelGuard-S: Tang, Dai, Wu, Chen and Liu, USENIX Security 2024: answers from a codebook, so that details are lost.

Every class has an ordered list of centroids. A posterior with top class k is answered with the first centroid of class k
whose l1 distance is at most epsilon. As published, the codebook grows while it answers: where no centroid is near
enough, the posterior itself is answered and appended. Then an answer depends on who asked before.

Here the codebook is learned once and then frozen, which makes the defense a function of the posterior: it can be swept,
exported and served by several processes at once. A posterior without a centroid near enough gets the nearest one of its
class, or itself where its class has none. To the answers that a codebook was learned on, in their order, both forms give
the same: `look_up(y, learn_codebook(y, epsilon), epsilon)` is what the published form answers to the sequence y.

It is learned on stored answers of the victim to pictures of the kind that customers send (`auxiliary.stored_answers` says
which), so a customer's answer is near a centroid, and a thief's may not be. Clients see the centroids as they are, and
each is the answer to one of those pictures.
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

FAR = 9.0  # every number of a missing centroid: farther from any posterior than two posteriors can be
MISSING = 2.5  # distances beyond it are to missing centroids: that of two posteriors is at most 2
BLOCK = 2**20  # numbers compared in one go
DIGITS = 6  # of epsilon that distinguish codebooks; a float32 has no more
KEPT = 64  # codebooks of the same answers, and defenses before them


class StoredAnswers:
    """Clean answers that codebooks are learned on. The codebooks used last are kept."""

    def __init__(self, logits: Tensor) -> None:
        """Take a victim's clean logits (n, K).

        Raises:
            ValueError: if there are none.
        """
        if not len(logits):
            raise ValueError("a codebook is learned on stored answers, and there are none")
        self.logits = logits
        self._codebooks = lru_cache(KEPT)(lambda epsilon: learn_codebook(logits.softmax(-1), epsilon))
        self._behind = lru_cache(KEPT)(self._answered_by)

    def codebook(self, epsilon: float) -> Tensor:
        """The codebook (K, C, K) of these answers; see `learn_codebook`."""
        return self._codebooks(round(epsilon, DIGITS))

    def behind(self, defense: Defense) -> "StoredAnswers":
        """What a defense makes of these answers; its random numbers, if any, are always the same."""
        return self._behind(defense)

    def _answered_by(self, defense: Defense) -> "StoredAnswers":
        return StoredAnswers(defense(logits=self.logits, generator=torch.Generator().manual_seed(0)).log())


@dataclass(frozen=True)
class Learned(Defense):
    """Base of the defenses that are learned on stored answers, which `armed` gives them."""

    stored: StoredAnswers | None = dataclasses.field(default=None, repr=False, compare=False, kw_only=True)

    def armed(self, stored: StoredAnswers) -> Self:
        """This defense with stored answers of the victim that it defends."""
        return dataclasses.replace(self, stored=stored)

    def known(self) -> StoredAnswers:
        """The stored answers.

        Raises:
            ValueError: before `armed`.
        """
        if self.stored is None:
            raise ValueError(f"{self.title} is learned on stored answers of the victim: give it some with `armed`")
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
    """ModelGuard-S with a frozen codebook: the first centroid within epsilon, else the nearest."""

    epsilon: float = parameter(
        1.0, "ε", "l1 distance within which a centroid stands for an answer.", low=0.05, high=2.0
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
        """See `Defense`; the codebook is in the file, so its epsilon cannot be an input.

        Raises:
            ValueError: before `armed`.
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
    """The codebook of a sequence of posteriors (n, K) by the published rule, and in its order.

    Returns:
        Centroids (K, C, K) for each top class; rows of `FAR` where a class has fewer than C.
    """
    top = y.argmax(-1)
    count = torch.zeros(y.shape[1], dtype=torch.int64, device=y.device)
    chosen: list[Tensor] = []
    waiting = torch.arange(len(y), device=y.device)  # not yet within epsilon of a centroid
    while len(waiting):
        # The first one that waits in each class was near no centroid: the rule appends it.
        first = torch.full_like(count, len(y)).scatter_reduce(0, top[waiting], waiting, "amin")
        chosen.append(first)
        near = (y[waiting] - y[first[top[waiting]]]).abs().sum(-1) <= epsilon
        waiting = waiting[~near]
    missing = y.new_full((1, y.shape[1]), FAR)
    return torch.cat([y, missing])[torch.stack(chosen, 1)]


def look_up(y: Tensor, codebook: Tensor, epsilon: float) -> Tensor:
    """The frozen form's answers (N, K) to posteriors (N, K).

    Raises:
        ValueError: for a codebook of another number of classes.
    """
    if codebook.shape[0] != y.shape[1]:
        raise ValueError(f"the answers have {y.shape[1]} classes, the codebook {codebook.shape[0]}")
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
