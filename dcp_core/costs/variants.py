"""The ways to answer that a victim's owner can choose from: each defense, and MAD and GRAD^2 also as published."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dcp_core.costs import hidden_costs
from dcp_core.defenses import DEFENSES, Defense, literal, make_defense
from dcp_core.models import auxiliary, zoo

LITERAL = ("mad", "grad2")  # of which there are also versions as published


@dataclass(frozen=True)
class Candidate:
    """A way to answer: `answer` maps pixels (N, 3, H, W) to posteriors (N, K)."""

    defense: Defense
    implementation: str  # "here", or "literal": as published implementations do it
    answer: Callable[[Tensor], Tensor]
    second: hidden_costs.SecondNetwork | None = None

    @property
    def name(self) -> str:
        """Of the defense, and whether it is the literal version."""
        return self.defense.name + (", literal" if self.implementation == "literal" else "")


def candidates(victim: str, device: str | torch.device = "cpu") -> tuple[list[Candidate], dict[str, str]]:
    """All ways to answer that this victim has networks for, no defense first; and why others are left out.

    Raises:
        VictimError: for a victim that cannot be loaded.
    """
    model = _network(victim, device)

    def clean(pixels: Tensor) -> Tensor:
        with torch.no_grad():
            return model(pixels)

    def here(defense: Defense) -> Callable[[Tensor], Tensor]:
        return lambda pixels: defense(logits=clean(pixels), inputs=pixels)

    found, missing = [], {}
    for name in DEFENSES:
        defense = make_defense(name)
        try:
            second = hidden_costs.second_network(defense, victim)
            found.append(Candidate(defense, "here", here(auxiliary.arm(defense, victim, device)), second))
            if name in LITERAL:
                found.append(Candidate(defense, "literal", _literal(name, victim, clean, device), second))
        except zoo.VictimError as error:
            missing[name] = str(error)
    return found, missing


def _network(victim: str, device: str | torch.device) -> torch.nn.Module:
    if victim.startswith(zoo.TORCHVISION) or zoo.card(victim).precision == "fp32":
        network = zoo.network(victim).to(device)
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return zoo.load(victim, str(device)).model


def _literal(
    name: str, victim: str, clean: Callable[[Tensor], Tensor], device: str | torch.device
) -> Callable[[Tensor], Tensor]:
    """MAD or GRAD^2 by autograd, picture by picture or class by class, as published implementations do it."""
    strength = make_defense(name).values()["epsilon"]
    network = auxiliary.load(victim, "untrained" if name == "mad" else "surrogate", device)
    if name == "mad":
        return lambda pixels: literal.mad(network, clean(pixels).softmax(-1), pixels, strength)
    target = literal.all_ones(network)
    return lambda pixels: literal.grad2(network, clean(pixels).softmax(-1), pixels, strength, target)
