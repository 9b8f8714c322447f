"""The ladder: all attacks of an audit, the most informative first.

The ladder has stages with a growing query budget. A stage compares the thieves without and with defenses at its budget,
over all seeds; the first also has the lower budgets, because a learning curve needs three. An audit that ends early has
finished the lower stages, and one that goes on later continues at the same place.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np

from dcp_core.attacks.adaptive import AS_IS
from dcp_core.audit.request import Request
from dcp_core.data.datasets import DATASETS, pictures
from dcp_core.defenses import Defense, NoDefense
from dcp_core.models.pretrained import FROZEN, installed
from dcp_core.runs.spec import USUAL_SIDE, RunSpec

BUDGETS = tuple(digit * 10**power for power in range(1, 8) for digit in (1, 2, 5))
FIRST = 500  # the lowest query budget
TOP_1, RECOVERY = "top-1", ("bayes", "inverse")
RATE = 0.2  # peak learning rate of the clone
EPOCHS = {500: 60, 1000: 45, 2000: 30, 5000: 15, 10_000: 9}  # by query budget, as in the plan `strong-signs`


def budgets(request: Request) -> list[int]:
    """The query budgets of an audit that the pools have enough pictures for; for a small pool, three below `FIRST`."""
    largest = pictures(request.pool, "train", request.card.size)
    fitting = [budget for budget in BUDGETS if budget <= largest]
    usual = [budget for budget in fitting if budget >= FIRST]
    return usual if len(usual) >= 3 else fitting[-3:]


def epochs(budget: int) -> int:
    """Epochs of the clone's training: few pictures are shown more often. Interpolated between `EPOCHS`."""
    return round(float(np.interp(np.log(budget), np.log(list(EPOCHS)), list(EPOCHS.values()))))


def first_specs(request: Request) -> list[RunSpec]:
    """The undefended attacks of the first seed with the lowest budgets: what every audit begins with."""
    return [_spec(request, budget, seed=0) for budget in budgets(request)[:3]]


def ladder(request: Request, defenses: list[Defense]) -> list[RunSpec]:
    """All attacks of an audit in the order in which they are run, each once.

    Args:
        defenses: those that fit the owner's limits, see `fitting`.
    """
    sizes = budgets(request)
    stages = [_stage(request, defenses, sizes[:3]), *(_stage(request, defenses, [size]) for size in sizes[3:])]
    return list({spec.key: spec for spec in chain.from_iterable(stages)}.values())


def treatments(defense: Defense) -> tuple[str, ...]:
    """The treatments of the answers to try: as they are, only the top class, and inversion of a known defense."""
    if isinstance(defense, NoDefense):
        return AS_IS, TOP_1
    return (AS_IS, TOP_1) if defense.needs_inputs else (AS_IS, TOP_1, RECOVERY[0])


def _stage(request: Request, defenses: list[Defense], sizes: list[int]) -> Iterator[RunSpec]:
    """The attacks of one stage. The last of its budgets is the one at which thieves and defenses are compared."""
    top, lower, seeds = sizes[-1], sizes[:-1], range(request.seeds)
    first, others = defenses[:1], defenses[1:]
    for seed in seeds:
        yield from (_spec(request, budget, seed) for budget in sizes)  # the shortest first, for early results
        yield _spec(request, top, seed, treatment=TOP_1)
        yield from _against(request, first, top, seed)
    if request.other and top <= pictures(request.other, "train", request.card.size):
        yield from (_spec(request, top, seed, pool=request.other) for seed in seeds)
    for defense in others:
        yield from chain.from_iterable(_against(request, [defense], top, seed) for seed in seeds)
    if installed():
        yield from (_spec(request, top, seed, clone=FROZEN) for seed in seeds)
    for seed in seeds:
        for defense in first:
            if not defense.needs_inputs:
                yield _spec(request, top, seed, defense, RECOVERY[1])
        for budget in lower:
            yield _spec(request, budget, seed, treatment=TOP_1)
            yield from _against(request, first, budget, seed)


def _against(request: Request, defenses: Iterable[Defense], budget: int, seed: int) -> Iterator[RunSpec]:
    for defense in defenses:
        for treatment in treatments(defense):
            yield _spec(request, budget, seed, defense, treatment)


def _spec(
    request: Request,
    budget: int,
    seed: int,
    defense: Defense | None = None,
    treatment: str = AS_IS,
    pool: str | None = None,
    clone: str = "",
) -> RunSpec:
    made = defense or NoDefense()
    flip = request.card.dataset in DATASETS and DATASETS[request.card.dataset].flip
    attack: dict[str, Any] = {"recipe": "strong", "batch": 64, "lr": RATE, "flip": flip, "treatment": treatment}
    attack["epochs"] = epochs(budget)
    return RunSpec(
        request.victim,
        attack_parameters=attack,
        defense=made.name,
        defense_parameters=made.values(),
        budget=budget,
        pool=pool or request.pool,
        clone=clone or request.clone,
        clone_size=0 if clone == FROZEN else _clone_size(request),
        seed=seed,
    )


def _clone_size(request: Request) -> int:
    """The parameter `clone_size` of the runs; 0 where it is the usual one, so that they are the same as other runs."""
    size = min(request.clone_size, request.card.size)
    return 0 if size == min(request.card.size, USUAL_SIDE) else size
