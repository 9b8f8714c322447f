"""Score a clone on test pictures that the thief has not used.

Scores are exact means over the test set, of the clone in its current state: there is no choice of the best epoch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dcp_core.data.datasets import ImageSet
from dcp_core.evaluation.metrics import percent
from dcp_core.models.inference import predict, reduced


@dataclass(frozen=True)
class Scores:
    """Percentages, 0 to 100, over `count` pictures.

    Args:
        error: pictures that the clone classifies wrongly.
        fidelity: pictures for which the clone's top class is that of the undefended victim.
        class_errors: the error on each class; 0 for a class without test pictures.
    """

    error: float
    fidelity: float
    class_errors: tuple[float, ...]
    count: int


class Evaluator:
    """Scores clones on test pictures, labels and the victim's clean top classes, which the attack cannot see."""

    def __init__(self, images: Tensor, labels: Tensor, victim_classes: Tensor, classes: int) -> None:
        """Take uint8 pictures (N, 3, H, W), labels (N,) and the victim's clean top classes (N,).

        Raises:
            ValueError: for an empty test set or different lengths.
        """
        if not len(images) or not len(images) == len(labels) == len(victim_classes):
            raise ValueError(
                f"there are {len(images)} test pictures, {len(labels)} labels and {len(victim_classes)} answers; "
                "all three must be equal and above 0"
            )
        self._images, self._labels, self._victim, self._classes = images, labels, victim_classes, classes

    @classmethod
    def of(cls, logits: Tensor, test: ImageSet) -> "Evaluator":
        """The evaluator for a victim with clean `logits` (N, K) on a labelled test set.

        Raises:
            ValueError: for a test set without labels, or with more classes than the victim.
        """
        if test.labels is None:
            raise ValueError(f"{test.name} has no labels: a clone cannot be scored on it")
        if int(test.labels.max()) >= logits.shape[1]:
            raise ValueError(
                f"{test.name} has labels up to {int(test.labels.max())}, but the victim has {logits.shape[1]} classes"
            )
        return cls(test.images, test.labels, logits.argmax(1), logits.shape[1])

    @property
    def victim_error(self) -> float:
        """Test error of the undefended victim in percent."""
        return float(percent(self._victim != self._labels))

    def first(self, count: int, side: int | None = None) -> "Evaluator":
        """A faster evaluator, for learning curves: only the first `count` test pictures, reduced once to `side` pixels."""
        images = reduced(self._images[:count], side)
        return Evaluator(images, self._labels[:count], self._victim[:count], self._classes)

    def __call__(self, clone: nn.Module) -> Scores:
        """Score a clone. Its mode (training or eval) and weights are not changed."""
        guess = predict(clone, self._images).argmax(1)
        wrong = guess != self._labels
        total = torch.bincount(self._labels, minlength=self._classes)
        missed = torch.bincount(self._labels[wrong], minlength=self._classes)
        return Scores(
            error=float(percent(wrong)),
            fidelity=float(percent(guess == self._victim)),
            class_errors=tuple((100 * missed / total.clamp_min(1)).tolist()),
            count=len(wrong),
        )
