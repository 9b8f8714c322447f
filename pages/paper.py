"""The paper's tables beside our measurements, and the origin of every number."""

import pandas as pd
import streamlit as st

from dcp_core import plots, ui
from dcp_core.plots.style import mark_of
from dcp_core.plots.tables import ADDED, ERROR_BARS, TABLE2
from dcp_core.results.constraints import added, l1_limit, table2
from dcp_core.results.rows import paper_table1, settings
from dcp_core.runs.experiment import names

ui.frame("Paper", "How do these results compare with the published ones?")

st.markdown(
    "Khaled, Dhaouadi, Gohring de Magalhães and Nicolescu, *Efficient Defense Against Model Stealing Attacks on "
    "Convolutional Neural Networks*. What is marked **paper** is copied from it cell by cell; what is marked "
    "**measured** was made by this code, and its row says how."
)
rows, problems = ui.all_results()
for problem in problems:
    st.warning(str(problem), icon=":material/report:")


def label(defense: str) -> str:
    """A defense's name as the figures write it."""
    return mark_of(defense).label


st.subheader("Table II: the thief under two constraints", anchor=False)
bounds = rows[rows["max_defender_increase"].notna()]
dataset = st.segmented_control(
    "Victim's data",
    sorted(bounds["dataset"].unique()),
    default="cifar10",
    required=True,
    key="paper_data",
    **ui.IN_URL,
)
points = ui.thief_points()
points = points[(points["dataset"] == dataset) & points["max_defender_increase"].isna()]
groups = settings(points)
setting = st.selectbox("Our thief", list(groups), key="paper_setting", **ui.IN_URL) if groups else None
left, right = st.columns(2)
with left:
    l1_of = ui.choose_l1("paper_l1_of")
ours = table2(groups[setting] if setting else points, (1.0, 2.0, 5.0), 0.9, l1=l1_of)
cells = pd.concat([bounds[bounds["dataset"] == dataset], ours], ignore_index=True)
with right:
    what = ui.select(
        "Quantity",
        TABLE2,
        "paper_what",
        help="A weak thief has a large error, with and without a defense. What the defense adds to it can be compared "
        "across conditions.",
    )
cells = added(cells) if what == ADDED else cells
figure = plots.table2_bars(cells, what, l1_limit(0.9, l1_of))
ui.chart(figure, key="table2", alt=plots.describe_table2(cells, what), data=cells)
wide = cells.assign(defense=cells["defense"].map(label)).pivot_table(
    index="defense", columns=["source", "max_defender_increase"], values="adversary_error", sort=False
)
wide.columns = [f"{source}, Δ ≤ {increase:g}" for source, increase in wide.columns]
for increase in ("1", "2", "5"):
    mine, theirs = (f"{source}, Δ ≤ {increase}" for source in ("measured", "paper"))
    if mine in wide and theirs in wide:
        wide[f"measured − paper, Δ ≤ {increase}"] = wide[mine] - wide[theirs]
st.dataframe(wide.round(2), alt=f"Table II: {what} for each defense and allowed increase")
st.caption(
    "From the largest error of the thief's clone in percent, with the owner's error up by at most Δ percentage points on "
    f"the test set and {l1_limit(0.9, l1_of)}; of the strengths measured, none in between. The paper does not say "
    f"which l1 it limits; its released code takes the thief's queries. Error bars: {ERROR_BARS[what]}; the paper gives none."
)
if points.empty:
    st.info(f"No thief of ours has been measured on {dataset} yet, so there are no deltas to show.")
    if f"table2-{dataset}" in names():
        st.code(f"python -m dcp_core reproduce table2-{dataset}", language="bash")
else:
    if gaps := plots.table2_gaps(ours):
        st.caption(f"No number of ours: {gaps}")
    st.markdown(
        "**Why ours differ.** Each row says its conditions. What moves the numbers most: fewer queries and epochs (a "
        "weaker thief errs more, defended or not, which *what the defense adds* takes out); other "
        "networks; fewer strengths of which the best is taken; the final clone instead of the best epoch; and how "
        "confident the victim is, which decides what an uncertainty detector touches."
    )

st.subheader("Table III: latency and energy", anchor=False)
costs = rows.dropna(subset=["latency_ms"])
costs = costs[costs["batch"].isna() | ((costs["batch"] == 64) & (costs["implementation"] == "here"))]
quantity = st.segmented_control(
    "Quantity",
    ["latency_ms", "energy_wh"],
    default="latency_ms",
    required=True,
    key="paper_quantity",
    format_func={"latency_ms": "latency per query", "energy_wh": "energy for all queries"}.__getitem__,
    **ui.IN_URL,
)
ui.chart(plots.cost_dots(costs, quantity), key="table3", alt=plots.describe_cost(costs, quantity), data=costs)
st.dataframe(
    costs.assign(defense=costs["defense"].map(label)).pivot_table(
        index="defense", columns=["source", "dataset"], values=quantity, sort=False
    ),
    alt=f"Table III: {quantity} of each defense on each data set",
)
st.caption(
    "The paper timed published implementations on a Tesla P100, with the time of a batch divided by the number of "
    "strengths it was computed for; MAD and GRAD² can be computed exactly and far faster than that."
)
ui.link("cost", "Both ways of computing them, measured", "timer")

st.subheader("Table I: what each defense needs", anchor=False)
table1 = paper_table1()
st.dataframe(
    table1.assign(defense=table1["defense"].map(label)).rename(columns=lambda name: name.replace("_", " ")),
    hide_index=True,
    alt="Table I: DCP is fast, needs no auxiliary model and perturbs little; each other defense lacks one of these",
)

st.subheader("Where paper and released code disagree", anchor=False)
st.markdown(
    """
- **Which answers are perturbed.** Eq. 4 as printed perturbs *confident* answers (y_max > τ); the prose and the released
  code perturb *uncertain* ones. Ours follows prose and code; the printed form is an option. With β swept to 1.5 and τ
  following, the printed form stops being a defense above about 1.01, and the coded one becomes RS.
- **Odds.** The released code caps y/(1−y) at 1, so classes above ½ are never lowered themselves. Option `cap odds`.
- **Networks.** The released "ResNet-18/34" for small pictures are ResNet-20/32 (0.27 and 0.47 million parameters).
- **DFME and MAZE.** The released scripts let the thief's generator see undefended answers. Here every answer is defended.
- **Thief's error.** Released DFME/MAZE figures take the best epoch on the test set; ours take the final clone.
- **QAT.** The released quantization-aware training trains nothing and fake-quantises nothing.
- **Latency.** Released times are divided by the number of strengths, which makes a defended query look cheap.
"""
)

st.subheader("Every row of precomputed results", anchor=False)
left, right = st.columns(2)
source = left.segmented_control(
    "Source", ["all", "paper", "measured"], default="all", required=True, key="paper_source", **ui.IN_URL
)
text = right.text_input(
    "Contains", key="paper_contains", help="Keeps rows in which any cell contains this text.", **ui.IN_URL
)
shown = rows if source == "all" else rows[rows["source"] == source]
if text:
    hit = shown.astype(str).apply(lambda column: column.str.contains(text, case=False, regex=False)).any(axis=1)
    shown = shown[hit]
st.dataframe(shown.dropna(axis=1, how="all"), hide_index=True, alt=f"{len(shown)} result rows with their origin")
ui.csv(shown, "results", f"CSV of {len(shown)} rows")
