"""Figures of the Quantized page show the numbers they are given."""

import numpy as np
import pandas as pd
import pytest

from dcp_core.plots import quantized as plots

ROWS = pd.DataFrame(
    {
        "precision": ["fp32", "fp32", "ptq"],
        "engine": ["torch, eager", "ONNX Runtime", "ONNX Runtime"],
        "ms_1": [6.0, 1.5, 1.2],
        "ms_64": [100.0, 50.0, 25.0],
        "bytes": [400_000.0, 390_000.0, 100_000.0],
    }
)


def test_costs_are_drawn_as_ratios_to_eager_fp32() -> None:
    figure = plots.edge_costs(ROWS)
    eager, runtime, ptq = figure.data
    assert list(eager.x) == [1, 1, 1]
    assert dict(zip(ptq.y, ptq.x, strict=True)) == pytest.approx(
        {"latency,<br>64 pictures": 0.25, "latency,<br>1 picture": 0.2, "size<br>on disk": 0.25}
    )
    assert list(ptq.customdata) == ["25 ms", "1.2 ms", "100 kB"]
    assert len({trace.marker.symbol for trace in (eager, runtime, ptq)}) == 3
    assert figure.layout.xaxis.title.text
    assert "int8 PTQ has 0.25 of its size, 0.20 of its latency" in plots.describe_edge_costs(ROWS)


def test_accuracy_has_its_interval_and_the_first_row_on_top() -> None:
    rows = pd.DataFrame(
        {"label": ["fp32", "int8 PTQ"], "accuracy": [93.0, 92.5], "low": [92.5, 92.0], "high": [93.4, 93.0]}
    ).assign(symbol="circle", color="#000000")
    (trace,) = plots.edge_accuracy(rows).data
    assert list(trace.y) == ["int8 PTQ", "fp32"]  # an axis of words begins at the bottom
    assert list(trace.error_x.array) == pytest.approx([0.5, 0.4])
    assert list(trace.error_x.arrayminus) == pytest.approx([0.5, 0.5])
    assert "fp32 93.00 %; int8 PTQ 92.50 %" in plots.describe_edge_accuracy(rows)


def test_the_histogram_counts_every_answer_once() -> None:
    drift = {"ptq": np.array([0.0, 1e-6, 0.02, 0.02, 2.0]), "qat": np.array([0.5])}
    ptq, qat = plots.drift_histogram(drift).data
    assert sum(ptq.y[:-1]) == pytest.approx(100)
    assert ptq.y[0] == pytest.approx(40)  # the untouched ones lie in the first bin
    assert max(qat.y) == pytest.approx(100)
    assert "mean 0.408" in ptq.name
    assert "20.0 % of them by more than 0.1" in plots.describe_drift(drift)


def test_defenses_are_told_apart_by_colour_and_versions_by_dash_and_marker() -> None:
    curve = pd.DataFrame({"l1": [0.0, 0.5], "defender_error": [6.5, 7.0], "strength": [0.0, 0.9]})
    parts = [curve.assign(defense=d, precision=p) for p in ("fp32", "ptq", "qat") for d in ("dcp", "rs")]
    figure = plots.defenses_on_each(pd.concat(parts))
    assert len(figure.data) == 6
    assert {trace.name for trace in figure.data} >= {"DCP on fp32", "RS on int8 QAT"}
    assert len({(trace.line.dash, trace.marker.symbol) for trace in figure.data}) == 3
    assert len({trace.line.color for trace in figure.data}) == 2
    assert "DCP takes the owner's error on fp32 from 6.50 to 7.00 %" in plots.describe_defenses_on_each(
        pd.concat(parts)
    )
