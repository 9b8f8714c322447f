"""A defense of your own in one file: python -m examples.own_defense

To use it on the pages and in commands: PYTHONPATH=examples DCP_PLUGINS=own_defense dcp app
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from dcp_core import Defense, tradeoff_curve
from dcp_core.defenses import register
from dcp_core.defenses.base import Answer, parameter


@register
@dataclass(frozen=True)
class Temperature(Defense):
    """y' = y^(1/T), normalised. It keeps the order of the classes and flattens or sharpens their probabilities."""

    temperature: float = parameter(2.0, "T", "Above 1 flattens the answer, below 1 sharpens it.", low=0.1, high=10)

    name: ClassVar[str] = "temperature"
    title: ClassVar[str] = "Temperature"
    source: ClassVar[str] = "example"
    strength: ClassVar[str | None] = "temperature"
    grid: ClassVar[tuple[float, ...]] = (0.5, 1.0, 2.0, 4.0)

    def _perturb(self, answer: Answer, strength: Any) -> Tensor:
        return answer.y ** (1 / strength)


if __name__ == "__main__":
    from dcp_core.models.zoo import test_answers

    curve = tradeoff_curve(Temperature(), *test_answers("signs-resnet8"))
    print(curve[["strength", "defender_error", "l1", "ece"]].round(3).to_string(index=False))
