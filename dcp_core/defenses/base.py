"""Base classes of defenses. A defense is a frozen dataclass of its parameters, and a function on posteriors.

A new defense implements `_perturb`, declares its fields with `parameter(...)`, and is added to the registry in
`dcp_core/defenses/__init__.py`, or registered from outside with `register`. Pages, figures, command-line options, sweeps
and checks are made from these declarations.
"""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from dcp_core.defenses.nodes import Nodes

SUM_TOLERANCE = 1e-3
FEW = 64  # numbers that are checked faster in Python than by operations on tensors
ALWAYS_THERE = object()


@dataclass(frozen=True)
class Parameter:
    """The declaration of a parameter.

    Args:
        symbol: mathematical symbol, for labels.
        help: one or two sentences for users.
        low, high: allowed range, inclusive.
        step: step of the slider.
        choices: allowed values, instead of a range.
        optional: meaning of None, for a parameter that may be None.
        label: the name in words, for controls: "Strength"; the field's name where it is empty.
        expert: hide the control in the view for classes (`?view=class`).
        guides: whether the guide of a model-based defense depends on this parameter.
        before: only for a parameter that was added after results existed: its value in those older results. With this
            value, the parameter is not part of the identity (see `identity`).
    """

    symbol: str
    help: str
    low: float = 0.0
    high: float = 1.0
    step: float = 0.01
    choices: tuple[Any, ...] = ()
    optional: str = ""
    label: str = ""
    expert: bool = False
    guides: bool = False
    before: Any = ALWAYS_THERE

    def check(self, name: str, value: Any) -> None:
        """Check a value.

        Raises:
            ValueError: if it is not allowed. The message has the allowed values.
        """
        if value is None and self.optional:
            return
        if self.choices:
            if value not in self.choices:
                raise ValueError(f"{name} must be one of {', '.join(map(str, self.choices))}, not {value!r}")
        elif isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            raise ValueError(f"{name} must be between {self.low:g} and {self.high:g}, not {value!r}")


def parameter(default: Any, symbol: str, help: str, **limits: Any) -> Any:
    """A dataclass field with a `Parameter` in its metadata.

    Args:
        default: default value of the field.
        symbol, help, limits: fields of `Parameter`.
    """
    return dataclasses.field(default=default, metadata={"parameter": Parameter(symbol, help, **limits)})


class Declared:
    """Base of defenses and attacks: names, source, and declared parameters.

    `short` is the name in figures and tables. By default, it is the title.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    short: ClassVar[str]
    source: ClassVar[str]

    def __init_subclass__(cls) -> None:
        if "title" in vars(cls) and "short" not in vars(cls):
            cls.short = cls.title

    @classmethod
    def parameters(cls) -> dict[str, Parameter]:
        """The declared parameters by field name, in order."""
        assert dataclasses.is_dataclass(cls)
        return {
            field.name: field.metadata["parameter"]
            for field in dataclasses.fields(cls)
            if "parameter" in field.metadata
        }

    @classmethod
    def check_declaration(cls) -> None:
        """Check that the class declares all that pages and commands need.

        Raises:
            ValueError: if something is missing or invalid. The message says what to declare.
        """
        for attribute in ("name", "title", "source"):
            if not isinstance(getattr(cls, attribute, None), str):
                raise ValueError(f"{cls.__name__} must declare `{attribute}: ClassVar[str]`")
        if not re.fullmatch("[a-z][a-z0-9_]*", cls.name):
            raise ValueError(
                f"{cls.__name__}: the name '{cls.name}' must start with a letter and have only a-z, 0-9 and _"
            )
        try:
            cls()
        except TypeError as error:
            raise ValueError(f"{cls.__name__}: every field needs a default ({error})") from error


def identity(made: Declared) -> dict[str, Any]:
    """The parameter values by name with which results identify a defense or an attack.

    They include values that are equal to the current defaults, so that a default can be changed later. A parameter with
    its value `before` is left out, so that the identity of older results does not change.
    """
    values = {name: getattr(made, name) for name in made.parameters()}
    return {name: value for name, value in values.items() if value != made.parameters()[name].before}


@dataclass(frozen=True)
class Answer:
    """The input of a defense for a batch: posteriors `y` (N, K), logits (N, K) if known, the `guide` (N, K) of a
    model-based defense, and the generator of random numbers."""

    y: Tensor
    logits: Tensor | None = None
    guide: Tensor | None = None
    generator: torch.Generator | None = None

    @property
    def y_max(self) -> Tensor:
        """The top posterior of each row, (N, 1)."""
        return self.y.amax(-1, keepdim=True)

    def log_odds(self) -> Tensor:
        """log(y / (1 - y)), (N, K), which is -inf for y = 0 and +inf for y = 1.

        They are differences of logarithms, because posteriors near 1 are rounded to 1 in float32, and some processors round
        those near 0 to 0. With logits they are exact; with posteriors, the precision is that of the small posteriors.
        """
        z = self.y.log() if self.logits is None else self.logits
        top = z.argmax(-1, keepdim=True)
        largest = z.gather(-1, top)
        others = z.scatter(-1, top, float("-inf")).logsumexp(-1, keepdim=True)
        behind = z - largest  # at most 0
        parts = behind.exp()
        # At least 1, except for the top class, where the difference loses precision.
        rest = parts.sum(-1, keepdim=True) - parts
        return (behind - rest.log()).scatter(-1, top, largest - others)


@dataclass(frozen=True)
class Defense(Declared):
    """Base of all defenses.

    A class must declare `name`, `title` and `source`. Everything else has a default. `strength` is the name of the field
    that a trade-off curve varies over the values in `grid`. `mark` has the colour "#rrggbb", the marker symbol and the line
    dash of Plotly for figures; by default, they are chosen automatically. `symmetric` is true if a permutation of the
    classes of a posterior only permutes the classes of the defended answer.
    """

    strength: ClassVar[str | None] = None
    grid: ClassVar[tuple[float, ...]] = ()
    needs_inputs: ClassVar[bool] = False
    symmetric: ClassVar[bool] = True
    mark: ClassVar[tuple[str, str, str] | None] = None

    def __post_init__(self) -> None:
        for name, declared in self.parameters().items():
            declared.check(name, getattr(self, name))

    @classmethod
    def check_declaration(cls) -> None:
        """See `Declared`; also checks `strength`, `grid` and `mark`."""
        super().check_declaration()
        if cls.strength is not None:
            if cls.strength not in cls.parameters():
                raise ValueError(f"{cls.__name__}: its strength '{cls.strength}' is not one of its parameters")
            if not cls.grid:
                raise ValueError(f"{cls.__name__}: a defense with a strength must declare a `grid` of its values")
            for value in cls.grid:
                cls.parameters()[cls.strength].check(cls.strength, value)
        if cls.mark is not None and not (len(cls.mark) == 3 and re.fullmatch("#[0-9a-f]{6}", cls.mark[0])):
            raise ValueError(f"{cls.__name__}: a mark is ('#rrggbb', symbol, dash), not {cls.mark!r}")

    @classmethod
    def in_one_file(cls) -> bool:
        """Whether the defense has ONNX `nodes`, so that it can be exported into one file with the victim."""
        return cls.nodes is not Defense.nodes

    def nodes(self, classes: int) -> Nodes:
        """The defense as ONNX nodes.

        Args:
            classes: number of classes of the victim.

        Raises:
            NotImplementedError: if not `in_one_file()`.
        """
        raise NotImplementedError

    @property
    def randomised(self) -> bool:
        """Whether the defense uses random numbers, so that equal queries may get different answers."""
        return False

    @property
    def threshold(self) -> float | None:
        """The top posterior (0 to 1) at which the detector switches; None for a defense without a detector."""
        return None

    def alpha(self, y_max: Tensor) -> Tensor | None:
        """The detector's output (0 to 1) for top posteriors of any shape; None for a defense without a detector."""
        return None

    def noise(self, answer: Answer) -> Tensor | None:
        """The noise r (N, K), which is multiplied by the strength and subtracted from posteriors; None if there is none."""
        return None

    @property
    def formula(self) -> str:
        """The formula of the perturbation in LaTeX, shown beside `steps`; empty if there is none."""
        return ""

    def steps(self, answer: Answer) -> dict[str, Tensor]:
        """The terms of the formula by name, in order, each (N, K); empty if the defense shows none."""
        return {}

    def remarks(self) -> list[str]:
        """Sentences for users on special consequences of the chosen parameter values."""
        return []

    def values(self) -> dict[str, Any]:
        """The parameter values by name, as `make_defense` takes them."""
        return {name: getattr(self, name) for name in self.parameters()}

    def guide(self, y: Tensor, inputs: Tensor, generator: torch.Generator | None = None) -> Tensor | None:
        """The guide (N, K): all that a defense with `needs_inputs` computes from the pictures. It does not depend on the
        strength. None for other defenses."""
        return None

    def __call__(
        self,
        posteriors: Tensor | None = None,
        *,
        logits: Tensor | None = None,
        inputs: Tensor | None = None,
        guide: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Perturb a batch of answers.

        Args:
            posteriors: (N, K), rows on the simplex; or
            logits: (N, K), which keeps defenses exact where a posterior rounds to 0 or 1.
            inputs: the pictures (N, 3, H, W) in [0, 1], for defenses with `needs_inputs`; or
            guide: an earlier result of `guide` for these pictures, so that it is not computed again.
            generator: generator of random numbers for `randomised` defenses. Default: torch's global generator.

        Returns:
            Posteriors (N, K) on the simplex, in the input's precision (at least float32) and on its device.

        Raises:
            ValueError: unless exactly one of posteriors and logits is given, (N, K) with K >= 2, finite, and
                on the simplex if posteriors; and if a defense with `needs_inputs` gets neither inputs nor guide.
        """
        answer = self._answer(posteriors, logits, inputs, guide, generator)
        return self._perturb(answer, getattr(self, self.strength) if self.strength else 0.0)

    def sweep(
        self,
        strengths: Sequence[float],
        posteriors: Tensor | None = None,
        *,
        logits: Tensor | None = None,
        inputs: Tensor | None = None,
        guide: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Perturbed posteriors (S, N, K) for S values of the strength, with the other parameters of this defense.

        Everything that does not depend on the strength is computed only once.

        Raises:
            ValueError: as `__call__`, and if the defense has no strength or a value is out of range.
        """
        if self.strength is None:
            raise ValueError(f"{self.title} has no strength to sweep")
        for value in strengths:
            self.parameters()[self.strength].check(self.strength, value)
        answer = self._answer(posteriors, logits, inputs, guide, generator)
        grid = torch.tensor(strengths, dtype=answer.y.dtype, device=answer.y.device)
        return self._perturb(answer, grid.view(-1, 1, 1))

    def _answer(
        self,
        posteriors: Tensor | None,
        logits: Tensor | None,
        inputs: Tensor | None,
        guide: Tensor | None,
        generator: torch.Generator | None,
    ) -> Answer:
        y, logits = _checked(posteriors, logits)
        if not self.needs_inputs:
            return Answer(y, logits, None, generator)
        if guide is None:
            if inputs is None or len(inputs) != len(y):
                given = "none were given" if inputs is None else f"{len(inputs)} were given"
                raise ValueError(
                    f"{self.title} uses the pictures: give the {len(y)} pictures of these answers as `inputs`; {given}"
                )
            guide = self.guide(y, inputs, generator)
        if guide is None or guide.shape != y.shape:
            raise ValueError(f"the guide of {self.title} must have the shape of the answers, {tuple(y.shape)}")
        return Answer(y, logits, guide.to(y), generator)

    def _perturb(self, answer: Answer, strength: Any) -> Tensor:
        """Perturbed posteriors: (N, K) if `strength` is a number, (S, N, K) if it is a tensor (S, 1, 1)."""
        raise NotImplementedError


def normalise(weights: Tensor) -> Tensor:
    """N(v) of Eq. 3: each row divided by its sum."""
    return weights / weights.sum(-1, keepdim=True)


def _checked(posteriors: Tensor | None, logits: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Check the input of a defense. Returns posteriors, and logits if they were given, in at least float32."""
    if (posteriors is None) == (logits is None):
        raise ValueError("give either posteriors or logits, not both")
    given = logits if posteriors is None else posteriors
    assert given is not None
    if given.dim() != 2 or given.shape[1] < 2 or not given.is_floating_point():
        raise ValueError(f"answers must be floats (N, K) with K >= 2, not {given.dtype} {tuple(given.shape)}")
    if given.dtype in (torch.float16, torch.bfloat16):
        given = given.float()
    y = given.softmax(-1) if posteriors is None else given
    if not _on_simplex(y):
        raise ValueError("answers must be finite; each row of posteriors must be non-negative and sum to 1")
    return y, given if posteriors is None else None


def _on_simplex(y: Tensor) -> bool:
    """Whether each row of y (N, K) is finite, non-negative and sums to 1.

    NaN fails every comparison, and a row with an infinite value has no sum near 1.
    """
    if y.numel() <= FEW:
        return all(abs(sum(row) - 1) <= SUM_TOLERANCE and min(row) >= 0 for row in y.tolist())
    low, high = y.sum(-1).aminmax()
    return low.item() >= 1 - SUM_TOLERANCE and high.item() <= 1 + SUM_TOLERANCE and y.amin().item() >= 0
