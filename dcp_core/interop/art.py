"""Our defenses and victims in the Adversarial Robustness Toolbox (ART), the extra `art`.

`DefensePostprocessor` applies any defense that needs only the posterior to the answers of a classifier of ART. `black_box`
lets attacks of ART query an `Oracle`, which counts their queries like those of our attacks:

    victim = black_box(Oracle(load_victim("signs-resnet8").model, Deception(), budget=5000))
    KnockoffNets(victim, nb_stolen=5000, use_probability=True).extract(pictures, thieved_classifier=clone)
"""

from typing import Any

import numpy as np
import torch

from dcp_core.attacks.oracle import AttackError, Oracle
from dcp_core.defenses.base import Defense
from dcp_core.models.pretrained import MissingExtra

try:
    from art.defences.postprocessor.postprocessor import Postprocessor
    from art.estimators.classification import BlackBoxClassifierNeuralNetwork
except ImportError as error:
    raise MissingExtra(
        "ART, the Adversarial Robustness Toolbox, is not installed: pip install adversarial-robustness-toolbox"
    ) from error


class DefensePostprocessor(Postprocessor):
    """A defense for the argument `postprocessing_defences` of ART's classifiers."""

    params = ("defense", "logits", "seed")

    def __init__(
        self,
        defense: Defense,
        logits: bool = True,
        seed: int = 0,
        apply_fit: bool = False,
        apply_predict: bool = True,
    ) -> None:
        """Take a defense.

        Args:
            defense: the defense, with stored answers of the victim (`arm`) if it needs them.
            logits: whether the classifier predicts logits, as ART's `PyTorchClassifier` does, and not posteriors.
            seed: seed of a randomised defense.
            apply_fit: whether to defend answers while the classifier is trained.
            apply_predict: whether to defend the answers of `predict`.

        Raises:
            ValueError: for a defense that uses the picture, which ART does not give to a postprocessor.
        """
        super().__init__(is_fitted=True, apply_fit=apply_fit, apply_predict=apply_predict)
        if defense.needs_inputs:
            raise ValueError(
                f"{defense.title} uses the picture, which ART does not give to a postprocessor: use `black_box` instead"
            )
        self.defense, self.logits, self.seed = defense, logits, seed
        self._rng = torch.Generator().manual_seed(seed)

    def __call__(self, preds: np.ndarray) -> np.ndarray:
        """Defended posteriors (N, K) from the predictions (N, K) of a classifier.

        Raises:
            ValueError: for predictions that are not what `logits` says.
        """
        given = torch.from_numpy(np.ascontiguousarray(preds))
        try:
            answers = (
                self.defense(logits=given, generator=self._rng)
                if self.logits
                else self.defense(given, generator=self._rng)
            )
        except ValueError as error:
            hint = "" if self.logits else ". Does this classifier predict logits? Then use logits=True"
            raise ValueError(f"{error}{hint}") from error
        return answers.numpy()


def black_box(oracle: Oracle) -> Any:
    """The oracle as a black-box classifier of ART: pixels (N, 3, H, W) in [0, 1] -> defended posteriors (N, K).

    Every picture that ART predicts is one query of the oracle. A batch with more pictures than queries are left is refused
    with an `AttackError`, because ART would not notice missing answers.
    """

    def predict(pixels: np.ndarray) -> np.ndarray:
        if len(pixels) > oracle.left:
            raise AttackError(
                f"ART asks {len(pixels):,} queries at once and {oracle.left:,} of {oracle.budget:,} are left: set the "
                "attack's `nb_stolen` to the budget, or raise the budget"
            )
        return oracle.query(torch.from_numpy(np.ascontiguousarray(pixels, np.float32))).cpu().numpy()

    return BlackBoxClassifierNeuralNetwork(predict, oracle.shape, oracle.classes, clip_values=(0.0, 1.0))
