"""MAZE: data-free model stealing with zeroth-order gradients (Kariyappa, Prakash and Qureshi, CVPR 2021).

The loss is KL(y' || clone). In each iteration, the first training step of the clone uses the pictures and answers of the
generator's step. The clone is also trained on earlier pictures and answers. The original keeps the last batch of every
iteration, without a limit; here a memory of fixed size holds a uniform sample of all pictures.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from dcp_core.attacks.data_free import ANSWER_FLOOR, Run, ZerothOrder
from dcp_core.attacks.oracle import Oracle
from dcp_core.attacks.replay import Recent, Replay, Reservoir
from dcp_core.defenses.base import parameter


@dataclass(frozen=True)
class MAZE(ZerothOrder):
    """MAZE. Queries per iteration: N (m + 1 + n_c - 1)."""

    batch: int = parameter(
        128, "N", "Number of pictures in a batch.", low=2, high=1024, step=1, label="Pictures in a batch"
    )
    directions: int = parameter(
        10,
        "m",
        "Number of random directions in one gradient estimate.",
        low=1,
        high=100,
        step=1,
        label="Directions probed per gradient",
    )
    replay_steps: int = parameter(
        10,
        "n_r",
        "Training steps of the clone on earlier pictures in an iteration.",
        low=0,
        high=100,
        step=1,
        label="Clone steps on earlier pictures",
    )
    replay: Literal["all", "recent"] = parameter(
        "all",
        "R",
        "Which earlier pictures are kept for replay: a uniform sample of all, or the most recent ones.",
        choices=("all", "recent"),
        expert=True,
        before="recent",
        label="Earlier pictures to keep",
    )

    name: ClassVar[str] = "maze"
    title: ClassVar[str] = "MAZE"
    source: ClassVar[str] = 'Kariyappa et al., "MAZE", CVPR 2021'
    buffer: ClassVar[int] = 20_000  # pictures kept for replay

    @property
    def queries_per_iteration(self) -> int:
        """See `DataFree`."""
        return self.batch * (self.directions + self.clone_steps)

    def generator_optimizer(self, generator: nn.Module) -> torch.optim.Optimizer:
        """See `DataFree`. SGD with momentum, as for the clone."""
        return torch.optim.SGD(generator.parameters(), self.lr_generator, momentum=0.9, weight_decay=5e-4)

    def memory(self, oracle: Oracle) -> Replay:
        """A memory of `buffer` pictures."""
        kind = Reservoir if self.replay == "all" else Recent
        return kind(self.buffer, oracle.shape, oracle.classes, oracle.device)

    def schedule(self, done: float) -> float:
        """See `DataFree`. The factor falls from 1 to 0 along half a cosine period."""
        return (1 + math.cos(math.pi * min(done, 1.0))) / 2

    def disagreement(self, logits: Tensor, answers: Tensor) -> Tensor:
        """KL(y' || softmax(logits)), (N,)."""
        ratio = answers.clamp_min(ANSWER_FLOOR).log() - logits.log_softmax(1)
        return (answers * ratio).sum(1)

    def iterate(self, run: Run) -> dict[str, Tensor]:
        """One generator step, clone steps (the first on the pictures of the generator step), then replay steps."""
        pixels, answers, generator_loss = self.improve_generator(run)
        losses = []
        for step in range(self.clone_steps):
            if step:
                pixels, answers = self.ask(run)
            run.replay.add(pixels, answers, run.rng)
            losses.append(self.train_clone(run, pixels, answers))
        for _ in range(self.replay_steps):
            self.train_clone(run, *run.replay.draw(self.batch, run.rng))
        return {"disagreement": generator_loss, "clone": torch.stack(losses).mean()}
