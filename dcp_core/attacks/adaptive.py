"""Treatments of the answers by a thief who suspects or knows the defense, before the clone is trained on them.

A recovery (`recovery.py`, `denoiser.py`) inverts a known defense. It starts from a prior, which is a set of plausible clean
posteriors. The nearer the prior is to the victim's posteriors, the better the recovery:

- wide: random posteriors that fit many victims, see `recovery.prior`.
- own: the answers of the thief's own clone to pictures of the pool, see `recovery.own_prior`. The clone is first trained
  with the wide prior.
- shadows: the answers of other networks that the thief trains on labelled pictures, see `shadows.py`.
- oracle: the victim's clean answers to other pictures of the pool. No thief has them, so the result is only a bound.
"""

import torch.nn.functional as F
from torch import Tensor

from dcp_core.attacks.base import BOUND
from dcp_core.attacks.denoiser import denoised
from dcp_core.attacks.oracle import AttackError
from dcp_core.attacks.recovery import Working, learned_inverse, partial_bayes
from dcp_core.defenses.base import Defense

AS_IS, TOP_1 = "as-is", "top-1"
RECOVERIES = {"bayes": partial_bayes, "inverse": learned_inverse, "ddae": denoised}
TREATMENTS = (AS_IS, TOP_1, *RECOVERIES)
WIDE, OWN, SHADOWS, ORACLE = PRIORS = ("wide", "own", "shadows", "oracle")


def thief_name(treatment: str, prior: str) -> str:
    """The value of the column `thief` in result rows for a thief who estimates the clean answers."""
    words = treatment if prior == WIDE else f"{treatment}, {prior} prior"
    return f"{BOUND if prior == ORACLE else ''}recovery ({words})"


def check_treatment(treatment: str, known: Defense | None) -> None:
    """Check that a treatment is possible.

    Raises:
        AttackError: if a recovery has no known defense, or the defense uses the picture.
    """
    if treatment not in RECOVERIES:
        return
    if known is None:
        raise AttackError(
            f"the treatment '{treatment}' needs a known defense: choose a defense, or another treatment"
        )
    if known.needs_inputs:
        raise AttackError(
            f"the treatment '{treatment}' cannot invert {known.title}, which depends on the picture: choose another one"
        )


def treat(
    answers: Tensor, treatment: str, known: Defense | None, seed: int, clean: Tensor | None = None
) -> Working:
    """Training targets (N, K) from answers (N, K). The result depends only on the arguments.

    Args:
        treatment: one of `TREATMENTS`.
        known: the defense, for recovery.
        seed: seed of the recovery's random numbers.
        clean: posteriors (n, K) of the prior, for recovery. Default: the wide prior.

    Raises:
        AttackError: as `check_treatment`.
    """
    check_treatment(treatment, known)
    if treatment == TOP_1:
        return F.one_hot(answers.argmax(1), answers.shape[1]).to(answers.dtype)
    if known is None or treatment == AS_IS:
        return answers
    return (yield from RECOVERIES[treatment](answers, known, seed, clean))
