"""Chains: a second defense applied to the answers of a first one. A chain is a defense with the parameters of both."""

import dataclasses
from typing import Any, ClassVar

import torch
from torch import Tensor

from dcp_core.defenses.base import Answer, Defense
from dcp_core.defenses.modelguard_s import DIGITS, Learned
from dcp_core.defenses.nodes import Nodes, behind


def chain(first: type[Defense], second: type[Defense]) -> type[Defense]:
    """A new defense class that applies `second` to the answers of `first`.

    It has the parameters of both, and the strength of `first`. If `second` has a codebook, the codebook is computed from
    the stored answers after `first`.

    Raises:
        ValueError: if both are the same defense, one of them uses the picture, or both have a parameter of the same name.
    """
    if first is second:
        raise ValueError(f"a chain needs two different defenses, not {first.title} twice")
    for each in (first, second):
        if each.needs_inputs:
            raise ValueError(f"a chain can use only the posterior, but {each.title} uses the picture")
    if both := first.parameters().keys() & second.parameters().keys():
        raise ValueError(
            f"{first.title} and {second.title} cannot be chained: both have a parameter '{', '.join(sorted(both))}'"
        )
    bases = (Chain, Learned) if issubclass(second, Learned) or issubclass(first, Learned) else (Chain,)
    fields = [
        (field.name, field.type, dataclasses.field(default=field.default, metadata=field.metadata))
        for kind in (first, second)
        for field in dataclasses.fields(kind)
        if field.name in kind.parameters()
    ]
    declared = {
        "parts": (first, second),
        "name": f"{first.name}_{second.name}",
        "title": f"{first.title}, then {second.title}",
        "short": f"{first.short} + {second.short}",
        "source": f"{first.source}; {second.source}",
        "symmetric": first.symmetric and second.symmetric,
        "strength": first.strength,
        "grid": first.grid,
        "__doc__": f"{first.title}, and then {second.title} on what it answers.",
        "__module__": __name__,
    }
    return dataclasses.make_dataclass(
        f"{first.__name__}Then{second.__name__}", fields, bases=bases, namespace=declared, frozen=True
    )


@dataclasses.dataclass(frozen=True)
class Chain(Defense):
    """Base of the classes that `chain` makes. `parts` are the classes of the first and the second defense."""

    parts: ClassVar[tuple[type[Defense], type[Defense]]]

    @property
    def randomised(self) -> bool:
        """See `Defense`."""
        return any(self._part(kind).randomised for kind in self.parts)

    @classmethod
    def in_one_file(cls) -> bool:
        """See `Defense`. True if both parts have nodes."""
        return all(each.in_one_file() for each in cls.parts)

    def nodes(self, classes: int) -> Nodes:
        """See `Defense`. The parameters are constants of the file, because a codebook depends on the first defense."""
        first, second = self.links()
        return behind(first.nodes(classes), second.nodes(classes))

    def links(self) -> tuple[Defense, Defense]:
        """The two defenses with the parameters of this one and, if they have a codebook, with their stored answers."""
        first, second = (self._part(kind) for kind in self.parts)
        if isinstance(self, Learned) and self.stored is not None:
            if isinstance(first, Learned):
                first = first.armed(self.stored)
            if isinstance(second, Learned):
                second = second.armed(self.stored.behind(first))
        return first, second

    def _part(self, kind: type[Defense]) -> Defense:
        return kind(**{name: getattr(self, name) for name in kind.parameters()})

    def _perturb(self, answer: Answer, strength: Any) -> Tensor:
        if isinstance(strength, Tensor):
            return torch.stack([self._perturb(answer, each) for each in strength.flatten().tolist()])
        at = {} if self.strength is None else {self.strength: round(strength, DIGITS)}
        first, second = dataclasses.replace(self, **at).links()
        given = {"posteriors": answer.y} if answer.logits is None else {"logits": answer.logits}
        return second(first(**given, generator=answer.generator), generator=answer.generator)
