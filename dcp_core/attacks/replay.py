"""A fixed-size memory of answered pictures."""

from typing import Any

import torch
from torch import Tensor


class Replay:
    """A ring buffer on the device: what it takes does not depend on how many queries a run makes.

    Pictures are kept as uint8, a quarter of their size: rounding moves a pixel by at most 1/510.
    """

    def __init__(self, capacity: int, shape: tuple[int, int, int], classes: int, device: torch.device) -> None:
        self.images = torch.zeros(capacity, *shape, dtype=torch.uint8, device=device)
        self.answers = torch.zeros(capacity, classes, device=device)
        self.capacity, self.written = capacity, 0

    def __len__(self) -> int:
        return min(self.written, self.capacity)

    def add(self, pixels: Tensor, answers: Tensor) -> None:
        """Keep pixels (N, 3, H, W) in [0, 1] and answers (N, K); the oldest make room."""
        pixels, answers = pixels[-self.capacity :], answers[-self.capacity :]
        places = (torch.arange(len(pixels), device=pixels.device) + self.written) % self.capacity
        self.images[places] = pixels.mul(255).round().byte()
        self.answers[places] = answers
        self.written += len(pixels)

    def draw(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """`count` pictures (floats in [0, 1]) and their answers, with replacement."""
        pick = torch.randint(len(self), (count,), device=self.images.device, generator=rng)
        return self.images[pick].float().div_(255), self.answers[pick]

    def state(self) -> dict[str, Any]:
        """What is filled, and where the next one goes."""
        kept = len(self)
        return {
            "images": self.images[:kept].clone(),
            "answers": self.answers[:kept].clone(),
            "written": self.written,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from `state()`."""
        self.written = int(state["written"])
        self.images[: len(self)] = state["images"]
        self.answers[: len(self)] = state["answers"]
