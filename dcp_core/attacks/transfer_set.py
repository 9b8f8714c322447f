"""The transfer set: the pictures that a thief has sent, the answers, and the choice of the next pictures."""

from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dcp_core.attacks.bandit import Bandit
from dcp_core.attacks.base import SAMPLE, Theft
from dcp_core.attacks.oracle import AttackError
from dcp_core.data.datasets import ImageSet
from dcp_core.models.inference import to_pixels
from dcp_core.models.training import Recipe, augment
from dcp_core.precision import autocast

QUERY_BATCH = 256
ADAPTIVE_BATCH = 32


def picking_order(count: int, seed: int) -> Tensor:
    """The order in which the random strategy sends the `count` pictures of a pool: indices (count,)."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def check_pool(pool: ImageSet, shape: tuple[int, int, int]) -> None:
    """Check that a pool has pictures for a victim.

    Raises:
        AttackError: if the pictures have another shape or are not uint8.
    """
    if pool.images.dtype != torch.uint8 or tuple(pool.images.shape[1:]) != shape:
        raise AttackError(
            f"the victim needs uint8 pictures of shape {shape}, but those of the pool {pool.name} are {pool.images.dtype} "
            f"{tuple(pool.images.shape[1:])}: choose another pool, or resize its pictures"
        )


class TransferSet:
    """The pictures that were sent so far (indices into the pool, in order) and their mean answers (n, K)."""

    def __init__(
        self, theft: Theft, repeats: int = 1, *, reward: str | None = None, change: Recipe | None = None
    ) -> None:
        """Start with no pictures.

        Args:
            theft: a theft with a query pool.
            repeats: how often each picture is sent.
            change: recipe whose random shifts and mirroring each repeat gets. Default: all repeats are the same.
            reward: choose pictures by a bandit over the classes of the pool, with this reward. Default: at random.
        """
        assert theft.pool is not None
        self.oracle, self.images, self.repeats = theft.oracle, theft.pool.images, repeats
        self.seed, self.round, self.change = theft.seed, 0, change
        self.wanted = -(-theft.oracle.budget // repeats)  # the last picture may get fewer repeats
        self.indices = torch.zeros(self.wanted, dtype=torch.int64)
        self.answers = torch.zeros(self.wanted, theft.oracle.classes)
        self.count = 0
        self.order = picking_order(len(self.images), theft.seed)
        self.bandit: Bandit | None = None
        if reward is not None:
            assert theft.pool.labels is not None
            self.bandit = Bandit(theft.pool.labels, reward, theft.oracle.classes)
            self.student = deepcopy(theft.clone).train()
            self.optimizer = torch.optim.SGD(self.student.parameters(), 0.02, momentum=0.9)

    @property
    def complete(self) -> bool:
        """Whether the budget is used up or all wanted pictures were sent."""
        return self.oracle.left == 0 or self.count == self.wanted

    def ask(self) -> None:
        """Send one batch of pictures and store the answers.

        Raises:
            NanAnswer: if the victim's answer is not a number.
        """
        if self.bandit is None:
            picked = self.order[self.count : min(self.count + QUERY_BATCH, self.wanted)]
        else:
            rng = torch.Generator().manual_seed(self.seed * 1_000_003 + self.round)
            picked = self.bandit.draw(min(ADAPTIVE_BATCH, self.wanted - self.count), rng)
        images = self.images[picked]
        answers = self._averaged(images)
        picked = picked[: len(answers)]
        if self.bandit is not None:
            self._learn(self.bandit, picked, images[: len(answers)], answers)
        end = self.count + len(answers)
        self.indices[self.count : end], self.answers[self.count : end] = picked, answers
        self.count, self.round = end, self.round + 1

    def _averaged(self, images: Tensor) -> Tensor:
        """The answer (n, K) to each picture, averaged over its repeats, on the CPU."""
        answers = self.oracle.query(self._changed(images.repeat_interleave(self.repeats, 0))).cpu()
        owner = torch.arange(len(answers)) // self.repeats
        sums = torch.zeros(int(owner[-1]) + 1, answers.shape[1]).index_add_(0, owner, answers)
        return sums / torch.bincount(owner)[:, None]

    def _changed(self, images: Tensor) -> Tensor:
        """Repeated pictures, each with another random shift and mirroring if `change` is given; uint8 (n, 3, H, W)."""
        if self.change is None or self.repeats == 1:
            return images
        rng = torch.Generator().manual_seed(self.seed * 1_000_003 + self.round)
        count, padding = len(images), self.change.crop_padding
        shift = torch.randint(0, 2 * padding + 1, (count, 2), generator=rng)
        mirror = torch.rand(count, generator=rng) < (0.5 if self.change.flip else 0.0)
        return augment(images, shift, mirror, padding, self.change.border).mul(255).round().byte()

    def _learn(self, bandit: Bandit, picked: Tensor, images: Tensor, answers: Tensor) -> None:
        """Update the bandit, then train the student, which the loss reward uses, for one step."""
        self.student.train(len(images) > 1)
        with autocast(self.oracle.device):
            logits = self.student(to_pixels(images.to(self.oracle.device))).float()
        bandit.learn(picked, answers, logits.detach().cpu())
        self.optimizer.zero_grad()
        F.cross_entropy(logits, answers.to(logits.device)).backward()
        self.optimizer.step()

    def latest(self) -> tuple[Tensor, Tensor]:
        """The most recent pictures (uint8) and their mean answers (n, K), for display."""
        recent = slice(max(0, self.count - SAMPLE), self.count)
        return self.images[self.indices[recent]], self.answers[recent].clone()

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint, with tensors and plain values only."""
        state: dict[str, Any] = {
            "oracle": self.oracle.state(),
            "indices": self.indices[: self.count].clone(),
            "answers": self.answers[: self.count].clone(),
            "round": self.round,
        }
        if self.bandit is not None and not self.complete:
            state |= {
                "bandit": self.bandit.state(),
                "student": self.student.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            }
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore the result of `state()`."""
        self.oracle.load_state(state["oracle"])
        self.round, self.count = int(state["round"]), len(state["indices"])
        self.indices[: self.count], self.answers[: self.count] = state["indices"], state["answers"]
        if self.bandit is not None and "bandit" in state:
            self.bandit.load_state(state["bandit"])
            self.student.load_state_dict(state["student"])
            self.optimizer.load_state_dict(state["optimizer"])
