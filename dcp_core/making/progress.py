"""Progress, training recipes and checkpoint files for the `make_...` functions."""

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
from dcp_core.models.training import Recipe, TrainingProgress

C = TypeVar("C")


@dataclass(frozen=True)
class Progress:
    """The current phase of a `make_...` function, and the fraction of its whole work that is done, 0 to 1."""

    phase: str
    fraction: float
    training: TrainingProgress | None = None

    @property
    def words(self) -> str:
        """The phase, and during a training also the step and the mean loss."""
        if self.training is None:
            return self.phase
        return f"{self.phase}, step {self.training.step}/{self.training.steps}, loss {self.training.loss:.3f}"


Making = Generator[Progress, None, C]


def finish(making: Making[C], report: Callable[[Progress], object] = lambda progress: None) -> C:
    """Run a generator of a `make_...` function to its end, and return what it made.

    Args:
        making: for example `make_victim("signs")`.
        report: called with each `Progress`.

    Raises:
        ValueError, FloatingPointError: as the `make_...` function.
    """
    with closing(making):
        while True:
            try:
                report(next(making))
            except StopIteration as end:
                return end.value


def following(
    steps: Iterator[TrainingProgress], phase: str, start: float = 0.0, end: float = 1.0
) -> Iterator[Progress]:
    """Turn the progress of a training into `Progress` from `start` to `end`. Closing this generator closes the training."""
    try:
        for step in steps:
            yield Progress(phase, start + (end - start) * step.fraction, step)
    finally:
        if isinstance(steps, Generator):
            steps.close()  # the training then saves its checkpoint


def recipe_of(data: str, defaults: dict[str, Any], given: dict[str, Any]) -> Recipe:
    """A training recipe. Values that the caller gave have priority over `defaults`.

    `flip` (mirror training pictures) is on by default if the data set allows it.

    Args:
        data: name or path of the data set.
        defaults: fields of `Recipe`.
        given: fields of `Recipe`; None means not given.

    Raises:
        ValueError: if `Recipe` does not have a given field, or a value is not allowed.
    """
    hints = get_type_hints(Recipe)
    chosen = {key: value for key, value in given.items() if value is not None}
    for name, value in chosen.items():
        if name not in hints:
            raise ValueError(f"a training recipe has no field '{name}'; its fields are {', '.join(hints)}")
        hint = hints[name]
        if get_origin(hint) is Literal:
            if value not in get_args(hint):
                raise ValueError(f"{name} must be one of {', '.join(map(str, get_args(hint)))}, not {value!r}")
        elif isinstance(value, bool) != (hint is bool) or not isinstance(
            value, (int, float) if hint is float else hint
        ):
            raise ValueError(f"{name} must be {_KINDS[hint]}, not {value!r}")
    flip = data in DATASETS and DATASETS[data].flip
    return Recipe(**{"flip": flip} | defaults | chosen)


_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


def checkpoint_of(name: str, **decides: Any) -> Path:
    """The checkpoint file of a training. Different arguments give different files, so a resume cannot mix trainings."""
    text = json.dumps(decides, sort_keys=True, default=str)
    return home() / "training" / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}.pt"


def usual_device() -> str:
    """The default device: "cuda" if there is a GPU, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"
