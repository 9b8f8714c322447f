import pandas as pd
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
