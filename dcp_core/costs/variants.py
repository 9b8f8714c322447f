"""The defenses whose costs are compared for a victim; MAD and GRAD^2 also as their authors published them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dcp_core.costs import hidden_costs
from dcp_core.defenses import DEFENSES, Defense, literal, make_defense
from dcp_core.models import auxiliary, zoo

LITERAL = ("mad", "grad2")  # defenses for which the published algorithm is also timed


@dataclass(frozen=True)
class DefenseVariant:
    """One implementation of a defense on a victim.

    Args:
        implementation: "here" for the one of this package, "literal" for the algorithm as published.
        answer: maps pixels (N, 3, H, W) in [0, 1] to defended posteriors (N, K).
        second: the second network that the defense needs, if any.
    """

    defense: Defense
    implementation: str
    answer: Callable[[Tensor], Tensor]
    second: hidden_costs.SecondNetwork | None = None

    @property
    def name(self) -> str:
        """The defense's name, followed by ", literal" for the published algorithm."""
        return self.defense.name + (", literal" if self.implementation == "literal" else "")


def defense_variants(
    victim: str, device: str | torch.device = "cpu"
) -> tuple[list[DefenseVariant], dict[str, str]]:
    """All defenses for which this victim has the networks, "none" first, and why the others are missing.

    Returns:
        the variants, and for each missing defense, by its name, the reason.

    Raises:
        VictimError: if the victim cannot be loaded.
    """
    if not victim.startswith(zoo.TORCHVISION) and zoo.card(victim).source == zoo.SERVICE:
        raise zoo.VictimError(f"{victim} is a service: the costs of a defense are measured where its network runs")
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
            found.append(DefenseVariant(defense, "here", here(auxiliary.arm(defense, victim, device)), second))
            if name in LITERAL:
                found.append(DefenseVariant(defense, "literal", _literal(name, victim, clean, device), second))
        except zoo.VictimError as error:
            missing[name] = str(error)
    return found, missing


def _network(victim: str, device: str | torch.device) -> torch.nn.Module:
    if victim.startswith(zoo.TORCHVISION) or zoo.card(victim).has_weights:
        network = zoo.network(victim).to(device)
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return zoo.load(victim, str(device)).model


def _literal(
    name: str, victim: str, clean: Callable[[Tensor], Tensor], device: str | torch.device
) -> Callable[[Tensor], Tensor]:
    """MAD or GRAD^2 by autograd, picture by picture or class by class, as in the published implementations."""
    strength = make_defense(name).values()["epsilon"]
    network = auxiliary.load(victim, "untrained" if name == "mad" else "surrogate", device)
    if name == "mad":
        return lambda pixels: literal.mad(network, clean(pixels).softmax(-1), pixels, strength)
    target = literal.all_ones(network)
    return lambda pixels: literal.grad2(network, clean(pixels).softmax(-1), pixels, strength, target)
