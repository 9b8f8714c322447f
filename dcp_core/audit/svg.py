"""The figures of a report, as SVG text. They need no script and no network, and take their colours from the page's CSS.

Each figure is drawn at two widths; the page shows the one that fits, so that its text keeps a readable size.
"""

from collections.abc import Callable, Sequence
from html import escape

import numpy as np

from dcp_core.audit.findings import Estimate, Findings, Series, estimate

WIDTHS = {"wide": 760, "narrow": 340}
SHOWN = 3  # learning curves in one figure
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 26, 46
POINTS = 80  # number of points in a drawn curve


def learning_curves(found: Findings, alt: str) -> str:
    """The learning curves: error over queries, with the power laws and their intervals."""
    return _both(lambda width: _curves(found, width), alt)


def thieves(found: Findings, alt: str) -> str:
    """The error of the best thief without a defense and behind each of them, with intervals."""
    return _both(lambda width: _dots(found, width), alt)


def shown(found: Findings) -> list[Series]:
    """The series in the figure of learning curves: those measured at several budgets, the undefended one first."""
    several = [each for each in found.series if len(each.points) > 1 or each is found.series[0]]
    return several[:SHOWN]


def _both(draw: Callable[[int], tuple[str, int]], alt: str) -> str:
    parts = []
    for name, width in WIDTHS.items():
        body, height = draw(width)
        parts.append(
            f'<svg class="{name}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(alt)}">{body}</svg>'
        )
    return "".join(parts)


def _curves(found: Findings, width: int) -> tuple[str, int]:
    height = 380 if width > 500 else 320
    series = shown(found)
    budgets = [budget for each in series for budget in each.points]
    reach = max([max(budgets), *(each.curve.last for each in series if each.curve)])
    tops = [error.high or error.mean for each in series for error in each.points.values()]
    most = min(100.0, _nice(1.05 * max([found.target, *tops])))
    x = _scale(np.log(min(budgets) / 1.15), np.log(reach * 1.05), LEFT, width - RIGHT)
    y = _scale(0.0, most, height - BOTTOM, TOP)
    body = [_grid_y(most, y, width), _grid_x(min(budgets), reach, x, height)]
    for at, text, kind in (
        (found.victim_error.mean, f"model {found.victim_error.mean:.1f} %", "model"),
        (found.target, f"close clone {found.target:.1f} %", "target"),
    ):
        body.append(_line(kind, LEFT, width - RIGHT, y(at), y(at)))
        # The words stand where curves are far away: on the left, curves are above the model's error; on the right, a close
        # clone's curve is below this line, and another one's above it.
        beside, anchor = (LEFT + 4, "start") if kind == "model" else (width - RIGHT, "end")
        body.append(_text(beside, y(at) - 4, text, anchor, kind))
    for number, each in enumerate(series):
        body.append(_curve(each, number, x, y, most))
        body += [_point(x(np.log(q)), error, number, y, most) for q, error in each.points.items()]
    body.append(_text((LEFT + width) / 2, height - 6, "queries (pictures sent to the model)", "middle"))
    body.append(_text(2, 11, "error of the clone, %", "start"))
    return "".join(body), height


def _curve(
    series: Series, number: int, x: Callable[[float], float], y: Callable[[float], float], most: float
) -> str:
    if series.curve is None:
        return ""
    measured = max(series.points)
    queries = np.geomspace(series.curve.budgets[0], series.curve.last, POINTS)
    middle, low, high = (np.minimum(part, most) for part in series.curve.at(queries))
    at = [x(float(value)) for value in np.log(queries)]
    parts = []
    if not np.isnan(low).any():
        edge = [*zip(at, high, strict=True), *reversed(list(zip(at, low, strict=True)))]
        parts.append(f'<path class="band s{number}" d="{_path([(a, y(float(b))) for a, b in edge])}Z"/>')
    for name, part in (("", queries <= measured * 1.02), (" beyond", queries >= measured * 0.98)):
        line = [(a, y(float(b))) for a, b, here in zip(at, middle, part, strict=True) if here]
        parts.append(f'<path class="line s{number}{name}" d="{_path(line)}"/>')
    return "".join(parts)


def _point(at: float, error: Estimate, number: int, y: Callable[[float], float], most: float) -> str:
    at += 4 * (number - 1)  # intervals of different thieves at the same budget must not hide each other
    bar = ""
    if error.low is not None and error.high is not None:
        bar = _line(f"bar s{number}", at, at, y(error.low), y(min(error.high, most)))
    return bar + marker(at, y(min(error.mean, most)), number)


def marker(x: float, y: float, number: int) -> str:
    """The marker of a series: a circle, a square or a diamond."""
    if number == 0:
        return f'<circle class="mark s0" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
    turn = f' transform="rotate(45 {x:.1f} {y:.1f})"' if number == 2 else ""
    return f'<rect class="mark s{number}" x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"{turn}/>'


def _dots(found: Findings, width: int) -> tuple[str, int]:
    assert found.bare is not None
    rows: list[tuple[str, dict[str, Estimate], str]] = []
    bare = found.case[found.case["defense"] == "none"]
    rows.append(
        ("no defense", {str(p["thief"]): estimate(p) for _, p in bare.iterrows()}, str(found.bare["thief"]))
    )
    rows += [(effect.label, effect.thieves, effect.best) for effect in found.effects]
    every = [error.high or error.mean for _, errors, _ in rows for error in errors.values()]
    most = min(100.0, _nice(1.05 * max([found.target, *every])))
    step, top = 46, 30
    height = top + step * len(rows) + BOTTOM
    x = _scale(0.0, most, LEFT - 30, width - RIGHT)
    body = [_ticks(most, x, top, height)]
    for at, kind, text in ((found.victim_error.mean, "model", "model"), (found.target, "target", "close clone")):
        body.append(
            f'<line class="{kind}" x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{top - 8}" y2="{height - BOTTOM}"/>'
        )
        # A word that ends at the line must not leave the figure on the left.
        edge, anchor = (max(x(at), 40.0), "end") if kind == "model" else (x(at), "start")
        body.append(_text(edge, top - 12, text, anchor, kind))
    for place, (label, errors, best) in enumerate(rows):
        line = top + step * place + 14
        body.append(_text(LEFT - 30, line - 2, label, "start", "label"))
        for thief, error in errors.items():
            kind = "best" if thief == best else "other"
            if error.low is not None and error.high is not None and kind == "best":
                ends = x(error.low), x(min(error.high, most))
                body.append(
                    f'<line class="bar s0" x1="{ends[0]:.1f}" x2="{ends[1]:.1f}" y1="{line + 14}" y2="{line + 14}"/>'
                )
            body.append(f'<circle class="{kind}" cx="{x(min(error.mean, most)):.1f}" cy="{line + 14}" r="5"/>')
    body.append(_text(width / 2, height - 6, "error of the clone, % (right is better for you)", "middle"))
    return "".join(body), height


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (float(value) - low) / (high - low) * (end - start)


def _nice(value: float) -> float:
    return float(10 * np.ceil(value / 10)) if value > 10 else float(np.ceil(value))


def _marks(most: float) -> list[float]:
    step = next(step for step in (1, 2, 5, 10, 20, 25) if most / step <= 6)
    return [float(value) for value in np.arange(0, most + step / 2, step)]


def _grid_y(most: float, y: Callable[[float], float], width: int) -> str:
    lines = [_line("grid", LEFT, width - RIGHT, y(value), y(value)) for value in _marks(most)]
    return "".join(lines + [_text(LEFT - 6, y(value) + 4, f"{value:g}", "end") for value in _marks(most)])


def _ticks(most: float, x: Callable[[float], float], top: float, height: int) -> str:
    lines = [_line("grid", x(value), x(value), top, height - BOTTOM) for value in _marks(most)]
    return "".join(
        lines + [_text(x(value), height - BOTTOM + 16, f"{value:g}", "middle") for value in _marks(most)]
    )


def _grid_x(low: float, high: float, x: Callable[[float], float], height: int) -> str:
    marks = [digit * 10**power for power in range(8) for digit in (1, 2, 5) if low <= digit * 10**power <= high]
    chosen = marks if len(marks) <= 8 else marks[::2]
    return "".join(_text(x(float(np.log(v))), height - BOTTOM + 16, _thousands(v), "middle") for v in chosen)


def _thousands(value: int) -> str:
    return f"{value // 1000}k" if value >= 1000 else str(value)


def _line(kind: str, x1: float, x2: float, y1: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, words: str, anchor: str, kind: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points)
