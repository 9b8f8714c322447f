"""A memory of fixed size for pictures and their answers."""

from typing import Any

import torch
from torch import Tensor


class Replay:
    """A ring buffer on the device, so that memory does not grow with the number of queries.

    Pictures are stored as uint8, which takes a quarter of the memory and changes a pixel by at most 1/510.
    """

    def __init__(self, capacity: int, shape: tuple[int, int, int], classes: int, device: torch.device) -> None:
        self.images = torch.zeros(capacity, *shape, dtype=torch.uint8, device=device)
        self.answers = torch.zeros(capacity, classes, device=device)
        self.capacity, self.written = capacity, 0

    def __len__(self) -> int:
        return min(self.written, self.capacity)

    def add(self, pixels: Tensor, answers: Tensor) -> None:
        """Store pixels (N, 3, H, W) in [0, 1] and answers (N, K). They replace the oldest entries of a full buffer."""
        pixels, answers = pixels[-self.capacity :], answers[-self.capacity :]
        places = (torch.arange(len(pixels), device=pixels.device) + self.written) % self.capacity
        self.images[places] = pixels.mul(255).round().byte()
        self.answers[places] = answers
        self.written += len(pixels)

    def draw(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw pixels (count, 3, H, W) in [0, 1] and their answers (count, K), with replacement."""
        pick = torch.randint(len(self), (count,), device=self.images.device, generator=rng)
        return self.images[pick].float().div_(255), self.answers[pick]

    def state(self) -> dict[str, Any]:
        """The stored pictures and answers, and how many were written in all."""
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
