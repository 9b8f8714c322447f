"""Which defenses fit an owner's limits, and the strongest setting of each that does."""

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from dcp_core.defenses import DEFENSES, Defense
from dcp_core.defenses.model_based import ModelBased
from dcp_core.evaluation.curves import tradeoff_curve
from dcp_core.evaluation.guides import guide_of_test_set
from dcp_core.evaluation.metrics import per_answer
from dcp_core.models import auxiliary, zoo
from dcp_core.results.decision import Needs

MARGIN = 0.95  # share of the l1 limit that a defense may use: its mean on other pictures may be a little larger


@dataclass(frozen=True)
class Fit:
    """A defense at the strongest setting within the limits, or the reason why there is none.

    Args:
        changed: answers to customers (the stored test answers) that have another top class, percent.
        changed_high: upper end of its 95 % interval, which covers the number of pictures.
    """

    name: str
    defense: Defense | None
    why_not: str = ""
    changed: float = 0.0
    changed_high: float = 0.0


def fitting(victim: str, names: tuple[str, ...], needs: Needs, queries: Tensor | None) -> list[Fit]:
    """The strongest setting of each defense within the limits, on its own grid of strengths.

    The strongest is the one that moves answers most. The owner's error is measured on the stored test answers; the mean
    l1 distance on these or on the thief's queries, as `needs` says. Random numbers have seed 0.

    Args:
        queries: clean logits (N, K) for some of the thief's pictures; without them, l1 is that on the test answers.
    """
    return [_fit(victim, name, needs, queries) for name in names]


def _fit(victim: str, name: str, needs: Needs, queries: Tensor | None) -> Fit:
    kind = DEFENSES[name]
    if needs.one_file and not kind.in_one_file():
        return Fit(name, None, "it cannot be in one ONNX file with the model")
    try:
        defense = auxiliary.arm(kind(), victim)
        guide = guide_of_test_set(victim, defense) if isinstance(defense, ModelBased) else None
    except ValueError as error:
        return Fit(name, None, str(error))
    logits, labels = zoo.test_answers(victim)
    rng = torch.Generator().manual_seed(0)
    curve = tradeoff_curve(defense, logits, labels, guide=guide, generator=rng)
    own = 100 * float((logits.argmax(1) != labels).double().mean())
    moved = torch.tensor(curve["l1"].to_numpy())
    if needs.l1_of == "l1_queries" and queries is not None and not defense.needs_inputs:
        moved = _moved(defense, queries)
    rise = torch.tensor(curve["defender_error"].to_numpy()) - own
    if not bool((rise <= needs.increase).any()):
        return Fit(name, None, f"every setting raises your error by {float(rise.min()):.2f} points or more")
    inside = (rise <= needs.increase) & (moved <= MARGIN * needs.l1) & (moved > 0)
    if not bool(inside.any()):
        return Fit(name, None, "no setting that changes answers stays within the limit on the mean l1 distance")
    best = int(torch.where(inside, moved, -1.0).argmax())
    changed = [float(curve[column].iloc[best]) for column in ("changed", "changed_high")]
    if defense.strength is None:
        return Fit(name, kind(), "", *changed)
    value = type(getattr(kind(), defense.strength))(curve["strength"].iloc[best])
    return Fit(name, dataclasses.replace(kind(), **{defense.strength: value}), "", *changed)


def _moved(defense: Defense, logits: Tensor) -> Tensor:
    """The mean l1 distance of the answers to these logits, at each strength of the defense's grid, (S,)."""
    rng = torch.Generator().manual_seed(0)
    if defense.strength is None:
        answers = defense(logits=logits, generator=rng)[None]
    else:
        answers = defense.sweep(defense.grid, logits=logits, generator=rng)
    return per_answer(answers, logits.softmax(-1)).l1.double().mean(-1)
