"""ModelGuard-W: Tang, Dai, Wu, Chen and Liu, USENIX Security 2024: the least informative answer within an l1 budget.

    minimise    sum_i log(y_i + f) y'_i                                          f = 1e-6
    subject to  sum y' = 1,  y' >= 0,  ||y' - y||_1 <= epsilon,  y'_top >= y'_j + t for every other class j,  t = 1e-4

The released code uses a general solver of linear programs. Here, each program is solved exactly without one. For a given
top posterior T, the solution is greedy: sort the other classes by their posterior; no other class may exceed the cap T - t;
the least likely classes receive mass up to the cap, and the most likely ones give mass down to 0. The remaining cost is a
convex, piecewise linear function of T. Its minimum is where its slope changes sign.

The computation is in double precision. For a float32 posterior, all constraints hold to 1e-6, and the cost is within 1e-5
of the minimum. There are no ONNX nodes for this defense: the search for T needs many rounds in double precision, and
each takes as long as a complete other defense in ONNX Runtime, which runs operators one after another.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from dcp_core.defenses.base import Answer, Defense, normalise, parameter

SMALL, MARGIN = 1e-6, 1e-4  # f and t
BITS = 40  # halvings of the interval of T, to a width of 1e-12: the cost, whose slope is below 14 K, is then within 1e-8
AT_ONCE = 8  # largest number of halvings in one round: the slope is computed at 2^8 - 1 places
BLOCK = 2**17  # float64 numbers in one pass: 1 MB, which fits into the processor's cache


@dataclass(frozen=True)
class ModelGuardW(Defense):
    """ModelGuard-W: the least informative answer within an l1 budget, with the same top class."""

    epsilon: float = parameter(
        1.0, "ε", "Largest l1 distance to the clean posterior.", high=2.0, label="Largest l1 distance"
    )

    name: ClassVar[str] = "mgw"
    title: ClassVar[str] = "ModelGuard-W"
    source: ClassVar[str] = "Tang et al., USENIX Security 2024"
    mark: ClassVar[tuple[str, str, str] | None] = ("#5c8a3c", "triangle-left", "longdashdot")
    strength: ClassVar[str | None] = "epsilon"
    grid: ClassVar[tuple[float, ...]] = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0)

    def _perturb(self, answer: Answer, strength: Any) -> Tensor:
        y = answer.y
        budgets = torch.as_tensor(strength, dtype=torch.float64, device=y.device).reshape(-1)
        rows = max(1, BLOCK // (len(budgets) * y.shape[1]))
        found = torch.cat([least_telling(part, budgets) for part in y.double().split(rows)], 1).to(y.dtype)
        return found if isinstance(strength, Tensor) else found[0]


def least_telling(y: Tensor, budgets: Tensor) -> Tensor:
    """Solutions (S, N, K) of the program above, float64. It is y itself if no answer within the budget keeps the margin t.

    Args:
        y: posteriors (N, K), float64.
        budgets: S l1 budgets in [0, 2], float64.
    """
    y = normalise(y)
    program = _Program(y, budgets)
    low, high = program.bounds()
    feasible = low <= high
    low = torch.minimum(low, high)
    # For few answers, the calls of torch take most of the time: more places at once need fewer rounds.
    room = BLOCK // (4 * max(1, y.numel() * len(budgets)))
    halvings = min(AT_ONCE, max(1, room.bit_length() - 1))
    parts = 2**halvings
    places = torch.arange(1, parts, dtype=y.dtype, device=y.device)[:, None] / parts  # (P, 1)
    search = _Program(y, budgets.repeat_interleave(parts - 1))
    for _ in range(math.ceil(BITS / halvings)):
        tops = torch.lerp(low[:, None], high[:, None], places)  # (S, P, N)
        rising = search.slope(tops.flatten(0, 1)).view_as(tops) > 0
        below = (~rising).sum(1).to(y) / parts
        low, high = torch.lerp(low, high, below), torch.lerp(low, high, below + 1 / parts)
    return torch.where(feasible[..., None], program.solution(high), y)


class _Program:
    """The linear programs of N posteriors with S budgets. The first dimension of tensors is the class: (K - 1, S, N)."""

    def __init__(self, y: Tensor, budgets: Tensor) -> None:
        top = y.argmax(1, keepdim=True)
        ascending = y.scatter(1, top, torch.inf).argsort(dim=1, stable=True)  # the top class comes last
        self.place = ascending.argsort(dim=1)
        values = y.gather(1, ascending).T
        self.top, self.others = values[-1], values[:-1, None]  # (N,), (K - 1, 1, N)
        self.half = budgets[:, None] / 2  # what may be moved, (S, 1)
        weights = (values + SMALL).log()
        self.top_weight, self.weights = weights[-1], weights[:-1, None]
        self.count = len(self.others)
        self.rank = torch.arange(1, self.count + 1, dtype=y.dtype, device=y.device)[:, None, None]
        self.below = _sums(self.others)  # (K, 1, N): sums of the 0, 1, ... K - 1 least likely ones
        self.above = _sums(self.others.flip(0))  # and of the most likely ones
        self.weights_below = _sums(self.weights)

    def bounds(self) -> tuple[Tensor, Tensor]:
        """The smallest and the largest T (S, N) that the constraints allow. If none is allowed, the smallest is larger.

        The mass above T, or above T - t for other classes, must be moved: sum (v - T)+ <= epsilon / 2 over the values
        v = (y_top, y_j + t). This holds if it holds for the k most likely classes, with and without the top one, for all k.
        """
        most_likely = self.above[1:] + MARGIN * self.rank
        without = ((most_likely - self.half) / self.rank).amax(0)
        including = ((most_likely + self.top - self.half) / (self.rank + 1)).amax(0)
        lowest = torch.maximum(torch.maximum(without, including), self.top - self.half)
        classes = self.count + 1
        lowest = lowest.clamp_min((1 + self.count * MARGIN) / classes)  # else the rest does not fit below the caps
        return lowest, (self.top + self.half).clamp_max(1.0)

    def slope(self, top: Tensor) -> Tensor:
        """Derivative of the cost with respect to T, (S, N).

        If T rises, the cap rises too. Each of the p classes that are filled to the cap receives more by the same amount, and
        the next class receives the rest. Each class above the cap gives less by the same amount, except the e classes that
        are emptied; the next class gives the missing rest. If receivers and givers meet, the budget is not used up.
        """
        cap, count = top - MARGIN, self.count
        lowered = (top < self.top).to(top)
        received = self.half + (self.top - top).clamp_max(0)
        given = self.half - (self.top - top).clamp_min(0)
        under = self.others <= cap
        q = self.count - _count(under)
        filled = _count((self.rank * cap - self.below[1:] <= received).logical_and_(under))
        spare = given - _at(self.above, q) + q * cap  # after all are brought down to the cap
        capped = spare < q * cap
        emptied = torch.where(capped, (spare / cap).floor().long(), _count(self.above[1:] <= given)).clamp(
            0, count
        )
        met = filled + emptied >= count - 1
        filled = torch.where(met, ((1 - top) / cap).floor().long().clamp(0, count), filled)
        slope = self.top_weight + _at(self.weights_below, filled)
        slope -= (filled + torch.where(met, 1.0, 1 - lowered)) * _at(self.weights, filled.clamp_max(count - 1))
        giver = (count - emptied - 1).clamp_min(0)
        less = (q - emptied - 1).clamp_min(0)  # classes above the cap that are not emptied, without the giver
        saved = _at(self.weights_below, giver) - _at(self.weights_below, giver - less)
        saved -= (less + lowered) * _at(self.weights, giver)
        return torch.where(met, slope, slope + saved)

    def solution(self, top: Tensor) -> Tensor:
        """The best answers (S, N, K) with top posteriors T (S, N)."""
        others, cap = self.others, top - MARGIN
        lowered = self.top - top
        target = torch.minimum((1 - top - (self.rank - 1) * cap).clamp_min(0), cap)  # the optimum without a budget
        wanted = (target - others).clamp_min(0).sum(0)
        received = torch.minimum(wanted, self.half + lowered.clamp_max(0))
        room = (cap - others).clamp_min(0)
        gains = torch.minimum((received - (room.cumsum(0) - room)).clamp_min(0), room)
        forced = (others - cap).clamp_min(0)
        left = others - forced
        given = received - lowered - forced.sum(0)
        losses = torch.minimum((given - (left.sum(0) - left.cumsum(0))).clamp_min(0), left) + forced
        answer = torch.cat([others + gains - losses, top[None]]).movedim(0, -1)
        return answer.gather(-1, self.place.expand_as(answer))


def _sums(values: Tensor) -> Tensor:
    """Sums of the first 0, 1, ... n of values (n, 1, N), as (n + 1, 1, N)."""
    return torch.cat([torch.zeros_like(values[:1]), values.cumsum(0)])


def _count(holds: Tensor) -> Tensor:
    """How often a condition (n, S, N) holds along its first axis, (S, N).

    Torch sums 32-bit integers three times as fast as 64-bit ones.
    """
    return holds.sum(0, dtype=torch.int32).long()


def _at(table: Tensor, index: Tensor) -> Tensor:
    """Entries of a table (n, 1, N) at indices (S, N)."""
    return table.expand(-1, len(index), -1).gather(0, index[None])[0]
