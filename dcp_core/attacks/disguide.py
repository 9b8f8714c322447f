"""DisGUIDE: disagreement-guided data-free model extraction (Rosenthal, Enouen, Pham and Tan, AAAI 2023).

Two clones are trained. The generator is trained to produce pictures on which the two clones disagree, which takes no query
and no answer of the victim. A second term keeps its pictures diverse. In each iteration, one batch is sent to the victim.
The attack works with the top class of the answers alone, which DFME and MAZE cannot. This also covers the cases of DaST and
of Sanyal et al. (references [18] and [19] of the paper).

The original replays from the last 1,000,000 pictures; here a memory holds a uniform sample of all pictures, so that
checkpoints stay small.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcp_core.attacks.base import SAMPLE, TOP_1, Theft, sample
from dcp_core.attacks.data_free import DataFree, Run, centred_log
from dcp_core.attacks.oracle import Oracle
from dcp_core.attacks.replay import Replay, Reservoir
from dcp_core.attacks.zeroth_order import to_range
from dcp_core.defenses.base import parameter
from dcp_core.models.ensemble import Ensemble, reinitialised
from dcp_core.precision import autocast

MILESTONES, DECAY = (0.4, 0.8), 0.3
GREY = 8  # every 8th generated picture is grey
LEAST = 1e-6  # added to posteriors of which the logarithm is taken


@dataclass(frozen=True)
class DisGUIDE(DataFree):
    """DisGUIDE. Queries per iteration: N. The final clone is the mean of two networks."""

    batch: int = parameter(
        256, "N", "Number of pictures in a batch.", low=2, high=1024, step=1, label="Pictures in a batch"
    )
    targets: Literal["posteriors", "labels"] = parameter(
        "posteriors",
        "y",
        "What the clones learn: the posteriors of the answers, or only their top class.",
        choices=("posteriors", "labels"),
        label="Use of the answers",
    )
    diversity: float = parameter(
        0.2,
        "λ",
        "Weight of the diversity of the generated pictures: 0.2 for 10 classes, 0.04 for 100.",
        high=10.0,
        label="Weight of diversity",
    )
    replay_steps: int = parameter(
        3,
        "n_r",
        "Training steps of the clones on earlier pictures in an iteration.",
        low=0,
        high=100,
        step=1,
        label="Clone steps on earlier pictures",
    )
    lr_clone: float = parameter(
        0.03, "η_c", "Learning rate of the clones.", low=1e-4, high=1.0, label="Learning rate of the clone"
    )
    lr_generator: float = parameter(
        1e-4,
        "η_g",
        "Learning rate of the generator.",
        low=1e-6,
        high=1.0,
        step=1e-4,
        label="Learning rate of the generator",
    )
    memory_size: int = parameter(
        50_000,
        "M",
        "Number of earlier pictures kept for replay, a uniform sample of all.",
        low=1,
        high=1_000_000,
        step=1000,
        expert=True,
        label="Pictures kept for replay",
    )
    latent: int = parameter(
        256,
        "z",
        "How many random numbers a picture is generated from.",
        low=2,
        high=1024,
        step=1,
        expert=True,
        label="Random numbers per picture",
    )
    width: int = parameter(
        128,
        "w",
        "Number of channels of the generator; fewer are faster on a CPU.",
        low=2,
        high=512,
        step=2,
        expert=True,
        label="Channels of the generator",
    )

    name: ClassVar[str] = "disguide"
    title: ClassVar[str] = "DisGUIDE"
    source: ClassVar[str] = 'Rosenthal et al., "DisGUIDE", AAAI 2023'

    @property
    def thief(self) -> str:
        """See `Attack`."""
        return TOP_1 if self.targets == "labels" else super().thief

    @property
    def passes(self) -> int:
        """See `Attack`. One for each clone."""
        return 2

    @property
    def queries_per_iteration(self) -> int:
        """See `DataFree`."""
        return self.batch

    def prepare(self, theft: Theft) -> None:
        """Add a second clone with other initial weights."""
        theft.clone = Ensemble([theft.clone, reinitialised(theft.clone, theft.seed + 1)])

    def generator_optimizer(self, generator: nn.Module) -> torch.optim.Optimizer:
        """See `DataFree`. Adam."""
        return torch.optim.Adam(generator.parameters(), self.lr_generator)

    def memory(self, oracle: Oracle) -> Replay:
        """A memory of `memory_size` pictures, or of all that the budget allows."""
        size = min(self.memory_size, oracle.budget)
        return Reservoir(size, oracle.shape, oracle.classes, oracle.device)

    def schedule(self, done: float) -> float:
        """See `DataFree`. The factor is multiplied by 0.3 after 40 and 80 % of the iterations."""
        return DECAY ** sum(done >= milestone for milestone in MILESTONES)

    def disagreement(self, logits: Tensor, answers: Tensor) -> Tensor:
        """Cross-entropy on the top class, or mean over the classes of |clone logit - centred log-answer|; (N,)."""
        if self.targets == "labels":
            return F.cross_entropy(logits, answers.argmax(1), reduction="none")
        return (logits - centred_log(answers)).abs().mean(1)

    def iterate(self, run: Run) -> dict[str, Tensor]:
        """One generator step, then one clone step on newly generated pictures and steps on earlier ones."""
        disagreement = self.improve_generator(run)
        pixels, answers = self.ask(run)
        run.replay.add(pixels, answers, run.rng)
        loss = self.train_clone(run, pixels, answers)
        for _ in range(self.replay_steps):
            self.train_clone(run, *run.replay.draw(self.batch, run.rng))
        return {"disagreement": disagreement, "clone": loss}

    def improve_generator(self, run: Run) -> Tensor:
        """One training step of the generator, without queries; returns the mean disagreement of the clones."""
        before = run.draw()
        pixels = to_range(before.detach()).requires_grad_(True)
        run.clone.eval()  # fixed batch statistics, as in the answers of the final clone
        with autocast(run.device):
            logits = members(run.clone).each(some_grey(pixels))
        run.clone.train()
        disagreement, loss = self.generator_loss(torch.stack(logits).float().softmax(-1))
        (gradient,) = torch.autograd.grad(loss, pixels)  # for the pictures only, not for the clones' weights
        run.generator_optimizer.zero_grad(set_to_none=True)
        to_range(before).backward(gradient)
        run.generator_optimizer.step()
        return disagreement.detach()

    def generator_loss(self, posteriors: Tensor) -> tuple[Tensor, Tensor]:
        """Disagreement of the clones with posteriors (M, N, K), and the loss: it falls with disagreement and diversity.

        The disagreement is mean_{n,k} std_m p. The diversity is the entropy of the mean posterior q; the loss is
        -disagreement + lambda sum_k q_k log q_k.
        """
        disagreement = posteriors.std(0).mean()
        mean = (posteriors + LEAST).mean((0, 1))
        return disagreement, -disagreement + self.diversity * (mean * mean.log()).sum()

    def train_clone(self, run: Run, pixels: Tensor, answers: Tensor) -> Tensor:
        """One training step of both clones on answered pictures; returns the mean of their losses."""
        run.clone.train(len(pixels) == self.batch)  # a smaller last batch does not update the batch statistics
        with autocast(run.device):
            logits = members(run.clone).each(pixels.contiguous(memory_format=torch.channels_last))
        losses = torch.stack([self.disagreement(each.float(), answers).mean() for each in logits])
        run.clone_optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()
        run.clone_optimizer.step()
        run.clone.train()
        return losses.detach().mean()

    def ask(self, run: Run) -> tuple[Tensor, Tensor]:
        """See `DataFree`. The generator's batch statistics are fixed, and every 8th picture is grey."""
        run.generator.eval()
        with torch.no_grad():
            pixels = some_grey(to_range(run.draw()))
        run.generator.train()
        answers = run.oracle.query(pixels)
        run.shown = sample(pixels[: len(answers)]), answers[:SAMPLE].cpu()
        return pixels[: len(answers)], answers


def members(clone: nn.Module) -> Ensemble:
    """The clone as an ensemble of its two networks."""
    assert isinstance(clone, Ensemble)
    return clone


def some_grey(pixels: Tensor) -> Tensor:
    """Pixels (N, 3, H, W), with every 8th picture turned grey: each channel is the mean of the three."""
    grey = (torch.arange(len(pixels), device=pixels.device) % GREY == 0)[:, None, None, None]
    return torch.where(grey, pixels.mean(1, keepdim=True), pixels)
