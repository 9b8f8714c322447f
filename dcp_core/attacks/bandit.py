"""The adaptive strategy of KnockoffNets: a gradient bandit over the classes of the query pool.

Orekondy, Schiele and Fritz, CVPR 2019, section 4.1.2. An action is a class z of the pool; the policy is a softmax
over preferences H. After each answer,

    H(z)  <- H(z)  + lr (r - baseline) (1 - pi(z))     for the class z that was queried
    H(z') <- H(z') - lr (r - baseline) pi(z')          for every other

with lr = 1 / (number of queries of class z so far). There are three rewards: certainty (difference of the two largest
posteriors), diversity (sum of the answer's excess over the mean of the last answers) and loss (cross-entropy of the clone
trained so far). Each is scaled to [0, 1] by the range seen so far, its mean over the last `WINDOW` answers is
subtracted, and the three are added. The paper queries one picture at a time. Here a batch is drawn from one policy, and
the answers update the policy one by one. pi(z) is 0 for a class that had no pictures left when the batch was drawn; its
preference no longer changes.
"""

from typing import Any

import torch
from torch import Tensor

REWARDS = ("certainty", "diversity", "loss", "all")
WINDOW = 25


class Bandit:
    """The policy, and which pictures of the pool have not been queried yet."""

    def __init__(self, labels: Tensor, reward: str, classes: int) -> None:
        """Start with a uniform policy.

        Args:
            labels: class of each picture of the pool, integers (N,).
            reward: one of `REWARDS`.
            classes: number of classes K of the victim.
        """
        self.labels, self.reward = labels, reward
        self.actions = int(labels.max()) + 1
        self.preferences = torch.zeros(self.actions, dtype=torch.float64)
        self.asked = torch.zeros(self.actions, dtype=torch.int64)
        self.fresh = torch.ones(len(labels), dtype=torch.bool)
        self.last_answers = torch.zeros(0, classes)
        self.last_rewards = torch.zeros(0, 3, dtype=torch.float64)
        self.low = torch.full((3,), torch.inf, dtype=torch.float64)
        self.high = -self.low

    def left(self) -> Tensor:
        """Whether each class of the pool has pictures that were not queried, bool (actions,)."""
        return torch.bincount(self.labels[self.fresh], minlength=self.actions) > 0

    def policy(self) -> Tensor:
        """Probability of each class of the pool; 0 for a class without pictures left."""
        return self._policy_over(self.left())

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """Draw at most `count` pictures that were not queried before: a class from the policy, then a random picture of it.

        Returns:
            indices (n,) of the pool, n <= `count`: fewer if a class runs out of pictures.
        """
        actions = self.policy().multinomial(count, replacement=True, generator=rng)
        picked = []
        for action, wanted in zip(*actions.unique(return_counts=True), strict=True):
            members = (self.fresh & (self.labels == action)).nonzero()[:, 0]
            picked.append(members[torch.randperm(len(members), generator=rng)[:wanted]])
        indices = torch.cat(picked)  # fewer than `count` where a class runs out
        return indices[torch.randperm(len(indices), generator=rng)]

    def learn(self, indices: Tensor, answers: Tensor, clone_logits: Tensor) -> None:
        """Update the policy with the answers (n, K) to the pictures `indices` (n,), one by one.

        Args:
            clone_logits: logits (n, K) of the clone for the same pictures.
        """
        left = self.left()  # the classes that had pictures left when these were drawn
        self.fresh[indices] = False
        losses = -(answers * clone_logits.log_softmax(1)).sum(1)
        top = answers.topk(2, dim=1).values
        for row, action in enumerate(self.labels[indices].tolist()):
            answer = answers[row]
            mean = self.last_answers.mean(0) if len(self.last_answers) else torch.zeros_like(answer)
            diversity = (answer - mean).clamp_min(0).sum()
            rewards = torch.stack([top[row, 0] - top[row, 1], diversity, losses[row]]).double()
            self._reinforce(action, rewards, left)
            self.last_answers = torch.cat([self.last_answers, answer[None]])[-WINDOW:]

    def _policy_over(self, left: Tensor) -> Tensor:
        return self.preferences.masked_fill(~left, -torch.inf).softmax(0)

    def _reinforce(self, action: int, rewards: Tensor, left: Tensor) -> None:
        self.low, self.high = torch.minimum(self.low, rewards), torch.maximum(self.high, rewards)
        scaled = (rewards - self.low) / (self.high - self.low).clamp_min(1e-12)
        baseline = self.last_rewards.mean(0) if len(self.last_rewards) else torch.zeros(3, dtype=torch.float64)
        advantages = scaled - baseline
        advantage = advantages.sum() if self.reward == "all" else advantages[REWARDS.index(self.reward)]
        self.last_rewards = torch.cat([self.last_rewards, scaled[None]])[-WINDOW:]
        self.asked[action] += 1
        towards = -self._policy_over(left)
        towards[action] += 1
        self.preferences += advantage / self.asked[action] * towards

    def state(self) -> dict[str, Any]:
        """The state as plain tensors."""
        return {name: getattr(self, name).clone() for name in _STATE}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state()` returned."""
        for name in _STATE:
            setattr(self, name, state[name].cpu())


_STATE = ("preferences", "asked", "fresh", "last_answers", "last_rewards", "low", "high")
