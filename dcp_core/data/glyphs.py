"""Templates of the embedded data set: sixteen road signs made of polygons, strokes and arcs.

Coordinates are in [-1, 1], x to the right and y down. Everything is drawn by signed distances, so no font and no image
file is needed, and every machine draws the same template.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

Points = tuple[tuple[float, float], ...]
Colour = tuple[float, float, float]

TEMPLATE_SIZE = 64
OVERSAMPLING = 4  # distances are computed on a grid this many times finer, then averaged

RED: Colour = (0.78, 0.07, 0.10)
BLUE: Colour = (0.05, 0.27, 0.66)
YELLOW: Colour = (0.98, 0.76, 0.06)
WHITE: Colour = (0.96, 0.96, 0.94)
BLACK: Colour = (0.07, 0.07, 0.08)


@dataclass(frozen=True)
class Stroke:
    """A part of a symbol: a line of `width` along `points` with round ends, or a filled polygon if `width` is 0."""

    points: Points
    colour: Colour
    width: float = 0.0


@dataclass(frozen=True)
class Sign:
    """A road sign: its board, its bands of colour and its symbol.

    The board is a polygon grown by `radius`, which rounds its corners. A band `(inset, colour)` paints everything that
    lies at least `inset` inside the edge of the board.
    """

    name: str
    board: Points
    radius: float
    bands: tuple[tuple[float, Colour], ...]
    symbol: tuple[Stroke, ...] = ()


def arc(x: float, y: float, rx: float, ry: float, start: float, end: float) -> Points:
    """An elliptic arc as a polyline, from `start` to `end` in degrees: 0 is to the right, -90 is up."""
    angles = np.deg2rad(np.linspace(start, end, 2 + int(abs(end - start) / 15)))
    return tuple((float(x + rx * np.cos(a)), float(y + ry * np.sin(a))) for a in angles)


def regular(corners: int, size: float, first: float) -> Points:
    """A regular polygon of circumradius `size` whose first corner lies at `first` degrees."""
    angles = np.deg2rad(first) + 2 * np.pi * np.arange(corners) / corners
    return tuple((float(size * np.cos(a)), float(size * np.sin(a))) for a in angles)


def glyph(character: str, x: float, y: float, w: float, h: float) -> tuple[Points, ...]:
    """The strokes of one of the characters `0358STOP`, centred on (x, y), w wide and h high."""
    top, low = y - h / 4, y + h / 4
    left, right, up, down = x - w / 2, x + w / 2, y - h / 2, y + h / 2
    strokes: dict[str, tuple[Points, ...]] = {
        "0": (arc(x, y, w / 2, h / 2, 0, 360),),
        "3": (arc(x, top, w / 2, h / 4, -160, 90) + arc(x, low, w / 2, h / 4, -90, 160),),
        "5": (((right, up), (left, up), (left, y)) + arc(x, y + h * 0.19, w / 2, h * 0.31, -130, 155),),
        "8": (arc(x, top, w * 0.44, h / 4, 0, 360), arc(x, low, w / 2, h / 4, 0, 360)),
        "S": (arc(x, top, w / 2, h / 4, -20, -270) + arc(x, low, w / 2, h / 4, -90, 160),),
        "T": (((left, up), (right, up)), ((x, up), (x, down))),
        "O": (arc(x, y, w / 2, h / 2, 0, 360),),
        "P": (((left, down), (left, up)) + arc(x, top, w / 2, h / 4, -90, 90) + ((left, y),),),
    }
    return strokes[character]


def text(word: str, colour: Colour, pitch: float, w: float, h: float, width: float) -> tuple[Stroke, ...]:
    """A word centred on the board; `pitch` is the distance from one character to the next."""
    starts = [pitch * (i - (len(word) - 1) / 2) for i in range(len(word))]
    return tuple(
        Stroke(stroke, colour, width) for c, x in zip(word, starts, strict=True) for stroke in glyph(c, x, 0, w, h)
    )


def mirrored(marks: Sequence[Stroke]) -> tuple[Stroke, ...]:
    """The same strokes with left and right exchanged."""
    return tuple(Stroke(tuple((-x, y) for x, y in m.points), m.colour, m.width) for m in marks)


_DISC = regular(32, 0.5, 0)
_UPWARDS: Points = ((0, -0.74), (0.84, 0.68), (-0.84, 0.68))
_TURN_RIGHT = (
    Stroke(((-0.32, 0.5), (-0.32, -0.08), (0.1, -0.08)), WHITE, 0.24),
    Stroke(((0.1, -0.46), (0.62, -0.08), (0.1, 0.3)), WHITE),
)
_SLASH = Stroke(((-0.45, -0.45), (0.45, 0.45)), RED, 0.2)
_WALKER = (
    Stroke(((0, -0.56), (0.66, 0.56), (-0.66, 0.56)), WHITE),
    Stroke(((0.02, -0.13), (0.021, -0.13)), BLACK, 0.2),
    Stroke(((0.02, 0.04), (-0.02, 0.24), (0.15, 0.5)), BLACK, 0.13),
    Stroke(((-0.02, 0.24), (-0.17, 0.5)), BLACK, 0.13),
    Stroke(((-0.2, 0.2), (0.02, 0.06), (0.19, 0.2)), BLACK, 0.09),
)


def _disc(name: str, *bands: tuple[float, Colour], symbol: tuple[Stroke, ...] = ()) -> Sign:
    return Sign(name, _DISC, 0.42, bands, symbol)


def _limit(number: str) -> Sign:
    digits = text(number, BLACK, pitch=0.56, w=0.36, h=0.62, width=0.16)
    return _disc(f"speed limit {number}", (0, RED), (0.2, WHITE), symbol=digits)


def _warning(name: str, *symbol: Stroke) -> Sign:
    return Sign(name, _UPWARDS, 0.09, ((0, RED), (0.2, WHITE)), symbol)


SIGNS: tuple[Sign, ...] = (
    _limit("30"),
    _limit("50"),
    _limit("80"),
    _disc("no entry", (0, RED), symbol=(Stroke(((-0.5, 0), (0.5, 0)), WHITE, 0.3),)),
    _disc("no parking", (0, RED), (0.2, BLUE), symbol=(_SLASH,)),
    _disc("no stopping", (0, RED), (0.2, BLUE), symbol=(_SLASH, *mirrored([_SLASH]))),
    Sign(
        "stop",
        regular(8, 0.92, 22.5),
        0.04,
        ((0, WHITE), (0.08, RED)),
        text("STOP", WHITE, pitch=0.37, w=0.23, h=0.46, width=0.1),
    ),
    Sign("yield", tuple((x, -y) for x, y in _UPWARDS), 0.09, ((0, RED), (0.2, WHITE))),
    Sign("priority road", regular(4, 0.88, 0), 0.06, ((0, WHITE), (0.07, BLACK), (0.11, WHITE), (0.24, YELLOW))),
    _warning("danger", Stroke(((0, -0.2), (0, 0.2)), BLACK, 0.17), Stroke(((0, 0.46), (0, 0.461)), BLACK, 0.19)),
    _warning(
        "crossroads",
        Stroke(((-0.24, 0), (0.24, 0.46)), BLACK, 0.17),
        Stroke(((0.24, 0), (-0.24, 0.46)), BLACK, 0.17),
    ),
    _warning(
        "uneven road",
        Stroke(arc(-0.21, 0.42, 0.19, 0.26, -180, 0), BLACK),
        Stroke(arc(0.21, 0.42, 0.19, 0.26, -180, 0), BLACK),
        Stroke(((-0.42, 0.46), (0.42, 0.46)), BLACK, 0.1),
    ),
    _warning(
        "bend",
        Stroke(((-0.17, 0.48), (-0.17, 0.29), (0.08, 0.15), (0.08, 0.08)), BLACK, 0.16),
        Stroke(((-0.12, 0.09), (0.08, -0.2), (0.28, 0.09)), BLACK),
    ),
    _disc("turn left", (0, WHITE), (0.05, BLUE), symbol=mirrored(_TURN_RIGHT)),
    _disc("turn right", (0, WHITE), (0.05, BLUE), symbol=_TURN_RIGHT),
    Sign("pedestrian crossing", regular(4, 1.13, 45), 0.1, ((0, WHITE), (0.05, BLUE)), _WALKER),
)


def _distance(x: np.ndarray, y: np.ndarray, points: Points, closed: bool) -> np.ndarray:
    """Distance of every point (x, y) to a polyline; if `closed`, the line is a polygon and distances inside are negative."""
    nearest = np.full_like(x, np.inf)  # squared
    inside = np.zeros(x.shape, dtype=bool)
    for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1] if closed else points[1:], strict=False):
        dx, dy = bx - ax, by - ay
        length = max(dx * dx + dy * dy, 1e-12)
        share = np.clip(((x - ax) * dx + (y - ay) * dy) / length, 0, 1)
        nearest = np.minimum(nearest, (x - ax - share * dx) ** 2 + (y - ay - share * dy) ** 2)
        if closed and dy != 0:  # even-odd rule along a ray to the right
            inside ^= ((ay > y) != (by > y)) & (x < ax + (y - ay) * dx / dy)
    distance = np.sqrt(nearest)
    return np.where(inside, -distance, distance)


def _draw(sign: Sign) -> np.ndarray:
    """Draw one sign: premultiplied RGBA in [0, 1], (4, TEMPLATE_SIZE, TEMPLATE_SIZE)."""
    fine = TEMPLATE_SIZE * OVERSAMPLING
    line = (np.arange(fine) + 0.5) * 2 / fine - 1
    x, y = np.meshgrid(line.astype(np.float32), line.astype(np.float32))
    rgba = np.zeros((fine, fine, 4), dtype=np.float32)
    edge = _distance(x, y, sign.board, closed=True) - sign.radius
    for inset, colour in sign.bands:
        rgba[edge < -inset] = (*colour, 1.0)
    for mark in sign.symbol:
        reach = _distance(x, y, mark.points, closed=mark.width == 0)
        rgba[reach < mark.width / 2] = (*mark.colour, 1.0)
    blocks = rgba.reshape(TEMPLATE_SIZE, OVERSAMPLING, TEMPLATE_SIZE, OVERSAMPLING, 4)
    return blocks.mean(axis=(1, 3)).transpose(2, 0, 1)


@lru_cache(maxsize=1)
def templates() -> Tensor:
    """All signs, upright: premultiplied RGBA in [0, 1], float32 (len(SIGNS), 4, TEMPLATE_SIZE, TEMPLATE_SIZE).

    The tensor is shared: do not write into it.
    """
    return torch.from_numpy(np.stack([_draw(sign) for sign in SIGNS]))
