"""The numbers of an audit, from the results of its runs. `report.py` writes them as JSON and HTML.

All errors are percentages. An interval has 95 % confidence and comes from the seeds; it is missing where there is only one.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from dcp_core.attacks.base import AS_IS
from dcp_core.audit.fitting import Fit
from dcp_core.audit.power_law import FEWEST, CurveError, PowerLaw, fit
from dcp_core.audit.request import Request
from dcp_core.audit.rows import finished, table
from dcp_core.audit.session import Plan
from dcp_core.data.datasets import pictures
from dcp_core.evaluation.metrics import wilson
from dcp_core.models import zoo
from dcp_core.models.pretrained import FROZEN
from dcp_core.results.decision import TOP_1, behind, kept, least_error, measured_cases, trusted, undefended
from dcp_core.results.pairing import CONFIDENCE, Interval, difference
from dcp_core.results.rows import seeds_of, thief_points
from dcp_core.results.schema import COLUMNS
from dcp_core.results.verdict import Verdict, decide, name_of
from dcp_core.runs import store
from dcp_core.runs.folder import STATUS, folder_of
from dcp_core.runs.spec import RunSpec

SCHEMA = 1
CLOSE = 5.0  # percentage points: a clone whose error is at most this much above the victim's is close
BARE = ("no defense", "labels only")  # names of the series of the two thieves without a defense
SEEDS = 3  # fewer are an indication, no evidence


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and its 95 % interval (Student's t); the ends are None with one seed."""

    mean: float
    low: float | None
    high: float | None
    seeds: int


@dataclass(frozen=True)
class Series:
    """A thief's errors over the number of queries.

    Args:
        points: the estimate of the error at each budget.
        best: name of the best thief at each budget, which may change; a value of the column `thief`.
        curve: the power law, None with fewer than three budgets.
        why_no_curve: the reason; empty if there is one.
    """

    name: str
    points: dict[int, Estimate]
    best: dict[int, str]
    curve: PowerLaw | None
    why_no_curve: str = ""


@dataclass(frozen=True)
class Price:
    """The number of queries for a clone within `CLOSE` points of the victim.

    Args:
        reached: the smallest measured budget with a mean error that low; None if there is none.
        largest: the largest measured budget.
        queries: the estimate from the curve; None without a curve, or if it is beyond what may be extrapolated.
        low, high: its 95 % interval; None where unknown or beyond.
    """

    name: str
    reached: int | None
    largest: int
    queries: float | None
    low: float | None
    high: float | None
    seeds: int


@dataclass(frozen=True)
class Effect:
    """A defense against the best measured thief, and its price for customers.

    Args:
        error: error of the best thief behind the defense.
        rise: how much the defense raises the best thief's error, paired by seed, percentage points.
        thieves: the error of every thief that was measured behind the defense, by values of the column `thief`.
        best: the best of these thieves.
        kept: share of the model that the best thief keeps, 0 to 1, see `results.decision.kept`.
        increase: rise of the owner's error, percentage points.
        l1, l1_queries: mean l1 distance (0 to 2) on the test answers, and on the thief's queries.
        changed, changed_high: answers to customers with another top class, percent, and the upper end of the interval.
    """

    defense: str
    label: str
    parameters: dict[str, Any]
    error: Estimate
    rise: Interval
    best: str
    thieves: dict[str, Estimate]
    kept: float
    increase: float
    l1: float
    l1_queries: float
    changed: float
    changed_high: float


@dataclass(frozen=True)
class Findings:
    """All numbers of an audit.

    Args:
        victim_error: with Wilson's interval for the number of test pictures.
        series: learning curves, that of the undefended thief who uses the posteriors first; empty without a run.
        verdict: None if no defense was measured.
        case: the points (`rows.thief_points`) on which the comparison of defenses rests; `points` are all.
        rows: the result rows of all runs that are done.
        unfinished: command of each run that was begun and is not done, and its state.
        left_out: defenses that do not fit the limits, and why.
        asked: number of queries of all runs together.
        answered: different pictures among them; the victim answered each once.
        sent: requests to a victim that is a service, counted before each was sent, also those of the check and those that
            failed; None for other victims.
        target: the error of a clone that is `CLOSE` points worse than the victim.
    """

    request: Request
    card: zoo.Card
    victim_error: Estimate
    series: list[Series]
    prices: list[Price]
    effects: list[Effect]
    verdict: Verdict | None
    case: pd.DataFrame
    points: pd.DataFrame
    rows: list[dict[str, Any]]
    unfinished: list[tuple[str, str]]
    left_out: dict[str, str]
    asked: int
    answered: int
    sent: int | None
    target: float

    @property
    def seeds(self) -> int:
        """Seeds with which the defenses were compared, or of the undefended thief if no defense was measured."""
        if self.effects:
            return max(effect.rise.pairs for effect in self.effects)
        return 0 if self.case.empty else int(self.case["runs"].max())

    @property
    def bare(self) -> pd.Series | None:
        """The best thief of the undefended victim in the compared case; None without a run."""
        points = self.case[self.case["defense"] == "none"] if len(self.case) else self.case
        return None if points.empty else least_error(points)


def findings(request: Request, plan: Plan) -> Findings:
    """The numbers of an audit from the runs of its plan that are done."""
    rows = finished(plan.runs)
    card = request.card
    victim_error = _victim_error(request.victim)
    points = thief_points(table(rows)) if rows else pd.DataFrame(columns=[*COLUMNS, "runs", "by_seed"])
    own = points[(points["queries_from"] == request.pool) & (points["clone"] != FROZEN)]
    case = _strongest_case(own)
    target = victim_error.mean + CLOSE
    effects = _effects(plan.fits, case)
    series = _series(request, points, own, effects)
    return Findings(
        request,
        card,
        victim_error,
        series,
        [_price(each, target) for each in series],
        effects,
        decide(case, request.needs) if effects else None,
        case,
        points,
        list(rows.values()),
        _unfinished(plan.runs, rows),
        {fit.name: fit.why_not for fit in plan.fits if fit.why_not},
        sum(int(row["budget"]) for row in rows.values()),
        _distinct(plan.runs, rows),
        _requests_sent(card),
        target,
    )


def estimate(point: pd.Series) -> Estimate:
    """The mean error of a point of `thief_points`, with Student's 95 % interval over its seeds."""
    errors = seeds_of(point)["adversary_error"].to_numpy(float)
    return _student(errors if len(errors) else np.array([float(point["adversary_error"])]))


def _student(errors: np.ndarray) -> Estimate:
    mean, count = float(errors.mean()), len(errors)
    if count < 2:
        return Estimate(mean, None, None, count)
    half = float(student.ppf((1 + CONFIDENCE) / 2, count - 1)) * float(errors.std(ddof=1)) / count**0.5
    return Estimate(mean, max(0.0, mean - half), min(100.0, mean + half), count)


def _unfinished(runs: list[RunSpec], done: Collection[str]) -> list[tuple[str, str]]:
    """The command of each run that a worker has begun but that is not done, and its state."""
    begun = [spec for spec in runs if spec.key not in done and (folder_of(spec) / STATUS).exists()]
    views = [(spec.command, store.view(folder_of(spec))) for spec in begun]
    return [(command, f"{view.state}: {view.message}" if view.message else view.state) for command, view in views]


def _victim_error(victim: str) -> Estimate:
    """The victim's error on its test set, with Wilson's 95 % interval for the number of pictures."""
    logits, labels = zoo.test_answers(victim)
    wrong = 100 * float((logits.argmax(1) != labels).double().mean())
    low, high = wilson(wrong, len(labels))
    return Estimate(wrong, float(low), float(high), 1)


def _requests_sent(card: zoo.Card) -> int | None:
    if card.source != zoo.SERVICE:
        return None
    from dcp_core.models.remote import ledger_of  # imports the HTTP client, which few audits need

    return ledger_of(zoo.service(card.name)).requests


def _strongest_case(points: pd.DataFrame) -> pd.DataFrame:
    """The case on which the comparison of defenses is based.

    It has the most common seeds with the undefended thief (more than three count as three), then the most defenses with so
    many seeds, then the most queries.
    """
    if points.empty:
        return points
    known = list(measured_cases(points).values()) or [
        case for _, case in points.groupby("budget") if len(undefended(case))
    ]

    def rank(case: pd.DataFrame) -> tuple[int, int, int]:
        bare = undefended(case).iloc[0]
        defended = case[(case["defense"] != "none") & (case["thief"] == AS_IS)]
        pairs = [min(SEEDS, difference(point, bare).pairs) for _, point in defended.iterrows()] or [0]
        return max(pairs), pairs.count(max(pairs)), int(case["budget"].iloc[0])

    return trusted(max(known, key=rank)) if known else points[:0]


def _effects(fits: list[Fit], case: pd.DataFrame) -> list[Effect]:
    """The effect of each defense in the case on the best thief."""
    if case.empty or undefended(case).empty:
        return []
    bare = least_error(case[case["defense"] == "none"])
    found = []
    for _, chosen in case[case["defense"] != "none"].drop_duplicates(["defense", "parameters"]).iterrows():
        there = behind(case, chosen)
        best = least_error(there)
        fit = next((each for each in fits if each.name == chosen["defense"]), Fit(chosen["defense"], None))
        found.append(
            Effect(
                str(chosen["defense"]),
                name_of(chosen),
                json.loads(chosen["parameters"]),
                estimate(best),
                difference(best, bare),
                str(best["thief"]),
                {str(point["thief"]): estimate(point) for _, point in there.iterrows()},
                kept(best),
                float(best["defender_error"] - best["victim_error"]),
                float(best["l1"]),
                float(best["l1_queries"]),
                fit.changed,
                fit.changed_high,
            )
        )
    return sorted(found, key=lambda effect: -effect.rise.mean)


def _series(request: Request, points: pd.DataFrame, own: pd.DataFrame, effects: list[Effect]) -> list[Series]:
    """The learning curves that were measured."""
    bare = own[own["defense"] == "none"]
    other = points[(points["queries_from"] == request.other) & (points["clone"] != FROZEN)]
    pretrained = points[points["clone"] == FROZEN]
    found = [
        _one(BARE[0], bare[bare["thief"] == AS_IS]),
        _one(BARE[1], bare[bare["thief"] == TOP_1]),
        *(_one(effect.label, _all_thieves(own[own["defense"] == effect.defense])) for effect in effects),
        _one("no defense, other pictures", other[(other["thief"] == AS_IS) & (other["defense"] == "none")]),
        _one("no defense, pretrained clone", pretrained[pretrained["thief"] == AS_IS]),
    ]
    return [each for each in found if each is not None]


def _all_thieves(points: pd.DataFrame) -> pd.DataFrame:
    """The points at budgets where more than one kind of thief was measured."""
    known = points.groupby("budget")["thief"].nunique()
    return points[points["budget"].isin(known[known > 1].index)]


def _one(name: str, points: pd.DataFrame) -> Series | None:
    """The best thief of these points at each budget; None without a point."""
    if points.empty:
        return None
    best = {int(budget): least_error(same) for budget, same in points.groupby("budget")}
    errors = pd.DataFrame(
        {budget: seeds_of(point).set_index("seed")["adversary_error"] for budget, point in best.items()}
    )
    errors = errors.sort_index(axis=1)
    curve, why = None, ""
    try:
        curve = _curve(errors)
    except CurveError as error:
        why = str(error)
    estimates = {budget: estimate(best[budget]) for budget in errors.columns}
    return Series(name, estimates, {budget: str(point["thief"]) for budget, point in best.items()}, curve, why)


def _curve(errors: pd.DataFrame) -> PowerLaw:
    """The power law through errors with a row for each seed and a column for each budget, NaN where not measured.

    It uses the budgets that at least two seeds have, if these are enough; else the means, without an interval.
    """
    several = errors.loc[:, errors.notna().sum() > 1]
    whole = several.dropna()
    if several.shape[1] >= FEWEST and len(whole) > 1:
        return fit(whole.columns.to_numpy(float), whole.to_numpy(float))
    return fit(errors.columns.to_numpy(float), errors.mean().to_numpy(float)[None])


def _price(series: Series, target: float) -> Price:
    """The number of queries for a clone with at most the error `target`, in percent."""
    reached = [budget for budget, error in series.points.items() if error.mean <= target]
    largest, seeds = max(series.points), min(error.seeds for error in series.points.values())
    if series.curve is None:
        return Price(series.name, min(reached, default=None), largest, None, None, None, seeds)
    last = series.curve.last
    queries, low, high = (value if value <= last else None for value in series.curve.queries_for(target))
    return Price(series.name, min(reached, default=None), largest, queries, low, high, seeds)


def _distinct(runs: list[RunSpec], done: Collection[str]) -> int:
    """Number of different pictures that the finished runs sent, in all pools together."""
    asked: dict[str, set[int]] = {}
    sizes = {
        pool: pictures(pool, "train", zoo.card(runs[0].victim).size)
        for pool in {spec.pool for spec in runs if spec.key in done}
        if pool is not None
    }
    for spec in runs:
        if spec.key in done and spec.pool is not None:
            indices = spec.make_attack().will_ask(sizes[spec.pool], spec.budget, spec.seed)
            asked.setdefault(spec.pool, set()).update([] if indices is None else indices.tolist())
    return sum(map(len, asked.values()))
