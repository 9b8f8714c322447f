"""DFME: data-free model extraction (Truong, Maini, Walls and Papernot, CVPR 2021).

The loss is the l1 distance between the logits of clone and victim. The victim's logits are recovered from its answer as
log y', up to a constant that is removed by subtracting the mean.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from dcp_core.attacks.data_free import Run, ZerothOrder, centred_log

MILESTONES, DECAY = (0.1, 0.3, 0.5), 0.3


@dataclass(frozen=True)
class DFME(ZerothOrder):
    """DFME. Queries per iteration: N (m + 1 + n_c)."""

    name: ClassVar[str] = "dfme"
    title: ClassVar[str] = "DFME"
    source: ClassVar[str] = 'Truong et al., "Data-Free Model Extraction", CVPR 2021'

    @property
    def queries_per_iteration(self) -> int:
        """See `DataFree`."""
        return self.batch * (self.directions + 1 + self.clone_steps)

    def generator_optimizer(self, generator: nn.Module) -> torch.optim.Optimizer:
        """See `DataFree`. Adam."""
        return torch.optim.Adam(generator.parameters(), self.lr_generator)

    def schedule(self, done: float) -> float:
        """See `DataFree`. The factor is multiplied by 0.3 after 10, 30 and 50 % of the iterations."""
        return DECAY ** sum(done >= milestone for milestone in MILESTONES)

    def disagreement(self, logits: Tensor, answers: Tensor) -> Tensor:
        """Mean over the classes of |clone logit - centred log-answer|, (N,)."""
        return (logits - centred_log(answers)).abs().mean(1)

    def iterate(self, run: Run) -> dict[str, Tensor]:
        """One generator step, then clone steps on newly generated pictures."""
        _, _, generator_loss = self.improve_generator(run)
        losses = [self.train_clone(run, *self.ask(run)) for _ in range(self.clone_steps)]
        return {"disagreement": generator_loss, "clone": torch.stack(losses).mean()}
