"""What all makers share: how they report, their recipes, and where an unfinished training is kept."""

import hashlib
import json
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import torch

from dcp_core.data.datasets import DATASETS
from dcp_core.files import home
from dcp_core.models.auxiliary import AuxiliaryCard
from dcp_core.models.training import Progress as TrainingProgress
from dcp_core.models.training import Recipe
from dcp_core.models.zoo import Card

C = TypeVar("C", bound=Card | AuxiliaryCard)


@dataclass(frozen=True)
class Progress:
    """Where the making is: what is done now, and the share of all the work done before, 0 to 1."""

    phase: str
    fraction: float
    training: TrainingProgress | None = None

    @property
    def words(self) -> str:
        """The phase; of a training also its step and mean loss."""
        if self.training is None:
            return self.phase
        return f"{self.phase}, step {self.training.step}/{self.training.steps}, loss {self.training.loss:.3f}"


Making = Generator[Progress, None, C]


def finish(making: Making[C], tell: Callable[[Progress], object] = lambda progress: None) -> C:
    """Make it, from a generator of `make_victim` and the like, and give its card.

    Args:
        tell: called with each progress.
    """
    with closing(making):
        while True:
            try:
                tell(next(making))
            except StopIteration as end:
                return end.value


def following(
    steps: Iterator[TrainingProgress], phase: str, start: float = 0.0, end: float = 1.0
) -> Iterator[Progress]:
    """The progress of a training that is the part from `start` to `end` of a making; closing it closes the training."""
    try:
        for step in steps:
            yield Progress(phase, start + (end - start) * step.fraction, step)
    finally:
        if isinstance(steps, Generator):
            steps.close()  # saves its checkpoint


def recipe_of(data: str, defaults: dict[str, Any], given: dict[str, Any]) -> Recipe:
    """A recipe from what the caller gave, else from defaults; pictures are mirrored where the data set allows it.

    Raises:
        ValueError: for a field that `Recipe` does not have, or a value that it cannot take.
    """
    hints = get_type_hints(Recipe)
    chosen = {key: value for key, value in given.items() if value is not None}
    for name, value in chosen.items():
        if name not in hints:
            raise ValueError(f"a training has no '{name}'; it has {', '.join(hints)}")
        hint = hints[name]
        if get_origin(hint) is Literal:
            if value not in get_args(hint):
                raise ValueError(f"{name} is one of {', '.join(map(str, get_args(hint)))}, not {value!r}")
        elif isinstance(value, bool) != (hint is bool) or not isinstance(
            value, (int, float) if hint is float else hint
        ):
            raise ValueError(f"{name} must be {_KINDS[hint]}, not {value!r}")
    flip = data in DATASETS and DATASETS[data].flip
    return Recipe(**{"flip": flip} | defaults | chosen)


_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


def checkpoint_of(name: str, **decides: Any) -> Path:
    """Where an unfinished training is kept: another file for other arguments, which must not go on from it."""
    text = json.dumps(decides, sort_keys=True, default=str)
    return home() / "training" / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}.pt"


def usual_device() -> str:
    """A GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"
