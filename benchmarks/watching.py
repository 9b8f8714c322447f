"""Which customers and which thieves of this project the API's query watching (PRADA) takes for an attack.

Run: python -m benchmarks.watching [QUERIES]
"""

import os
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn

from dcp_core import load_dataset, load_victim
from dcp_core.api.watch import TAU, UNCERTAIN, Watch
from dcp_core.attacks import ATTACKS, Theft
from dcp_core.attacks.oracle import Oracle
from dcp_core.defenses import NoDefense
from dcp_core.evaluation.prada import DELTA
from dcp_core.models.architectures import build
from dcp_core.models.inference import predict, to_pixels
from dcp_core.models.zoo import Victim

VICTIM = "signs-resnet8"
CUSTOMERS = 5
THIEVES = {
    "KnockoffNets, random, foreign pool": ("knockoff", "textures", {"epochs": 1}),
    "KnockoffNets, adaptive, own-kind pool": ("knockoff", "signs", {"epochs": 1, "strategy": "adaptive"}),
    "KnockoffNets, random, own-kind pool": ("knockoff", "signs", {"epochs": 1}),
    "DFME": ("dfme", None, {"batch": 64}),
    "MAZE": ("maze", None, {"batch": 16}),
}


class Recorder(nn.Module):
    """A victim that records the pictures that it gets."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.asked = model, list[Tensor]()

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (N, K) of pixels (N, 3, H, W)."""
        self.asked.append(pixels.detach().clone())
        return self.model(pixels)


def stolen(victim: Victim, name: str, queries: int) -> Tensor:
    """The pictures (N, 3, H, W) that a thief sends, in their order."""
    attack, pool, parameters = THIEVES[name]
    recorder = Recorder(victim.model)
    side = victim.card.size
    oracle = Oracle(recorder, NoDefense(), queries, shape=(3, side, side))
    recorder.asked.clear()  # the oracle's own trial picture
    images = load_dataset(pool, "train", size=side) if pool else None
    torch.manual_seed(0)
    theft = Theft(oracle, build("resnet8", oracle.classes), pool=images, logs=1)
    for _ in ATTACKS[attack](**parameters).steps(theft):
        pass
    return torch.cat(recorder.asked)[:queries]


def customers(victim: Victim) -> Iterator[tuple[str, Tensor]]:
    """Clients who want answers: the test set in random orders, few classes, one class after the other, a video."""
    test = load_dataset(victim.card.dataset, "test", size=victim.card.size)
    assert test.labels is not None
    for seed in range(CUSTOMERS):
        order = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))
        yield f"customer {seed}: the test set shuffled", to_pixels(test.images[order])
    few = (test.labels < 3).nonzero().flatten()
    yield "customer: three classes only", to_pixels(test.images[few])
    yield "customer: one class after the other", to_pixels(test.images[test.labels.argsort(stable=True)])
    frames = [to_pixels(test.images[each : each + 1].roll(shift, 3)) for each in range(200) for shift in range(10)]
    yield "customer: a camera, ten shifted frames of each sign", torch.cat(frames)


def watched(victim: Victim, pixels: Tensor) -> tuple[int | None, float | None, float]:
    """Pictures before the first alarm (None: no alarm), the last W, and the share of answers below tau."""
    watch, first = Watch(path=Path(os.devnull)), None
    for part in pixels.split(20):
        watch.see("client", part.numpy(), predict(victim.model, part).softmax(-1).numpy())
        if watch.client("client").alarm and first is None:
            first = watch.client("client").pictures
    row = watch.rows()[0]
    return first, row["prada_w"], row["uncertain_share"]


def main(queries: int) -> None:
    """Print a row for each client."""
    victim = load_victim(VICTIM)
    print(
        f"{VICTIM}, {queries} queries of each thief, tau {TAU}, alarm below W = {DELTA} or above {UNCERTAIN:.0%} uncertain"
    )
    print(f"{'client':55}{'pictures':>9}{'W':>7}{'below tau':>11}  first alarm")
    thieves = ((f"thief: {name}", stolen(victim, name, queries)) for name in THIEVES)
    for name, pixels in chain(thieves, customers(victim)):
        first, statistic, share = watched(victim, pixels[:queries])
        said = "none" if first is None else f"after {first} pictures"
        pictures = min(queries, len(pixels))
        print(f"{name:55}{pictures:9}{statistic or 1:7.3f}{100 * share:10.0f}%  {said}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
