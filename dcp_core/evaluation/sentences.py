"""What a defense did, in one or two sentences that are computed from the numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from dcp_core.defenses.base import Defense
from dcp_core.evaluation.metrics import TOUCHED

ROUNDED = 0.005  # percentage points; smaller differences vanish in two digits
NEAR = 0.01  # a probability this close to a threshold is written with two digits more


def about_answer(defense: Defense, clean: np.ndarray, defended: np.ndarray, classes: Sequence[str]) -> str:
    """One or two sentences: how a defense changed one answer, and what a thief or customer notices of it.

    Args:
        clean, defended: posteriors (K,) of one picture.
        classes: names of the K classes.
    """
    moved = float(np.abs(defended - clean).sum())
    before, after = int(clean.argmax()), int(defended.argmax())
    if moved <= TOUCHED:
        return _why_untouched(defense, float(clean[before]))
    start = f"{defense.short} moved this answer by {moved:.2f} of at most 2"
    if before != after:
        return (
            f"{start} and changed its top class from {classes[before]} to {classes[after]}. "
            "Customers get that class too."
        )
    change = (
        f"{start}: {classes[after]} now gets {_percent(defended[after])} instead of {_percent(clean[before])}."
    )
    return f"{change} The top class is kept, so a thief who uses only the top class learns as much as before."


def about_tradeoff(
    defense: Defense, point: Mapping[Any, Any], undefended: float, clone: Sequence[float] = ()
) -> str:
    """One or two sentences: the owner's cost of a defense over a test set, and its effect on the best thief.

    Args:
        point: the row of `curves.tradeoff_curve` at one strength.
        undefended: the owner's error without a defense, percent.
        clone: errors in percent of two measured clones: the undefended one, and the best one behind the defense at this
            strength. Empty if none was measured at this strength.
    """
    symbol = "" if defense.strength is None else defense.parameters()[defense.strength].symbol
    at = f"At {symbol} = {point['strength']:g}, {defense.short}" if symbol else defense.short
    owner = f"{at} moves answers by {point['l1']:.2f} on average"
    rise = point["defender_error"] - undefended
    cost = f"your error goes from {undefended:.2f} to {point['defender_error']:.2f} %"
    if abs(rise) < ROUNDED:
        cost = f"your error stays at {undefended:.2f} %"
    if not clone:
        return f"{owner}, and {cost}. No thief was measured at exactly this setting."
    bare, behind = clone
    effect = f"The best thief measured against it errs on {behind:.1f} % of the pictures instead of {bare:.1f} %"
    if behind - bare < 1:
        return f"{owner}, and {cost}. {effect}: hardly any effect."
    return f"{owner}, and {cost}. {effect}."


def _why_untouched(defense: Defense, y_max: float) -> str:
    """Why a defense did not change an answer, and which picture to try to see a change."""
    if defense.name == "none":
        return "There is no defense: a thief gets the victim's own answer."
    alpha, limit = defense.alpha(torch.tensor([y_max])), defense.threshold
    if alpha is None or not limit or float(alpha) > 0.5:
        symbol = "" if defense.strength is None else defense.parameters()[defense.strength].symbol
        at = f" at {symbol} = {getattr(defense, defense.strength):g}" if defense.strength else ""
        return f"{defense.short} left this answer as it was{at}. Try another value, or another picture."
    side, other = ("above", "unsure") if y_max > limit else ("below", "sure and right")
    return (
        f"{defense.short} left this answer alone: the victim is {_percent(y_max, limit)} sure, "
        f"{side} τ = {limit:g}. Try “{other}”."
    )


def _percent(share: float, limit: float = 2.0) -> str:
    """A probability in percent, with two digits after the point if it would otherwise look equal to `limit`."""
    return f"{100 * share:.{2 if abs(share - limit) < NEAR else 0}f} %"
