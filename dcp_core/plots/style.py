"""One colour, marker and dash for each defense, the same in every figure and legible in light and dark.

Colours are from the palette of Okabe and Ito, made for colour-blind readers; colour is never the only code.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from dcp_core.defenses import DEFENSES


@dataclass(frozen=True)
class Mark:
    """How a defense is drawn."""

    label: str
    color: str
    symbol: str
    dash: str = "solid"


AUTOMATIC = (  # for defenses that declare no mark, in the order of registration
    ("#5a7d2a", "star-diamond", "dashdot"),
    ("#a0522d", "hourglass", "longdash"),
    ("#3b5ba5", "bowtie", "dash"),
    ("#b8860b", "hexagram", "dot"),
    ("#8b3a8b", "star-square", "longdashdot"),
)
CLEAN, DEFENDED, HIGHLIGHT = "#8a8f98", "#e1542b", "#2f8fd8"


def layout(*, x: str, y: str, height: int = 380, **more: Any) -> dict[str, Any]:
    """Axis titles with units, margins for numbers of some digits, a legend above; colours come from the page's theme.

    For figures that follow a slider. Handed to `go.Figure` with the traces, it is checked once, which is three times
    as fast as adding and updating; margins that need not be found out halve the browser's time to draw.

    Args:
        more: properties of Plotly's layout; those of an axis ("xaxis", "yaxis") come on top of its title.
    """
    axes = {
        axis: {"title": {"text": title}, "automargin": False, **more.pop(axis, {})}
        for axis, title in (("xaxis", x), ("yaxis", y))
    }
    return {
        "height": height,
        "margin": {"l": 58, "r": 10, "t": 36, "b": 52},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        "hoverlabel": {"namelength": -1},
        **axes,
        **more,
    }


def polish(figure: go.Figure, *, x: str, y: str, height: int = 380) -> go.Figure:
    """The same for a figure that is already there, with margins that make room for its labels."""
    figure.update_layout(layout(x=x, y=y, height=height, margin={"l": 10, "r": 10, "t": 36, "b": 10}))
    figure.update_xaxes(automargin=True)
    return figure.update_yaxes(automargin=True)


def vertical_line(at: float, text: str) -> dict[str, Any]:
    """The parts of a layout that draw a dotted vertical line with a word at its top."""
    top = {"x": at, "yref": "paper", "y": 1, "yanchor": "top", "xanchor": "left", "showarrow": False, "text": text}
    line = {"dash": "dot", "color": CLEAN, "width": 2}
    span = {"x0": at, "x1": at, "yref": "paper", "y0": 0, "y1": 1}
    return {"shapes": [{"type": "line", **span, "line": line}], "annotations": [top]}


def below(title: str, note: str) -> str:
    """An axis title with a smaller line below it; the title alone without a note."""
    return f'{title}<br><span style="font-size:12px">{note}</span>' if note else title


def mark_of(name: str) -> Mark:
    """How a defense is drawn: as it declares, else automatically; a grey cross for one that is not registered."""
    if name not in DEFENSES:
        return Mark(name, CLEAN, "x")
    kind = DEFENSES[name]
    if kind.mark is not None:
        return Mark(kind.short, *kind.mark)
    undeclared = [other for other in DEFENSES if DEFENSES[other].mark is None]
    return Mark(kind.short, *AUTOMATIC[undeclared.index(name) % len(AUTOMATIC)])


def in_order(names: Iterable[str]) -> list[str]:
    """Each defense once: registered ones in the order of the registry, then the others by name."""
    given = set(names)
    return [name for name in DEFENSES if name in given] + sorted(given - set(DEFENSES))


def faint(color: str, opacity: float) -> str:
    """A colour "#rrggbb" as "rgba(...)"."""
    return f"rgba({int(color[1:3], 16)},{int(color[3:5], 16)},{int(color[5:7], 16)},{opacity})"
