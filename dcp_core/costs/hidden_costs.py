"""Costs of a defense besides latency: a second network, its training time, and memory."""

import os
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from dcp_core.costs.latency import Work
from dcp_core.defenses import DEFENSES, Defense, make_defense
from dcp_core.defenses.model_based import ModelBased
from dcp_core.models import auxiliary, zoo
from dcp_core.provenance import hardware_words

ON_CPU = "largest total size of tensors at one time (torch.profiler), without networks and pictures"
ON_GPU = "torch.cuda.max_memory_allocated, minus what was allocated before the call"


@dataclass(frozen=True)
class SecondNetwork:
    """A network that a defense needs besides the victim.

    Args:
        kind: "surrogate", "misinformation" or "untrained".
        parameters: how many it has.
        seconds: duration of its training on `hardware`; 0 for an untrained network.
        data: number and data set of the training pictures.
    """

    kind: str
    parameters: int
    seconds: float = 0.0
    hardware: str = ""
    data: str = ""


def second_network(defense: Defense, victim: str) -> SecondNetwork | None:
    """The second network that a defense needs for a victim; None if it needs none.

    Raises:
        VictimError: if the network is missing (the message names the command that makes it) or its card is damaged.
    """
    if not isinstance(defense, ModelBased) or defense.needs is None:
        return None
    about = None if victim.startswith(zoo.TORCHVISION) else auxiliary.card(victim, defense.needs)
    if about is None:  # untrained, or missing: then loading it raises the error
        return SecondNetwork(defense.needs, parameters(auxiliary.load(victim, defense.needs)))
    return SecondNetwork(
        about.kind,
        about.parameters,
        about.seconds,
        hardware_words(about.hardware),
        f"{about.pictures:,} of {about.data}",
    )


def second_network_words(defense: Defense, victim: str) -> str:
    """A sentence on the second network that a defense needs for a victim. Empty if it needs none, or if it is missing."""
    if not isinstance(defense, ModelBased) or defense.needs is None:
        return ""
    if defense.needs == "untrained":
        return (
            "Needs an untrained network, of the victim's architecture if it is known, and one forward pass of it for each "
            "query."
        )
    try:
        about = auxiliary.card(victim, defense.needs)
    except zoo.VictimError:
        about = None
    if about is None:  # loading it raises an error with the reason
        return ""
    return (
        f"Needs a second network ({about.kind} model): {about.architecture}, {about.parameters:,} parameters "
        f"({4 * about.parameters / 2**20:.1f} MiB), trained for {about.seconds / 60:.0f} min on {about.pictures:,} "
        f"pictures of {about.data} ({hardware_words(about.hardware)}); and one forward pass of it for each query."
    )


def overview(victim: str, measured: pd.DataFrame) -> pd.DataFrame:
    """The hidden costs of each defense for a victim, one row for each defense.

    Args:
        measured: result rows of one measurement; may be empty.

    Returns:
        columns `defense`; of the second network `kind`, `parameters`, `seconds` of training, `hardware`, `data`; the
        reason if it is `missing`; and peak memory in megabytes, a column for each batch size and implementation.
    """
    rows = []
    for name in DEFENSES:
        row: dict[str, Any] = {"defense": name, "kind": "none", "parameters": None, "seconds": None}
        try:
            second = second_network(make_defense(name), victim)
            row |= {} if second is None else vars(second)
        except zoo.VictimError as error:
            row |= {"kind": "missing", "missing": str(error)}
        for each in measured[measured["defense"] == name].dropna(subset=["memory_mb"]).itertuples():
            row[f"MB, {each.batch} at once" + (", as published" if each.implementation == "literal" else "")] = (
                each.memory_mb
            )
        rows.append(row)
    return pd.DataFrame(rows)


def parameters(network: nn.Module) -> int:
    """Number of parameters of a network."""
    return sum(value.numel() for value in network.parameters())


def peak_memory(work: Work, device: str | torch.device) -> tuple[int, str]:
    """Peak memory of one call in bytes, without what was allocated before it, and how it was measured."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before, ON_GPU
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # otherwise each profile prints two lines to standard error
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        work()
    assert found.profiler is not None
    assert found.profiler.kineto_results is not None
    # The profile's tables are grouped by operator; only the raw events are in order of time.
    events = [event for event in found.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda each: each.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak, ON_CPU
