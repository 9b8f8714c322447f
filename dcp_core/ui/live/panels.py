"""Descriptions of the panels of a live chart, which `live.js` draws.

A quantity is a value now and, for each slider that changes it, a table with a row for each value of that slider. A row is a
number, or nested lists of numbers.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

DIGITS = 6  # digits after the point of the numbers in tables


@dataclass(frozen=True)
class Quantity:
    """Something that sliders change."""

    now: Any
    tables: Mapping[str, Any] = field(default_factory=dict)
    """Key of a slider -> a row for each of its values."""

    def sent(self) -> dict[str, Any]:
        """The quantity as JSON. A table is left out if all its rows are equal to the present value.

        The value now is not rounded: the page rounds it to three digits, and a number that is rounded twice can differ from
        the one that Python prints.
        """
        now = rounded(self.now)
        tables = {key: rounded(table) for key, table in self.tables.items()}
        return {
            "now": rounded(self.now, None),
            "tables": {key: rows for key, rows in tables.items() if any(row != now for row in rows)},
        }


@dataclass(frozen=True)
class Axis:
    """A linear axis; `ticks` are positions and their labels."""

    title: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]

    def sent(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "title": self.title,
            "low": self.low,
            "high": self.high,
            "ticks": [list(tick) for tick in self.ticks],
        }


@dataclass(frozen=True)
class Line:
    """A line (x, y) of a plot, with the lower and the upper end of its band where it has one."""

    x: Sequence[float]
    y: Sequence[float]
    color: str
    name: str = ""
    dash: str = "none"
    named_at: str = "end"
    """Where the name of the line is written: at its "start" or its "end"."""
    band: tuple[Sequence[float], Sequence[float]] | None = None

    def sent(self) -> dict[str, Any]:
        """As JSON."""
        points = rounded(list(zip(self.x, self.y, strict=True)))
        band = None
        if self.band is not None:
            low, high = (list(zip(self.x, side, strict=True)) for side in self.band)
            band = rounded([*high, *reversed(low)])
        return {
            "points": points,
            "color": self.color,
            "name": self.name,
            "dash": self.dash,
            "band": band,
            "at": self.named_at,
        }


def axis(title: str, low: float, high: float, most: int = 6) -> Axis:
    """An axis with round numbers for ticks."""
    high = high if high > low else low + 1
    rough = (high - low) / most
    power = 10 ** math.floor(math.log10(rough))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if step >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return Axis(
        title, low, high, [(round(k * step, 9), f"{round(k * step, 9):g}") for k in range(first, last + 1)]
    )


def texts(now: str, tables: Mapping[str, Sequence[str]]) -> tuple[list[str], Quantity]:
    """Texts that sliders change: the list of different texts, and the index of the shown one, as a quantity."""
    every = list(dict.fromkeys([now, *(text for rows in tables.values() for text in rows)]))
    place = {text: k for k, text in enumerate(every)}
    return every, Quantity(place[now], {key: [place[text] for text in rows] for key, rows in tables.items()})


def sentence(now: str, tables: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """A sentence that says what happened."""
    every, value = texts(now, tables)
    return {"kind": "sentence", "texts": every, "value": value.sent()}


def gauge(label: str, value: Quantity, most: float, help: str) -> dict[str, Any]:
    """A number on a scale from 0 to `most`."""
    return {"kind": "gauge", "label": label, "max": most, "help": help, "value": value.sent()}


def tile(label: str, value: Quantity, *, note: str = "", help: str = "", digits: int = 3, unit: str = "") -> dict:
    """A number with its name above and a note below, for `tiles`."""
    about = {"label": label, "note": note, "help": help, "digits": digits, "unit": unit}
    return {**about, "texts": None, "value": value.sent()}


def word_tile(
    label: str, now: str, tables: Mapping[str, Sequence[str]], *, note: str = "", help: str = ""
) -> dict:
    """A word instead of a number, for `tiles`."""
    every, value = texts(now, tables)
    about = {"label": label, "note": note, "help": help, "digits": 0, "unit": ""}
    return {**about, "texts": every, "value": value.sent()}


def tiles(*each: dict[str, Any]) -> dict[str, Any]:
    """A row of several `tile` or `word_tile` panels."""
    return {"kind": "tiles", "tiles": list(each)}


def bars(
    classes: Sequence[str], clean: Sequence[float], defended: Quantity, *, named: int, scale: float, alt: str
) -> dict[str, Any]:
    """Clean and defended probabilities of classes beside each other.

    Args:
        named: how many of the entries in `classes` are single classes; the others are sums over several classes.
        scale: the probability at which a bar has its full width.
    """
    return {
        "kind": "bars",
        "classes": list(classes),
        "clean": rounded(clean),
        "value": defended.sent(),
        "named": named,
        "scale": scale,
        "alt": alt,
        "before": "Clean answer",
        "after": "Defended answer",
    }


def levels(rows: Sequence[tuple[str, str]], value: Quantity, *, alt: str, most: float = 100) -> dict[str, Any]:
    """Percentages as bars below each other.

    Args:
        rows: names and colours of the bars.
        value: a number for each of them, 0 to `most`.
    """
    return {
        "kind": "levels",
        "rows": [list(row) for row in rows],
        "value": value.sent(),
        "max": most,
        "alt": alt,
    }


def plot(
    x: Axis,
    y: Axis,
    lines: Sequence[Line],
    points: Quantity,
    *,
    alt: str,
    height: int = 300,
    moving: tuple[Sequence[float], Quantity, str] | None = None,
    names: Sequence[str] = (),
    radius: int = 5,
) -> dict[str, Any]:
    """Points on lines.

    Args:
        points: rows are [x of every point, y of every point].
        moving: a line that sliders change: its x, its y as a quantity, and its colour.
        names: texts of the points.
    """
    following = None
    if moving is not None:
        following = {"x": rounded(moving[0]), "y": moving[1].sent(), "color": moving[2]}
    return {
        "kind": "plot",
        "x": x.sent(),
        "y": y.sent(),
        "lines": [line.sent() for line in lines],
        "points": points.sent(),
        "moving": following,
        "names": list(names) or None,
        "alt": alt,
        "height": height,
        "radius": radius,
    }


def rounded(values: Any, digits: int | None = DIGITS) -> Any:
    """Numbers as JSON has them, with so many digits after the point; None for all of them."""
    if isinstance(values, int):
        return values
    numbers = np.asarray(values, dtype=float)
    return (numbers if digits is None else numbers.round(digits)).tolist()
