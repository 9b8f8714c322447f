"""What each defense buys within an owner's limits."""

import pandas as pd
import plotly.graph_objects as go

from dcp_core.plots.style import CLEAN, layout, mark_of

GAIN = "added to the thief's error (percentage points)"


def point_name(defense: str, strength: float) -> str:
    """A measured point as figures name it: "DCP 0.9"; without its strength if it has none."""
    label = mark_of(defense).label
    return f"{label} {strength:g}" if pd.notna(strength) else label


def gains(table: pd.DataFrame) -> go.Figure:
    """Thief's error above the undefended, one mark a defense with its 95 % interval over seeds.

    Args:
        table: rows of `evaluation.decision.operating_points`; those without a point are left out.
    """
    known = table.dropna(subset=["gain"]).iloc[::-1]  # the most helpful on top
    traces = []
    for row in known.to_dict("records"):
        mark, name = mark_of(row["defense"]), point_name(row["defense"], row["strength"])
        trace = {
            "type": "scatter",
            "x": [row["gain"]],
            "y": [name],
            "mode": "markers",
            "marker": {"symbol": mark.symbol, "color": mark.color, "size": 13},
            "showlegend": False,
            "hovertemplate": f"{name}: %{{x:+.2f}} points; owner "
            f"+{row['increase']:.2f}, mean l1 {row['l1']:.2f}<extra></extra>",
        }
        if pd.notna(row["gain_low"]):
            up, down = row["gain_high"] - row["gain"], row["gain"] - row["gain_low"]
            trace["error_x"] = {
                "type": "data",
                "array": [up],
                "arrayminus": [down],
                "color": mark.color,
                "thickness": 1.5,
            }
        traces.append(trace)
    zero = {
        "type": "line",
        "x0": 0,
        "x1": 0,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": {"color": CLEAN, "dash": "dot"},
    }
    place = layout(
        x=GAIN,
        y="",
        height=120 + 44 * max(1, len(known)),
        yaxis={"automargin": True, "showgrid": False},
        margin={"l": 10, "r": 20, "t": 10, "b": 52},
        shapes=[zero],
    )
    return go.Figure(traces, place)


def describe_gains(table: pd.DataFrame) -> str:
    """One sentence for who cannot see `gains`."""
    known = table.dropna(subset=["gain"])
    parts = [
        f"{mark_of(row.defense).label} {row.gain:+.1f} ({row.gain_low:+.1f} to {row.gain_high:+.1f})"
        if pd.notna(row.gain_low)
        else f"{mark_of(row.defense).label} {row.gain:+.1f}"
        for row in known.itertuples()
    ]
    return f"Points added to the thief's error within the limits: {'; '.join(parts) or 'no defense has a point'}."
