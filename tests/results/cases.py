"""Measured points as `rows.thief_points` gives them, for tests of decisions."""

import json
from collections.abc import Sequence

import pandas as pd

from dcp_core.results.schema import COLUMNS

COMMON = dict.fromkeys(COLUMNS) | {
    "source": "measured",
    "dataset": "cifar10",
    "victim": "v",
    "unreliable": False,
    "thief": "as is",
    "victim_error": 10.0,
    "defender_error": 10.0,
    "l1": 0.5,
    "l1_queries": 0.5,
    "budget": 5000,
}
UNDEFENDED = (38.0, 40.0, 42.0)  # errors of seeds 0, 1 and 2; the clone keeps 50 / 80 of the model


def point(
    defense: str, errors: Sequence[float] = UNDEFENDED, strength: float | None = None, **more: object
) -> dict:
    """A point whose runs of seeds 0, 1, ... have these thief errors."""
    seeds = pd.Series(list(errors), dtype=float)
    parameters = {"dcp": "beta", "rs": "beta", "mad": "epsilon", "am": "tau"}.get(defense)
    known = {parameters: strength} if parameters and strength is not None else {}
    return (
        COMMON
        | {"defense": defense, "strength": strength, "parameters": json.dumps(known), "runs": len(seeds)}
        | {"adversary_error": seeds.mean(), "adversary_error_std": seeds.std()}
        | {"by_seed": json.dumps(dict(enumerate(map(float, errors))))}
        | more
    )


def adds(gain: float, scatter: float = 0.1) -> list[float]:
    """Errors that differ from the undefended ones of the same seed by gain - scatter, gain and gain + scatter."""
    return [error + gain + off for error, off in zip(UNDEFENDED, (-scatter, 0.0, scatter), strict=True)]


def points(*rows: dict) -> pd.DataFrame:
    """A case of these points."""
    return pd.DataFrame(rows)


NONE = point("none", l1=0.0, l1_queries=0.0)
