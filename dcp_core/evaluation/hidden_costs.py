"""What a defense needs besides time: a second network, its training, memory."""

import os
from dataclasses import dataclass

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from dcp_core.defenses import Defense
from dcp_core.defenses.model_based import ModelBased
from dcp_core.evaluation.latency import Work
from dcp_core.models import auxiliary

ON_CPU = "largest sum of tensors held at once (torch.profiler), without networks and pictures"
ON_GPU = "torch.cuda.max_memory_allocated above what was allocated before the call"


@dataclass(frozen=True)
class SecondNetwork:
    """A network that a defense needs beside the victim. `seconds` that its training took on `hardware`."""

    kind: str
    parameters: int
    seconds: float = 0.0
    hardware: str = ""
    data: str = ""


def second_network(defense: Defense, victim: str) -> SecondNetwork | None:
    """What a defense needs beside that victim; None if nothing.

    Raises:
        VictimError: when the network is missing (the message has the command that makes it) or broken.
    """
    if not isinstance(defense, ModelBased) or defense.needs is None:
        return None
    network = auxiliary.load(victim, defense.needs)
    about = auxiliary.card(victim, defense.needs)
    if about is None:  # as initialised
        return SecondNetwork(defense.needs, parameters(network))
    return SecondNetwork(
        about.kind, about.parameters, about.seconds, about.hardware, f"{about.pictures:,} of {about.data}"
    )


def parameters(network: nn.Module) -> int:
    """How many numbers a network has learnt, or would."""
    return sum(value.numel() for value in network.parameters())


def peak_memory(work: Work, device: str | torch.device) -> tuple[int, str]:
    """Bytes that one call holds at most, and how that was measured; what was there before does not count."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before, ON_GPU
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # or each profile leaves two lines on stderr
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        work()
    assert found.profiler is not None
    assert found.profiler.kineto_results is not None
    # The profile's tables attribute frees to operators; the order in time is only in the events beneath.
    events = [event for event in found.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda each: each.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak, ON_CPU
