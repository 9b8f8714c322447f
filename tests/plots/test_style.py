import pandas as pd
import plotly.graph_objects as go
import pytest

from dcp_core.plots.overview import accuracy_bars
from dcp_core.plots.style import SIZE, enlarged
from dcp_core.results import overview


def test_a_figure_for_a_projector_has_large_text_and_room_for_it() -> None:
    table = pd.DataFrame({"who": [overview.VICTIM, overview.CLONE], "accuracy": [93.0, 91.0], "std": float("nan")})
    figure = accuracy_bars(table)
    figure.update_layout(margin={"t": 84}, annotations=[{"text": "a name above the plot", "yshift": 70}])
    large = enlarged(figure, 22)
    for axis in (large.layout.xaxis, large.layout.yaxis):
        assert (axis.tickfont.size, axis.title.font.size, axis.automargin) == (22, 22, True)
    assert large.layout.font.size == large.layout.legend.font.size == large.data[0].textfont.size == 22
    assert (large.layout.margin.t, large.layout.annotations[0].yshift) == pytest.approx(
        (84 * 22 / 14, 70 * 22 / 14)
    )
    assert large.layout.height > figure.layout.height
    assert figure.layout.font.size == SIZE["size"]
    assert figure.data[0].textfont.size == 16


def test_numbers_in_a_grid_and_on_its_colour_bar_are_large_on_a_projector() -> None:
    grid = {"type": "heatmap", "z": [[1.0]], "colorbar": {"title": {"text": "points"}}}
    large = enlarged(go.Figure([grid, {"type": "scatter", "x": [0], "y": [0], "mode": "text", "text": ["1"]}]), 22)
    assert large.data[0].colorbar.title.text == "points"
    assert large.data[0].colorbar.title.font.size == large.data[0].colorbar.tickfont.size == 22
    assert large.data[1].textfont.size == 22
