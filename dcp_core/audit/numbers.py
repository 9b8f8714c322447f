"""The numbers of an audit as JSON, the same as in the HTML report."""

import math
from typing import Any

from dcp_core.audit import words
from dcp_core.audit.findings import CLOSE, SCHEMA, SEEDS, Findings
from dcp_core.provenance import today


def as_json(found: Findings) -> dict[str, Any]:
    """All numbers of an audit. `schema` is raised if an entry changes its meaning. Unknown numbers are null."""
    verdict, needs = found.verdict, found.request.needs
    return _finite(
        {
            "schema": SCHEMA,
            "date": today(),
            "command": found.request.command,
            "victim": {
                "name": found.card.name,
                "title": found.card.title,
                "dataset": found.card.dataset,
                "classes": len(found.card.classes),
                "precision": found.card.precision,
                "test_pictures": found.card.test_pictures,
                "sha256": found.card.sha256,
                "error": found.victim_error,
            },
            "limits": needs,
            "price_per_1000": found.request.price,
            "verdict": {
                "text": " ".join(words.verdict(found)),
                "answer": verdict.answer if verdict else None,
                "level": verdict.level if verdict else None,
                "deploy": {"defense": verdict.defense.name, "parameters": verdict.defense.values()}
                if verdict and verdict.defense
                else None,
                "not_stopped": verdict.not_stopped if verdict else [],
                "seeds": found.seeds,
                "evidence": found.seeds >= SEEDS,
            },
            "learning_curves": [
                {
                    "name": each.name,
                    "points": [
                        {"queries": budget, "error": error, "thief": each.best[budget]}
                        for budget, error in each.points.items()
                    ],
                    "power_law": each.curve
                    and {
                        "form": "a + b (q / unit)^-c",
                        **dict(zip("abc", map(float, each.curve.best), strict=True)),
                        "unit": each.curve.unit,
                        "valid_to": each.curve.last,
                    },
                    "why_no_power_law": each.why_no_curve,
                }
                for each in found.series
            ],
            "close_clone": {"within_points": CLOSE, "error": found.target, "prices": found.prices},
            "defenses": found.effects,
            "left_out": found.left_out,
            "queries": {
                "asked_by_all_runs": found.asked,
                "different_pictures": found.answered,
                "requests_to_service": found.sent,
            },
            "unfinished": [{"command": command, "state": state} for command, state in found.unfinished],
            "rows": found.rows,
        }
    )


def _finite(value: Any) -> Any:
    """The same value for JSON: data classes as objects, NaN and infinity as None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(name): _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: _finite(getattr(value, name)) for name in value.__dataclass_fields__}
    return value.item() if hasattr(value, "item") else value
