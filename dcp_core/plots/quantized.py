"""Figures of quantized victims: size, latency, accuracy, and the l1 distance of their answers to those of fp32.

Tables are as `dcp_core.costs.quantized` gives them.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dcp_core.plots.style import CLEAN, Mark, layout, mark_of, vertical_line

WAYS: dict[tuple[str, str], Mark] = {
    ("fp32", "torch, eager"): Mark("fp32, eager torch", "#8a8f98", "x"),
    ("fp32", "ONNX Runtime"): Mark("fp32, ONNX Runtime", "#2f8fd8", "square"),
    ("ptq", "ONNX Runtime"): Mark("int8 PTQ", "#e1542b", "circle"),
    ("qat", "ONNX Runtime"): Mark("int8 QAT", "#1b9e77", "diamond-open", "dash"),
}
EDGE_COSTS = {"ms_64": "latency,<br>64 pictures", "ms_1": "latency,<br>1 picture", "bytes": "size<br>on disk"}
WORDS = {"l": 88, "r": 10, "t": 36, "b": 52}  # margins of a chart with words on its vertical axis
DASHES = {"fp32": "dot", "ptq": "solid", "qat": "dash"}
UNITS = {"ms_64": "ms", "ms_1": "ms", "bytes": "kB"}


def edge_costs(rows: pd.DataFrame) -> go.Figure:
    """Size and latency of every version, as ratios to eager fp32 (the first row).

    Args:
        rows: measurements of one victim, from `side_by_side`.
    """
    first = rows.iloc[0]
    traces = []
    for row in rows.to_dict("records"):
        mark = _mark(row)
        amounts = [row[key] / (1000 if key == "bytes" else 1) for key in EDGE_COSTS]
        traces.append(
            {
                "type": "scatter",
                "x": [row[key] / first[key] for key in EDGE_COSTS],
                "y": list(EDGE_COSTS.values()),
                "mode": "markers",
                "name": mark.label,
                "marker": {
                    "symbol": mark.symbol,
                    "size": 14,
                    "color": mark.color,
                    "line": {"width": 2, "color": mark.color},
                },
                "customdata": [f"{a:.3g} {u}" for a, u in zip(amounts, UNITS.values(), strict=True)],
                "hovertemplate": "%{y}: %{customdata}, %{x:.3f} of eager fp32<extra>" + mark.label + "</extra>",
            }
        )
    line = vertical_line(1 / 3, "one third")
    # On a logarithmic axis, Plotly takes positions of shapes as they are, but those of annotations as logarithms.
    for part in (*line["shapes"], *line["annotations"]):
        if "text" in part:
            part["x"] = float(np.log10(1 / 3))
    ticks = [0.1, 0.2, 1 / 3, 0.5, 1]
    axis = {"type": "log", "tickvals": ticks, "ticktext": ["0.1", "0.2", "⅓", "0.5", "1"]}
    axes = layout(
        x="ratio to eager fp32 (log; left is better)",
        y="",
        height=320,
        margin=WORDS,
        xaxis=axis,
        **line,
    )
    return go.Figure(traces, axes)


def describe_edge_costs(rows: pd.DataFrame) -> str:
    """Alt text of `edge_costs`: one sentence with its conclusion."""
    first = rows.iloc[0]
    parts = [
        f"{_mark(row).label} has {row['bytes'] / first['bytes']:.2f} of its size, {row['ms_1'] / first['ms_1']:.2f} of "
        f"its latency for one picture and {row['ms_64'] / first['ms_64']:.2f} for 64 pictures"
        for row in rows.iloc[1:].to_dict("records")
    ]
    return f"Compared with eager fp32, {'; '.join(parts)}."


def edge_accuracy(rows: pd.DataFrame) -> go.Figure:
    """Test accuracy of fp32, of fp32 after as much further training as QAT, and of quantized versions, with 95 % intervals.

    Args:
        rows: `label`, `accuracy`, `low`, `high` in percent, `symbol` and `color`, in order from top to bottom.
    """
    rows = rows.iloc[::-1]
    trace = {
        "type": "scatter",
        "x": rows["accuracy"],
        "y": rows["label"],
        "mode": "markers",
        "marker": {"symbol": rows["symbol"], "size": 13, "color": rows["color"]},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "color": CLEAN,
            "array": rows["high"] - rows["accuracy"],
            "arrayminus": rows["accuracy"] - rows["low"],
        },
        "hovertemplate": "%{y}: %{x:.2f} %<extra></extra>",
    }
    return go.Figure(
        [trace],
        layout(x="test accuracy (%), with its 95 % interval", y="", height=320, margin=WORDS, showlegend=False),
    )


def describe_edge_accuracy(rows: pd.DataFrame) -> str:
    """Alt text of `edge_accuracy`: one sentence with its conclusion."""
    return "Test accuracy: " + "; ".join(f"{row.label} {row.accuracy:.2f} %" for row in rows.itertuples()) + "."


def drift_histogram(l1: Mapping[str, np.ndarray], bins: int = 40) -> go.Figure:
    """Histogram of the l1 distance of each test answer to that of the fp32 victim, in logarithmic bins.

    Args:
        l1: distances (N,), 0 to 2, by precision.
        bins: number of bins between 1e-5 and 2.
    """
    edges = np.logspace(-5, np.log10(2), bins + 1)
    traces = []
    for precision, values in l1.items():
        mark = WAYS[precision, "ONNX Runtime"]
        counts = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
        traces.append(
            {
                "type": "scatter",
                "x": edges,
                "y": np.r_[counts, counts[-1]] / len(values) * 100,
                "mode": "lines",
                "name": f"{mark.label}: mean {values.mean():.3f}, median {np.median(values):.3f}",
                "line": {"color": mark.color, "dash": mark.dash, "shape": "hv"},
                "fill": "tozeroy",
                "opacity": 0.8,
                "hovertemplate": "%{y:.1f} % of answers from l1 %{x:.2g} on<extra>" + mark.label + "</extra>",
            }
        )
    ticks = {
        "tickvals": [1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1],
        "ticktext": ["≤1e-5", "1e-4", "0.001", "0.01", "0.1", "1"],
    }
    axes = layout(
        x="l1 distance to the fp32 victim's answer (log)",
        y="answers (%) in a bin",
        height=340,
        xaxis={"type": "log", **ticks},
        yaxis={"rangemode": "tozero"},
    )
    return go.Figure(traces, axes)


def describe_drift(l1: Mapping[str, np.ndarray]) -> str:
    """Alt text of `drift_histogram`: one sentence with its conclusion."""
    parts = [
        f"{WAYS[precision, 'ONNX Runtime'].label} moves an answer by {np.median(values):.3f} in the median, "
        f"{100 * float((values > 0.1).mean()):.1f} % of them by more than 0.1"
        for precision, values in l1.items()
    ]
    return "; ".join(parts) + "."


def defenses_on_each(curves: pd.DataFrame) -> go.Figure:
    """Owner's error against mean l1, over the strengths of each defense, for each version of a victim.

    Args:
        curves: trade-off curves in one table, with a column `precision` of the victim.
    """
    traces = []
    for (name, precision), curve in curves.groupby(["defense", "precision"], sort=False):
        mark, way = mark_of(name), WAYS[precision, "ONNX Runtime"]
        words = way.label.split(",")[0]
        traces.append(
            {
                "type": "scatter",
                "x": curve["l1"],
                "y": curve["defender_error"],
                "mode": "lines+markers",
                "name": f"{mark.label} on {words}",
                "line": {"color": mark.color, "dash": DASHES[precision]},
                "marker": {"symbol": way.symbol, "size": 8, "color": mark.color},
                "customdata": curve["strength"],
                "hovertemplate": "strength %{customdata:g}: l1 %{x:.3f}, owner's error %{y:.2f} %<extra>"
                f"{mark.label} on {words}</extra>",
            }
        )
    return go.Figure(
        traces, layout(x="mean l1 distance, test set (0 to 2)", y="owner's test error (%)", height=400)
    )


def describe_defenses_on_each(curves: pd.DataFrame) -> str:
    """Alt text of `defenses_on_each`: one sentence with its conclusion."""
    parts = []
    for name, of_defense in curves.groupby("defense", sort=False):
        ends = [
            f"{precision} from {curve['defender_error'].iloc[0]:.2f} to {curve['defender_error'].iloc[-1]:.2f} %"
            for precision, curve in of_defense.groupby("precision", sort=False)
        ]
        parts.append(f"{mark_of(str(name)).label} takes the owner's error on {', '.join(ends)}")
    return "; ".join(parts) + "."


def _mark(row: Mapping) -> Mark:
    return WAYS[row["precision"], row["engine"]]
