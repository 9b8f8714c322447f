"""Colour, marker and dash of each defense, the same in every figure and legible on light and dark backgrounds.

Colours follow the palette of Okabe and Ito, which colour-blind readers can distinguish. Markers and dashes also differ.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from dcp_core.defenses import DEFENSES


@dataclass(frozen=True)
class Mark:
    """Colour, marker and dash with which a defense is drawn."""

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
SIZE = {"size": 14}  # of all text in a figure, pixels
CLEAN, DEFENDED, HIGHLIGHT = "#8a8f98", "#e1542b", "#2f8fd8"


def layout(*, x: str, y: str, height: int = 380, **more: Any) -> dict[str, Any]:
    """A Plotly layout: axis titles, fixed margins, and a legend above the figure. Colours come from the page's theme.

    It is fast enough for figures that follow a slider. Plotly checks a layout given to `go.Figure` only once, which is
    three times as fast as updating the figure. Fixed margins halve the time that the browser needs to draw.

    Args:
        x, y: axis titles, with units.
        height: in pixels.
        more: further properties of Plotly's layout; "xaxis" and "yaxis" are merged with the titles.
    """
    axes = {
        axis: {"title": {"text": title, "font": SIZE}, "tickfont": SIZE, "automargin": False, **more.pop(axis, {})}
        for axis, title in (("xaxis", x), ("yaxis", y))
    }
    return {
        "height": height,
        "font": SIZE,
        "margin": {"l": 64, "r": 10, "t": 36, "b": 56},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "font": SIZE},
        "hoverlabel": {"namelength": -1},
        "modebar": {"orientation": "v"},  # beside the legend, not over it
        **axes,
        **more,
    }


def polish(figure: go.Figure, *, x: str, y: str, height: int = 380) -> go.Figure:
    """Apply `layout` to an existing figure, with automatic margins for its labels."""
    figure.update_layout(layout(x=x, y=y, height=height, margin={"l": 10, "r": 10, "t": 36, "b": 10}))
    figure.update_xaxes(automargin=True)
    return figure.update_yaxes(automargin=True)


def enlarged(figure: go.Figure, size: int) -> go.Figure:
    """A copy of a figure for a projector: all text in this size (pixels), with room for it, and marks to match."""
    large = go.Figure(figure)
    font, ratio = {"size": size}, size / SIZE["size"]
    top = max(3 * size, (large.layout.margin.t or 0) * ratio)
    large.update_layout(font=font, legend_font=font, height=(large.layout.height or 380) * ratio)
    large.update_layout(margin={"t": top, "r": size})
    large.for_each_annotation(lambda note: note.update(font=font, yshift=(note.yshift or 0) * ratio))
    large.update_xaxes(automargin=True, title_font=font, tickfont=font)
    large.update_yaxes(automargin=True, title_font=font, tickfont=font)
    large.update_traces(colorbar={"title": {"font": font}, "tickfont": font}, selector={"type": "heatmap"})
    for kind in ("bar", "scatter"):
        large.update_traces(textfont=font, selector={"type": kind})
    return large


def vertical_line(at: float, text: str) -> dict[str, Any]:
    """Layout properties that draw a dotted vertical line at `at`, with a text at its top."""
    top = {"x": at, "yref": "paper", "y": 1, "yanchor": "top", "xanchor": "left", "showarrow": False, "text": text}
    line = {"dash": "dot", "color": CLEAN, "width": 2}
    span = {"x0": at, "x1": at, "yref": "paper", "y0": 0, "y1": 1}
    return {"shapes": [{"type": "line", **span, "line": line}], "annotations": [top]}


def below(title: str, note: str) -> str:
    """An axis title with a smaller line below it; the title alone without a note."""
    return f'{title}<br><span style="font-size:12px">{note}</span>' if note else title


def mark_of(name: str) -> Mark:
    """The mark of a defense: as its class declares, or chosen automatically. Unknown names get a grey cross."""
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
    """A colour "#rrggbb" with an opacity from 0 to 1, as "rgba(...)"."""
    return f"rgba({int(color[1:3], 16)},{int(color[3:5], 16)},{int(color[5:7], 16)},{opacity})"
