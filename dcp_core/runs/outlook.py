"""What earlier measured runs say about an attack before it is launched: the clone's error at each query budget."""

from dataclasses import dataclass

import pandas as pd

from dcp_core.attacks import ATTACKS
from dcp_core.attacks.base import AS_IS
from dcp_core.results.decision import kept
from dcp_core.results.sentences import percent
from dcp_core.results.verdict import FAILED
from dcp_core.runs.spec import RunSpec

USUAL_BUDGET = 4000  # for an attack that was not measured
MOST_POINTS = 4  # largest number of budgets in the sentence


@dataclass(frozen=True)
class Outlook:
    """What to expect of a query budget: a sentence on measured runs (empty if there are none), and whether runs with at
    least this budget have failed."""

    words: str = ""
    hopeless: bool = False


def measured(points: pd.DataFrame, attack: str, pool: str | None = None) -> pd.DataFrame:
    """The best undefended clones of an attack, by victim and query budget.

    Args:
        points: points of `rows.thief_points`.
        pool: keep only runs with this query pool.

    Returns:
        Rows of `points`, one for each victim and budget, by rising budget.
    """
    found = points[(points["attack"] == attack) & (points["defense"] == "none") & (points["source"] == "measured")]
    found = found[(found["thief"] == AS_IS) & found["budget"].notna()]
    if pool is not None:
        found = found[found["queries_from"] == pool]
    best = found.sort_values("adversary_error").drop_duplicates(["victim", "budget"])
    return best.sort_values("budget")


def outlook(points: pd.DataFrame, spec: RunSpec) -> Outlook:
    """The outlook for a run: the clones that measured runs of the same attack gave at similar budgets.

    Runs on the same victim are used, or else on another one. A budget is hopeless if a run on the same victim with at least
    this budget gave a clone that keeps at most `verdict.FAILED` of the model.

    Args:
        points: points of `rows.thief_points`.
    """
    known = measured(points, spec.attack, spec.pool)
    here = known[known["victim"] == spec.victim]
    if here.empty and len(known):
        known = known[known["victim"] == known["victim"].iloc[0]]
        return Outlook(f"Not measured on this victim. On {known['victim'].iloc[0]}, {_results(known)}.")
    if here.empty:
        return Outlook()
    words = f"Measured on this victim, undefended: {_results(here)}."
    failed = here[(here["budget"] >= spec.budget) & here.apply(lambda row: kept(row) <= FAILED, axis=1)]
    if failed.empty:
        return Outlook(words)
    most = failed.iloc[-1]
    even = "" if most["budget"] == spec.budget else f"even {most['budget']:,} queries gave "
    title = ATTACKS[spec.attack].short
    return Outlook(
        f"Too few queries for {title}: {even or 'they gave '}a clone that misses {most['adversary_error']:.0f} of 100 "
        f"test pictures and keeps {percent(kept(most))} of the model. {words}",
        hopeless=True,
    )


def usual_budget(points: pd.DataFrame, attack: str) -> int:
    """A first budget for the form. `USUAL_BUDGET` for attacks with a pool.

    For the others, the smallest measured one whose clone keeps more than `verdict.FAILED` of the model, of this attack or,
    if it was not measured, of all of them. If all these clones failed, the largest measured one.
    """
    free = [name for name, kind in ATTACKS.items() if not kind.needs_pool]
    if attack not in free:
        return USUAL_BUDGET
    known = measured(points, attack)
    if known.empty:
        known = pd.concat([measured(points, name) for name in free])
    worked = known[[kept(row) > FAILED for _, row in known.iterrows()]]
    return int(worked["budget"].min() if len(worked) else known["budget"].max() if len(known) else USUAL_BUDGET)


def _results(known: pd.DataFrame) -> str:
    """The clones' errors by budget, in words; of many budgets, the lowest and the largest ones."""
    shown = known if len(known) <= MOST_POINTS else pd.concat([known[:1], known[-MOST_POINTS + 1 :]])
    return ", ".join(
        f"{row.budget:,} queries → clone error {row.adversary_error:.0f} %" for row in shown.itertuples()
    )
