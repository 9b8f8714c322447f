import math

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from drawn import named, titles

from dcp_core.evaluation.metrics import TOUCHED
from dcp_core.plots import (
    describe_l1_distribution,
    describe_strength_curves,
    l1_distribution,
    strength_curves,
)
from dcp_core.plots.curves import CURVES

BANDED = ("defender_error", "l1", "touched", "changed", "entropy")


def curve(defense: str, strengths: list[float]) -> pd.DataFrame:
    values = np.linspace(1, 2, len(strengths))
    table = pd.DataFrame({"defense": defense, "strength": strengths} | dict.fromkeys(CURVES, values))
    return table.assign(
        **{f"{y}_low": values - 0.5 for y in BANDED}, **{f"{y}_high": values + 0.5 for y in BANDED}
    )


CURVE_TABLE = pd.concat([curve("dcp", [0, 0.5, 1]), curve("rs", [0, 0.01]), curve("label", [math.nan])])


@pytest.mark.parametrize("y", CURVES)
def test_strength_curves_overlay_defenses_with_their_marks_and_bands(y: str):
    figure = strength_curves(CURVE_TABLE, y)
    traces = named(figure)
    assert list(traces["DCP"].x) == [0, 0.5, 1]
    assert list(traces["DCP"].y) == [1, 1.5, 2]
    assert traces["RS"].marker.symbol == "square"
    assert traces["RS"].line.dash == "dash"
    assert list(traces["Label only"].x) == [0]
    assert titles(figure) == ("strength (each defense's own parameter)", CURVES[y])
    bands = [name for name in traces if "95 % band" in name]
    assert bands == (["DCP, 95 % band", "RS, 95 % band"] if y in BANDED else [])
    if bands:
        band = traces[bands[0]]
        assert list(band.y) == [1.5, 2, 2.5, 1.5, 1, 0.5]
        assert list(band.x) == [0, 0.5, 1, 1, 0.5, 0]
        assert band.fillcolor == "rgba(225,84,43,0.18)"


def test_strength_curves_mark_the_current_strength():
    assert not strength_curves(CURVE_TABLE, "l1").layout.shapes
    figure = strength_curves(CURVE_TABLE, "l1", current=0.7)
    assert figure.layout.shapes[0].x0 == figure.layout.shapes[0].x1 == 0.7
    assert figure.layout.annotations[0].text == "now 0.7"


def test_a_defense_alone_gives_its_name_to_the_axis():
    assert titles(strength_curves(curve("dcp", [0, 1]), "l1"))[0] == "strength of DCP"


def test_strength_curves_can_share_the_l1_axis():
    figure = strength_curves(CURVE_TABLE, "changed", x="l1")
    assert list(named(figure)["RS"].x) == [1, 2]
    assert titles(figure)[0] == CURVES["l1"]


def test_describe_strength_curves_gives_both_ends():
    text = describe_strength_curves(CURVE_TABLE, "defender_error")
    assert "owner's test error (%)" in text
    assert "DCP from 1.00 to 2.00" in text


def test_l1_distribution_shows_the_unchanged_share_as_a_step_and_where_the_mean_lies():
    l1 = np.array([0, 5e-4, 0, 1.2, 1.6])  # three unchanged; mean .5601, where no answer is
    figure = l1_distribution({"dcp": l1, "label": np.full(4, 0.8)})
    step, mean = figure.data[:2]
    assert step.name == "DCP: 60 % unchanged, mean 0.56"
    assert step.line.shape == "hv"
    assert (step.x[0], step.y[0], step.x[1], step.y[1]) == (0, 0, 0, 60)
    assert step.y[-1] == 100
    assert step.x[-1] == pytest.approx(1.6)
    assert mean.x[0] == pytest.approx(0.5601)
    assert mean.y[0] == 60
    assert named(figure)["Label only: 0 % unchanged, mean 0.80"].y[1] == 0
    assert titles(figure) == ("l1 distance of an answer (0 to 2)", "answers with at most this l1 (%)")


def test_touched_means_the_same_as_in_the_metrics():
    assert l1_distribution.__defaults__ == describe_l1_distribution.__defaults__ == (TOUCHED,)


def test_describe_l1_distribution_names_the_two_groups():
    text = describe_l1_distribution({"dcp": np.array([0, 0, 0, 1.2, 1.6]), "none": np.zeros(3)})
    assert text == (
        "DCP leaves 60 % of answers unchanged, the others move by 1.40 in the median (mean l1 0.56); "
        "No defense leaves 100 % of answers unchanged (mean l1 0.00)."
    )


def test_no_figure_brings_a_template_of_its_own():
    for figure in (strength_curves(CURVE_TABLE, "l1"), l1_distribution({"dcp": np.ones(3)})):
        assert figure.layout.template == go.Figure().layout.template
