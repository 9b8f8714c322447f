"""The sentences of a report. They are plain text for readers who have never seen this project."""

import math

from dcp_core.attacks.base import AS_IS
from dcp_core.audit.findings import BARE, CLOSE, SEEDS, Effect, Estimate, Findings, Price, estimate
from dcp_core.results.constraints import limits
from dcp_core.results.decision import kept
from dcp_core.results.pairing import Interval
from dcp_core.results.verdict import FAILED, OWNED

THIEVES = {
    AS_IS: "trains on the probabilities as they are",
    "top-1": "keeps only the top class of each answer",
    "average": "sends each picture several times and averages the answers",
    "recovery (bayes)": "knows the defense and computes the clean answers back (partial Bayes)",
    "recovery (inverse)": "knows the defense and computes the clean answers back (learned inverse)",
}
"""What a thief does with the answers: values of the column `thief` in words."""
NAMES = {
    AS_IS: "uses probabilities",
    "top-1": "uses labels only",
    "recovery (bayes)": "knows the defense (Bayes)",
    "recovery (inverse)": "knows the defense (inverse)",
}
NOTHING = "Nothing is measured yet: the time was too short for the first run. The same command continues."


def few_seeds(seeds: int) -> str:
    """A warning if there are too few seeds for a conclusion; else empty."""
    if seeds >= SEEDS:
        return ""
    return f"{'One seed' if seeds == 1 else f'{seeds} seeds'}: an indication, not evidence."


def percent(error: Estimate) -> str:
    """An error with its interval: "9.1 % (95 % interval over 3 seeds: 8.7 to 9.5)"."""
    if error.low is None or error.high is None:
        return f"{error.mean:.1f} % (one seed)"
    return f"{error.mean:.1f} % (95 % interval over {error.seeds} seeds: {error.low:.1f} to {error.high:.1f})"


def short(error: Estimate) -> str:
    """An error with its interval, for tables: "9.1 (8.7 to 9.5)"."""
    return f"{error.mean:.1f}" + (f" ({error.low:.1f} to {error.high:.1f})" if error.low is not None else "")


def rise(change: Interval) -> str:
    """A change with its interval: "+1.8 points (95 % interval over 3 seeds: +0.2 to +3.4)"."""
    if math.isnan(change.low):
        return f"{change.mean:+.1f} points (one seed)"
    return f"{change.mean:+.1f} points (95 % interval over {change.pairs} seeds: {change.low:+.1f} to {change.high:+.1f})"


def headline(found: Findings) -> str:
    """The answer in one line."""
    if found.bare is None:
        return "Not measured yet"
    share, queries = kept(found.bare), f"With {int(found.bare['budget']):,} queries"
    if share >= OWNED:
        return "This model can be stolen almost completely"
    return f"{queries}, this model {'can be stolen in part' if share > FAILED else 'could not be stolen'}"


def verdict(found: Findings) -> list[str]:
    """The verdict as the sentences of one paragraph."""
    bare = found.bare
    if bare is None:
        return [NOTHING]
    lines = [
        f"Without a defense, a clone trained on {int(bare['budget']):,} answers errs on {percent(estimate(bare))} of the "
        f"test pictures, the model itself on {found.victim_error.mean:.1f} %.",
        *([_cheapest(found)] if found.prices else []),
        *_advice(found),
    ]
    if warning := few_seeds(found.seeds):
        lines.append(f"{warning} Run the same command with more time.")
    return lines


def queries(price: Price) -> str:
    """The number of queries for a close clone, with its interval; says where it was not reached."""
    missed = f"not reached within {price.largest:,} queries"
    if price.reached is not None:
        return (
            _queries_from_curve(price) or f"at most {price.reached:,} queries, the smallest budget that was enough"
        )
    return f"{missed}; extrapolated: {guess}" if (guess := _queries_from_curve(price)) else missed


def _queries_from_curve(price: Price) -> str:
    """The number of queries where the curve reaches a close clone, with its interval; empty without a curve that does."""
    most = f"more than {4 * price.largest:,}"
    if price.queries is None and price.low is None:
        return ""
    middle = f"about {_round(price.queries):,}" if price.queries is not None else most
    if price.seeds < 2:
        return f"{middle} queries (one seed: an indication, not evidence)"
    low = f"{_round(price.low):,}" if price.low is not None else most
    high = f"{_round(price.high):,}" if price.high is not None else most
    return f"{middle} queries (95 % interval: {low} to {high})"


def money(price: Price, per_1000: float | None) -> str:
    """The price of these queries as a text; empty if the price of 1,000 queries is unknown."""
    if per_1000 is None:
        return ""
    cost = {name: None if value is None else _round(value) * per_1000 / 1000
            for name, value in (("mid", price.queries), ("low", price.low), ("high", price.high))}  # fmt: skip
    if cost["mid"] is None:
        if price.reached is None:
            return f"more than {price.largest * per_1000 / 1000:,.2f}"
        return f"at most {price.reached * per_1000 / 1000:,.2f}"
    if price.seeds < 2:
        return f"{cost['mid']:,.2f}"
    most = f"more than {4 * price.largest * per_1000 / 1000:,.2f}"
    low, high = (most if cost[end] is None else f"{cost[end]:,.2f}" for end in ("low", "high"))
    return f"{cost['mid']:,.2f} ({low} to {high})"


def cheapest(found: Findings) -> Price:
    """The price of a close clone without a defense, for the thief who needs fewest queries. Needs a measured run."""
    bare = [price for price in found.prices if price.name in BARE] or found.prices[:1]
    return min(bare, key=lambda price: (price.reached is None, price.queries or price.reached or math.inf))


def limits_words(found: Findings) -> str:
    """The owner's limits in words."""
    needs = found.request.needs
    return limits([needs.increase], needs.l1, needs.l1_of)


def customers(effect: Effect) -> str:
    """The price of a defense for customers, as one sentence."""
    return (
        f"your own error changes by {effect.increase:+.2f} points, {effect.changed:.2f} % of the answers to customers get "
        f"another top class (at most {effect.changed_high:.2f} %, 95 % confidence), and the probabilities move by a mean l1 "
        f"distance of {effect.l1:.2f}"
    )


def missing_thieves(effect: Effect) -> str:
    """Which of the three kinds of thieves were not measured behind a defense; empty if all were."""
    kinds = {AS_IS: "uses the probabilities", "top-1": "uses labels only", "recovery": "knows the defense"}
    absent = [words for kind, words in kinds.items() if not any(name.startswith(kind) for name in effect.thieves)]
    return f"not measured: the thief who {', or who '.join(absent)}" if absent else ""


def _cheapest(found: Findings) -> str:
    price = cheapest(found)
    cost = money(price, found.request.price)
    close = f"within {CLOSE:g} points of the model's error (at most {found.target:.1f} %)"
    if price.reached is not None:
        text, costs = f"A clone {close} takes {queries(price)}", ", which cost"
    else:
        text = f"No clone came {close} with {price.largest:,} queries or fewer"
        text += f"; extrapolated, it takes {guess}" if (guess := _queries_from_curve(price)) else ""
        costs = "; such a clone costs"
    return f"{text}{f'{costs} {cost} at a price of {found.request.price:g} for 1,000 queries' if cost else ''}."


def _advice(found: Findings) -> list[str]:
    """Sentences on what to deploy, and which thieves that will not stop."""
    if found.verdict is None:
        return ["No defense has been measured yet, so this report recommends none."]
    best = found.effects[0]
    absent = missing_thieves(best)
    strongest = f"the best thief behind it {THIEVES.get(best.best, best.best)}{f' ({absent})' if absent else ''}"
    moved = f"{best.label} changes the error of the best thief by {rise(best.rise)}"
    if found.verdict.answer == "yes":
        return [found.verdict.headline.removeprefix("Yes: ").capitalize(), *found.verdict.not_stopped[:1]]
    if found.verdict.answer == "no":
        return [
            "Deploy none of the measured defenses: none slows the best thief enough.",
            f"The largest effect: {moved}; {strongest}.",
        ]
    return [
        "Whether a defense helps cannot be told from these runs.",
        f"So far, {moved}; {strongest}.",
    ]


def _round(value: float) -> int:
    """A number of queries with two digits, because intervals are wider than that."""
    digits = max(0, len(str(int(value))) - 2)
    return int(round(value, -digits))
