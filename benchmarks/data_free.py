"""Draw the error of the thieves without data against their queries: `python -m benchmarks.data_free`.

The runs are those of the plan `fig3` with the most queries; `reproduce fig3 --courses precomputed/runs` makes them in about
an hour and a half of one core. This only draws their stored curves, in `docs/images/data_free.png`, with Chromium.
"""

import plotly.graph_objects as go

from benchmarks.picture import keep
from dcp_core.models import zoo
from dcp_core.plots import style
from dcp_core.runs import store

FEWEST = 300_000  # queries of a run that is drawn
COLORS = {"DFME": "#e1542b", "MAZE": "#2f8fd9"}


def figure(victim: str = "signs-resnet8") -> go.Figure:
    """Error over queries, one line for each shipped run with many queries."""
    drawn = go.Figure()
    for view in store.shipped():
        spec = view.spec
        if spec.victim == victim and spec.budget >= FEWEST:
            course = store.events(view.folder).dropna(subset=["error"])
            name = spec.make_attack().title
            line = {"color": COLORS[name]}
            drawn.add_scatter(x=course["queries"], y=course["error"], name=name, mode="lines+markers", line=line)
    card = zoo.card(victim)
    assert card.test_accuracy is not None
    guessing = 100 - 100 / len(card.classes)
    drawn.add_hline(guessing, line_dash="dot", annotation_text=f"guessing, {guessing:.1f} %")
    drawn.add_hline(
        100 - card.test_accuracy, line_dash="dot", annotation_text=f"the victim, {100 - card.test_accuracy:.1f} %"
    )
    drawn.update_yaxes(range=[0, 100])
    return style.polish(drawn, x="Queries", y="Clone's error, %", height=420).update_layout(
        template="plotly_white", font_size=14
    )


if __name__ == "__main__":
    keep(figure(), "data_free.png")
