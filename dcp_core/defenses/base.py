"""What a defense is: a frozen dataclass of its parameters, and a function on posteriors.

A new defense writes `_perturb`, declares its fields with `parameter(...)` and gets one line in the registry of
`dcp_core/defenses/__init__.py`, or calls `register` there from outside. Pages, figures, command-line options, sweeps
and checks follow from the declarations.
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
ALWAYS_THERE = object()


@dataclass(frozen=True)
class Parameter:
    """A declared parameter.

    Args:
        choices: the allowed values; they replace the range.
        optional: what None means, for a parameter that may be None.
        expert: hidden from views for a class.
        guides: whether a model-based defense's guide depends on it.
        before: for a parameter that was added later: the value with which a run does what it did before the parameter
            existed. Runs with that value keep their identity (see `identity`).
    """

    symbol: str
    help: str
    low: float = 0.0
    high: float = 1.0
    step: float = 0.01
    choices: tuple[Any, ...] = ()
    optional: str = ""
    expert: bool = False
    guides: bool = False
    before: Any = ALWAYS_THERE

    def check(self, name: str, value: Any) -> None:
        """Raise a ValueError that names the allowed values unless `value` is one of them."""
        if value is None and self.optional:
            return
        if self.choices:
            if value not in self.choices:
                raise ValueError(f"{name} must be one of {', '.join(map(str, self.choices))}, not {value!r}")
        elif isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            raise ValueError(f"{name} must be between {self.low:g} and {self.high:g}, not {value!r}")


def parameter(default: Any, symbol: str, help: str, **limits: Any) -> Any:
    """A dataclass field that carries its `Parameter`."""
    return dataclasses.field(default=default, metadata={"parameter": Parameter(symbol, help, **limits)})


class Declared:
    """What defenses and attacks have in common: names, a source, and declared parameters.

    `short` is the name in figures and tables; the title, unless a class declares another.
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
        """Raise a ValueError that says what the class lacks to be used by pages and commands."""
        for attribute in ("name", "title", "source"):
            if not isinstance(getattr(cls, attribute, None), str):
                raise ValueError(f"{cls.__name__} must declare `{attribute}: ClassVar[str]`")
        if not re.fullmatch("[a-z][a-z0-9_]*", cls.name):
            raise ValueError(f"{cls.__name__}: a name has lower-case letters, digits and _ only, not '{cls.name}'")
        try:
            cls()
        except TypeError as error:
            raise ValueError(f"{cls.__name__}: every field needs a default ({error})") from error


def identity(made: Declared) -> dict[str, Any]:
    """The parameter values that identify a defense or an attack in results, by name.

    All of them, also those equal to today's defaults, so that a default may change. A parameter that was added later
    is left out where it has the value `before`, so that older results stay the same ones.
    """
    values = {name: getattr(made, name) for name in made.parameters()}
    return {name: value for name, value in values.items() if value != made.parameters()[name].before}


@dataclass(frozen=True)
class Answer:
    """What the victim computed for a batch: posteriors `y` (N, K), logits where there are any, and the `guide`
    (N, K) of a model-based defense."""

    y: Tensor
    logits: Tensor | None = None
    guide: Tensor | None = None
    generator: torch.Generator | None = None

    @property
    def y_max(self) -> Tensor:
        """The top posterior of each row, (N, 1)."""
        return self.y.amax(-1, keepdim=True)

    def log_odds(self) -> Tensor:
        """log(y / (1 - y)), (N, K), with the limits -inf at 0 and +inf at 1.

        For the top class 1 - y cancels, so its odds are z_top - logsumexp(the others): exact in float32 from
        logits also where y rounds to 1, and from posteriors as far as the small ones tell.
        """
        z = self.y.log() if self.logits is None else self.logits
        top = z.argmax(-1, keepdim=True)
        others = z.scatter(-1, top, float("-inf")).logsumexp(-1, keepdim=True)
        return torch.logit(self.y).scatter(-1, top, z.gather(-1, top) - others)


@dataclass(frozen=True)
class Defense(Declared):
    """Base of all defenses.

    A class must declare `name`, `title` and `source`. Everything else here has a default that pages and commands can
    work with: `strength` names the field that a trade-off curve varies over `grid`; `mark` is the colour "#rrggbb",
    Plotly's marker symbol and line dash in figures (chosen automatically without it); `symmetric` says that renaming the
    classes of a posterior renames those of the answer and changes nothing else.
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
                raise ValueError(f"{cls.__name__}: its strength '{cls.strength}' is none of its parameters")
            if not cls.grid:
                raise ValueError(f"{cls.__name__}: a defense with a strength needs a `grid` of its values")
            for value in cls.grid:
                cls.parameters()[cls.strength].check(cls.strength, value)
        if cls.mark is not None and not (len(cls.mark) == 3 and re.fullmatch("#[0-9a-f]{6}", cls.mark[0])):
            raise ValueError(f"{cls.__name__}: a mark is ('#rrggbb', symbol, dash), not {cls.mark!r}")

    @classmethod
    def in_one_file(cls) -> bool:
        """Whether the defense can be exported into one ONNX file with the victim, that is, whether it has `nodes`."""
        return cls.nodes is not Defense.nodes

    def nodes(self, classes: int) -> Nodes:
        """The defense as ONNX nodes, for a victim with that many classes.

        Raises:
            NotImplementedError: unless `in_one_file()`.
        """
        raise NotImplementedError

    @property
    def randomised(self) -> bool:
        """Whether equal questions may get different answers."""
        return False

    @property
    def threshold(self) -> float | None:
        """The top posterior at which the detector switches; None for a defense without a detector."""
        return None

    def alpha(self, y_max: Tensor) -> Tensor | None:
        """The detector's output, 0 to 1, at top posteriors of any shape; None for a defense without a detector."""
        return None

    def noise(self, answer: Answer) -> Tensor | None:
        """The noise r (N, K) that is subtracted from the posteriors, before its strength; None without such noise."""
        return None

    @property
    def formula(self) -> str:
        """The perturbation in LaTeX, for whoever reads `steps`; empty without."""
        return ""

    def steps(self, answer: Answer) -> dict[str, Tensor]:
        """Every term of the formula by its name, in order, each (N, K); empty for a defense that shows none."""
        return {}

    def remarks(self) -> list[str]:
        """Sentences on what these parameter values mean, for a reader who has just set them."""
        return []

    def values(self) -> dict[str, Any]:
        """The parameters' values by name: what `make_defense` takes."""
        return {name: getattr(self, name) for name in self.parameters()}

    def guide(self, y: Tensor, inputs: Tensor, generator: torch.Generator | None = None) -> Tensor | None:
        """What a defense with `needs_inputs` draws from the pictures, (N, K); it does not depend on the strength."""
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
            guide: what `guide` gave for them before, to spare its computation.
            generator: source of randomness of `randomised` defenses; torch's global one without it.

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
        """Perturbed posteriors (S, N, K) for S values of the strength; other parameters as they are.

        What does not depend on the strength is computed once.

        Raises:
            ValueError: as `__call__`, and for a strength out of range or a defense without one.
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
                given = "none were given" if inputs is None else f"not {len(inputs)}"
                raise ValueError(
                    f"{self.title} looks at the pictures: it needs the {len(y)} of these answers, {given}"
                )
            guide = self.guide(y, inputs, generator)
        if guide is None or guide.shape != y.shape:
            raise ValueError(f"the guide of {self.title} must be {tuple(y.shape)}, as the answers")
        return Answer(y, logits, guide.to(y), generator)

    def _perturb(self, answer: Answer, strength: Any) -> Tensor:
        """Perturbed posteriors; `strength` is a number, or a tensor (S, 1, 1) that gives (S, N, K)."""
        raise NotImplementedError


def normalise(weights: Tensor) -> Tensor:
    """N(v) of Eq. 3: rows divided by their sum."""
    return weights / weights.sum(-1, keepdim=True)


def _checked(posteriors: Tensor | None, logits: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Posteriors, and logits where they were given, of at least float32."""
    if (posteriors is None) == (logits is None):
        raise ValueError("give either posteriors or logits")
    given = logits if posteriors is None else posteriors
    assert given is not None
    if given.dim() != 2 or given.shape[1] < 2 or not given.is_floating_point():
        raise ValueError(f"answers must be floats (N, K) with K >= 2, not {given.dtype} {tuple(given.shape)}")
    if given.dtype in (torch.float16, torch.bfloat16):
        given = given.float()
    y = given.softmax(-1) if posteriors is None else given
    # NaN and infinities fail the first comparison.
    if len(y) and not bool(((y.sum(-1) - 1).abs().amax() <= SUM_TOLERANCE) & (y.amin() >= 0)):
        raise ValueError("answers must be finite, and rows of posteriors non-negative with sum 1")
    return y, given if posteriors is None else None
