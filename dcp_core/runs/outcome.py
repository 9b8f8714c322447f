"""One sentence on how good the clones of some runs are, computed from their scores."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from dcp_core.results.decision import share_kept
from dcp_core.results.sentences import percent
from dcp_core.runs import store
from dcp_core.runs.describe import card_of, defense_facts, facts_of
from dcp_core.runs.spec import RunSpec
from dcp_core.runs.store import RunView

UNSCORED = "No clone has been scored yet."


@dataclass(frozen=True)
class Score:
    """The last score of a clone: its error on test pictures and its fidelity (percent), and whether its run is done."""

    error: float
    fidelity: float
    final: bool


def score_of(view: RunView[RunSpec]) -> Score | None:
    """The last score of a run's clone; None before the first."""
    if view.result is not None:
        row = view.result["rows"][0]
        return Score(row["adversary_error"], row["fidelity"], True)
    if view.spec is None or not view.fraction:
        return None
    scored = store.events(view.folder).dropna(subset=["error"])
    return None if scored.empty else Score(scored["error"].iloc[-1], scored["fidelity"].iloc[-1], False)


def guessing_error(classes: int) -> float:
    """Error in percent of guessing one of `classes` classes."""
    return 100 - 100 / classes


def sentence_of(views: Sequence[RunView[RunSpec]]) -> str:
    """How good the clones of these runs are, as a sentence; `UNSCORED` if no clone has been scored.

    If an undefended run and defended ones differ by the defense alone, they are compared. Otherwise it is the best clone.
    """
    scored = {view.key: (view, score) for view in views if view.spec is not None and (score := score_of(view))}
    if not scored:
        return UNSCORED
    for bare, _ in scored.values():
        twins = [view for view, _ in scored.values() if view.key != bare.key and _undefended(view) == bare.key]
        if twins:
            return _compared([scored[view.key] for view in (bare, *twins)])
    best, score = min(scored.values(), key=lambda each: each[1].error)
    several = "The best of these clones" if len(scored) > 1 else "The clone"
    said = f"{several} ({facts_of(best)}) {_misses(score)} of 100 test pictures."
    return " ".join(filter(None, [said, _scale(best), _kept_alone(best, score)]))


def _undefended(view: RunView[RunSpec]) -> str:
    """The key of the run with the same parameters, but without a defense."""
    assert view.spec is not None
    return dataclasses.replace(view.spec, defense="none", defense_parameters={}).key


def _compared(found: list[tuple[RunView[RunSpec], Score]]) -> str:
    """A sentence that compares an undefended clone (the first) with defended ones of otherwise equal runs."""
    (bare, open_score), *twins = found
    said = [f"{defense_facts(view.spec.make_defense())} it {_misses(score)}" for view, score in twins if view.spec]
    first = f"Undefended, the clone {_misses(open_score)} of 100 test pictures"
    shares = [percent(share) for view, score in found if (share := _kept(view, score)) is not None]
    kept = ""
    if len(shares) == len(found):
        kept = (
            f"The thief keeps {shares[0]} of the model undefended, {' and '.join(shares[1:])} behind the defense."
        )
    return " ".join(filter(None, [f"{first}; behind {', behind '.join(said)}.", _scale(bare), kept]))


def _misses(score: Score) -> str:
    return f"{'misses' if score.final else 'so far misses'} {score.error:.0f}"


def _scale(view: RunView[RunSpec]) -> str:
    """The errors of the victim and of guessing, as a sentence; empty for a victim that is not on this machine."""
    card = card_of(view.spec.victim) if view.spec else None
    if card is None or card.test_accuracy is None:
        return ""
    return f"The victim itself misses {100 - card.test_accuracy:.0f}, guessing {guessing_error(len(card.classes)):.0f}."


def _kept(view: RunView[RunSpec], score: Score) -> float | None:
    card = card_of(view.spec.victim) if view.spec else None
    if card is None or card.test_accuracy is None:
        return None
    return share_kept(score.error, 100 - card.test_accuracy, 100 / len(card.classes))


def _kept_alone(view: RunView[RunSpec], score: Score) -> str:
    share = _kept(view, score)
    return "" if share is None else f"The thief keeps {percent(share)} of the model."
