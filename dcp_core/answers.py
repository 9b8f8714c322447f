"""Clean and defended answers to a batch of pictures, and their properties.

The dashboard, the command line and the library all use these functions, so they give the same numbers.
"""

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dcp_core.defenses.base import Answer, Defense
from dcp_core.evaluation.metrics import per_answer
from dcp_core.models.auxiliary import arm
from dcp_core.models.inference import predict
from dcp_core.models.zoo import Victim


@dataclass(frozen=True)
class Answers:
    """Logits, clean and defended posteriors of N pictures, each (N, K) float32."""

    logits: Tensor
    clean: Tensor
    defended: Tensor


def answer(victim: Victim, pixels: Tensor, defense: Defense, seed: int = 0) -> Answers:
    """The victim's answers to pictures, without and with the defense.

    Args:
        pixels: (N, 3, size, size) in [0, 1]; `victim.card.size` is the size.
        seed: seed of randomised defenses.

    Returns:
        Logits, clean and defended posteriors, each (N, K).

    Raises:
        ValueError: if the pictures do not have the victim's size, or the second network of the defense is missing.
    """
    side = victim.card.size
    if pixels.dim() != 4 or tuple(pixels.shape[1:]) != (3, side, side):
        raise ValueError(
            f"{victim.card.name} needs pictures of shape (N, 3, {side}, {side}), not {tuple(pixels.shape)}: resize them, "
            "for example with to_tensor"
        )
    return defend(predict(victim.model, pixels), arm(defense, victim.card.name), seed, pixels)


def defend(
    logits: Tensor, defense: Defense, seed: int = 0, inputs: Tensor | None = None, guide: Tensor | None = None
) -> Answers:
    """Clean and defended posteriors of logits (N, K); see `Defense.__call__` for inputs and guide."""
    generator = torch.Generator().manual_seed(seed)
    defended = defense(logits=logits, inputs=inputs, guide=guide, generator=generator)
    return Answers(logits, logits.softmax(-1), defended)


def describe(answers: Answers, classes: tuple[str, ...]) -> pd.DataFrame:
    """One row for each answer: top class, largest posterior y_max and entropy (nats), clean and defended; whether the top
    class changed; and l1, the distance of defended and clean posterior (0 to 2)."""
    before, after = per_answer(answers.clean, answers.clean), per_answer(answers.defended, answers.clean)
    return pd.DataFrame(
        {
            "clean_class": [classes[k] for k in before.top.tolist()],
            "defended_class": [classes[k] for k in after.top.tolist()],
            "top_class_changed": (before.top != after.top).tolist(),
            "l1": after.l1.tolist(),
            "clean_y_max": before.confidence.tolist(),
            "defended_y_max": after.confidence.tolist(),
            "clean_entropy_nats": before.entropy.tolist(),
            "defended_entropy_nats": after.entropy.tolist(),
        }
    )


def with_posteriors(table: pd.DataFrame, answers: Answers, classes: tuple[str, ...]) -> pd.DataFrame:
    """Add a `clean_CLASS` and a `defended_CLASS` column for each class to a table with one row for each answer."""
    posteriors = {
        f"{kind}_{label}": values[:, index].tolist()
        for kind, values in (("clean", answers.clean), ("defended", answers.defended))
        for index, label in enumerate(classes)
    }
    return pd.concat([table, pd.DataFrame(posteriors, index=table.index)], axis=1)


def every_step(defense: Defense, logits: Tensor, classes: tuple[str, ...]) -> pd.DataFrame:
    """The terms of a defense's formula for the logits (K,) of one picture: one row for each class, one column for each term.

    If the defense declares no steps, the table has only the column `class`.
    """
    steps = defense.steps(Answer(logits[None].softmax(-1), logits[None]))
    return pd.DataFrame({"class": list(classes)} | {name: values[0].tolist() for name, values in steps.items()})


def compare_defenses(
    logits: Tensor,
    defenses: Sequence[Defense],
    seed: int = 0,
    repeats: int = 9,
    inputs: Tensor | None = None,
    guides: Mapping[str, Tensor] = MappingProxyType({}),
) -> pd.DataFrame:
    """Apply several defenses to the logits (K,) of one picture.

    Args:
        defenses: model-based ones must have their second network (`arm`), unless a guide is given.
        repeats: number of timed calls.
        inputs: the picture (1, 3, H, W) in [0, 1].
        guides: guides (1, K) of model-based defenses for this picture, by the defense's name. Used if `inputs` is None.

    Returns:
        Columns `defense`, `posterior` (K,), `l1` and `milliseconds`. The time is the median of the calls. It includes the
        defense's second network, but not the victim's forward pass. It is NaN if a given guide was used.
    """
    rows = []
    for defense in defenses:
        stored = guides.get(defense.name) if inputs is None else None
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            answers = defend(logits[None], defense, seed, inputs, stored)
            seconds.append(time.perf_counter() - start)
        rows.append(
            {
                "defense": defense.name,
                "posterior": answers.defended[0].numpy(),
                "l1": float((answers.defended - answers.clean).abs().sum()),
                "milliseconds": math.nan if stored is not None else 1000 * statistics.median(seconds),
            }
        )
    return pd.DataFrame(rows)


def detector_curve(defense: Defense, classes: int, points: int = 601) -> pd.DataFrame:
    """The output alpha of a defense's detector for y_max from 1/K to 1 (Fig. 2): columns x and y.

    The defense must have a detector.
    """
    x = torch.linspace(1 / classes, 1, points, dtype=torch.float64)
    return pd.DataFrame({"x": x.numpy(), "y": detector_at(defense, x)})


def detector_at(defense: Defense, y_max: Tensor) -> np.ndarray:
    """The output alpha of a defense's detector for top posteriors of any shape. The defense must have a detector."""
    alpha = defense.alpha(y_max)
    assert alpha is not None
    return alpha.numpy()


def noise_curve(defense: Defense, points: int = 601) -> pd.DataFrame:
    """The noise r of a defense for posteriors y from 0 to 1 (Eq. 6): columns x and y. The defense must have noise."""
    x = torch.linspace(0, 1, points, dtype=torch.float64)
    return pd.DataFrame({"x": x.numpy(), "y": noise_at(defense, x)})


def noise_at(defense: Defense, posteriors: Tensor) -> np.ndarray:
    """The noise r of a defense for posteriors (P,) of single classes. The defense must have noise."""
    noise = defense.noise(Answer(torch.stack([posteriors, 1 - posteriors], 1)))  # r depends only on y / (1 - y)
    assert noise is not None
    return noise[:, 0].numpy()


def examples(logits: Tensor, labels: Tensor, among: Tensor | None = None) -> dict[str, int]:
    """Indices of typical pictures of a test set, by description: confident correct answers, uncertain ones, mistakes.

    Args:
        logits: (N, K), clean.
        labels: integers (N,).
        among: (N,) bool, pictures to prefer; other pictures are used only if none of these fits the description.

    Returns:
        Index of one picture (0 to N - 1) for each description, such as "sure and wrong".
    """
    top2 = logits.softmax(-1).topk(2, dim=-1)
    y_max, margin = top2.values[:, 0], top2.values[:, 0] - top2.values[:, 1]
    right = top2.indices[:, 0] == labels

    def nearest(values: Tensor, target: float, wanted: Tensor) -> int:
        if among is not None and bool((wanted & among).any()):
            wanted = wanted & among
        return int(torch.where(wanted, (values - target).abs(), torch.inf).argmin())

    return {
        "sure and right": nearest(y_max, 0.995, right),
        "nearly sure": nearest(y_max, 0.85, right),
        "unsure between two": nearest(margin, 0.0, y_max > 0.4),
        "unsure": nearest(y_max, 0.0, torch.ones_like(right)),
        "sure and wrong": nearest(y_max, 1.0, ~right),
    }
