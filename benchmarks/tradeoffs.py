"""Time of a trade-off curve, compared with a plain loop over the strengths: `python -m benchmarks.tradeoffs`.

Both compute the same numbers in turns on one core, so that their ratio does not depend on other load of the machine.
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from dcp_core.defenses import DEFENSES, Defense
from dcp_core.evaluation import metrics
from dcp_core.evaluation.curves import QUANTILES, tradeoff_curve

ROUNDS = 9
TARGET_MS = {10: 100, 100: 600}


def naive_curve(defense: Defense, logits: Tensor, labels: Tensor) -> list[list[float]]:
    """The same numbers as `tradeoff_curve`, computed for one strength after the other on the whole test set."""
    rows = []
    clean = logits.softmax(-1)
    for value in defense.grid:
        answers = type(defense)(**{str(defense.strength): value})(logits=logits)
        l1 = (answers - clean).abs().sum(-1)
        confidence, top = answers.max(-1)
        right = top == labels
        rows.append(
            [
                float(metrics.error(answers, labels)),
                float(l1.mean()),
                float(metrics.standard_error(l1)),
                float(metrics.percent(l1 > metrics.TOUCHED)),
                float(100 - metrics.fidelity(answers, clean)),
                float(torch.special.entr(answers).sum(-1).mean()),
                float(metrics.expected_calibration_error(confidence, right)),
                *np.percentile(l1.numpy(), QUANTILES),
            ]
        )
    return rows


def milliseconds(work: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000


def main() -> None:
    """Print the times of both for each defense and number of classes."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    print(f"torch {torch.__version__}, one core; best (median) of {ROUNDS} rounds, in ms")
    for classes, target in TARGET_MS.items():
        logits = torch.randn(10_000, classes, generator=generator) * 4
        labels = logits.argmax(-1)
        for name in ("dcp", "rs", "random"):
            defense = DEFENSES[name]()
            ours, naive = [], []
            for _ in range(ROUNDS):
                ours.append(milliseconds(lambda d=defense, z=logits, t=labels: tradeoff_curve(d, z, t)))
                naive.append(milliseconds(lambda d=defense, z=logits, t=labels: naive_curve(d, z, t)))
            print(
                f"10,000 x {classes:3d}, {len(defense.grid):2d} strengths, {name:6s}: "
                f"curve {min(ours):4.0f} ({np.median(ours):4.0f}), naive loop {min(naive):4.0f}, "
                f"ratio {min(naive) / min(ours):.1f}; target {target}"
            )


if __name__ == "__main__":
    main()
