"""A memory of fixed size for pictures and their answers."""

from typing import Any

import torch
from torch import Tensor


class Replay:
    """Stored pictures and answers on the device. The memory that it takes does not grow with the number of queries.

    Pictures are stored as uint8, which takes a quarter of the memory and changes a pixel by at most 1/510.
    """

    def __init__(self, capacity: int, shape: tuple[int, int, int], classes: int, device: torch.device) -> None:
        # One row more than the capacity: pictures that are not kept are written there. No step must then wait for a GPU
        # to say how many are kept.
        self.images = torch.zeros(capacity + 1, *shape, dtype=torch.uint8, device=device)
        self.answers = torch.zeros(capacity + 1, classes, device=device)
        self.capacity, self.written = capacity, 0

    def __len__(self) -> int:
        return min(self.written, self.capacity)

    def add(self, pixels: Tensor, answers: Tensor, rng: torch.Generator) -> None:
        """Offer pixels (N, 3, H, W) in [0, 1] and answers (N, K) to the memory, which may keep them."""
        positions = torch.arange(len(pixels), device=pixels.device) + self.written
        places = self.places(positions, rng)
        # Of several pictures for one place, the last is kept.
        replaced = (places[:, None] == places).triu(1).any(1)
        places = places.masked_fill(replaced, self.capacity)
        self.images[places] = pixels.mul(255).round().byte()
        self.answers[places] = answers
        self.written += len(pixels)

    def places(self, positions: Tensor, rng: torch.Generator) -> Tensor:
        """The rows (N,) in which pictures are stored, 0 to `capacity` - 1; `capacity` for a picture that is not kept.

        Args:
            positions: for each picture (N,), its number in the order of all pictures so far, from 0.
        """
        raise NotImplementedError

    def draw(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw pixels (count, 3, H, W) in [0, 1] and their answers (count, K), with replacement."""
        pick = torch.randint(len(self), (count,), device=self.images.device, generator=rng)
        return self.images[pick].float().div_(255), self.answers[pick]

    def state(self) -> dict[str, Any]:
        """The stored pictures and answers, and how many were offered in all."""
        kept = len(self)
        return {
            "images": self.images[:kept].clone(),
            "answers": self.answers[:kept].clone(),
            "written": self.written,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state()` returned."""
        self.written = int(state["written"])
        self.images[: len(self)] = state["images"]
        self.answers[: len(self)] = state["answers"]


class Recent(Replay):
    """Keeps the last pictures: a ring buffer."""

    def places(self, positions: Tensor, rng: torch.Generator) -> Tensor:
        """See `Replay`."""
        return positions % self.capacity


class Reservoir(Replay):
    """Keeps a uniform sample of all pictures so far: reservoir sampling (Vitter, "Random Sampling with a Reservoir",
    ACM TOMS 1985, algorithm R)."""

    def places(self, positions: Tensor, rng: torch.Generator) -> Tensor:
        """See `Replay`. The picture at position t >= capacity is kept with probability capacity / (t + 1)."""
        uniform = torch.rand(len(positions), dtype=torch.float64, device=positions.device, generator=rng)
        drawn = (uniform * (positions + 1)).long().clamp(max=self.capacity)
        return torch.where(positions < self.capacity, positions, drawn)
