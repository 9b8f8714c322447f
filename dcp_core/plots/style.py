"""One colour, marker and dash for each defense, the same in every figure and legible in light and dark.

Colours are from the palette of Okabe and Ito, made for colour-blind readers; colour is never the only code.
"""

from dataclasses import dataclass

import plotly.graph_objects as go


@dataclass(frozen=True)
class Mark:
    """How a defense is drawn."""

    label: str
    color: str
    symbol: str
    dash: str = "solid"


MARKS: dict[str, Mark] = {
    "none": Mark("No defense", "#8a8f98", "x"),
    "dcp": Mark("DCP", "#e1542b", "circle"),
    "rs": Mark("RS", "#2f8fd8", "square", "dash"),
    "am": Mark("AM", "#c77cae", "diamond", "dot"),
    "mad": Mark("MAD", "#1b9e77", "triangle-up", "dashdot"),
    "grad2": Mark("GRAD²", "#d99a06", "triangle-down", "longdash"),
    "label": Mark("Label only", "#7d6bd0", "star", "dot"),
    "topk": Mark("Top-k", "#4fb3c9", "pentagon", "dash"),
    "rounding": Mark("Rounding", "#9c7a4d", "hexagon", "dashdot"),
    "random": Mark("Random", "#b3596f", "cross", "longdash"),
}
CLEAN, DEFENDED, HIGHLIGHT = "#8a8f98", "#e1542b", "#2f8fd8"


def polish(figure: go.Figure, *, x: str, y: str, height: int = 380) -> go.Figure:
    """Axis titles with units, tight margins, a legend above the plot; colours come from the page's theme."""
    figure.update_layout(
        height=height,
        margin={"l": 10, "r": 10, "t": 36, "b": 10},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        hoverlabel={"namelength": -1},
    )
    figure.update_xaxes(title_text=x, automargin=True)
    figure.update_yaxes(title_text=y, automargin=True)
    return figure
