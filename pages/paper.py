"""The paper's tables beside our measurements, and the origin of every number."""

import re

import pandas as pd
import streamlit as st

from dcp_core import plots, ui
from dcp_core.plots.style import mark_of
from dcp_core.plots.tables import ADDED, ERROR_BARS, TABLE2, TABLE3_COSTS
from dcp_core.results.constraints import added, beside_paper, l1_limit, strongest, strongest_first, table2
from dcp_core.results.rows import paper_table1, settings
from dcp_core.results.table3 import ratios
from dcp_core.runs.experiment import names

ui.frame("Paper", "How do these results compare with the published ones?")

st.markdown(
    "Khaled, Dhaouadi, Gohring de Magalhães and Nicolescu, *Efficient Defense Against Model Stealing Attacks on "
    "Convolutional Neural Networks*. Numbers marked **paper** are copied from it. Numbers marked **measured** were "
    "measured with this software; their rows say how."
)
rows, problems = ui.all_results()
for problem in problems:
    st.warning(ui.plain(problem), icon=":material/report:")


def label(defense: str) -> str:
    """A defense's name as the figures write it."""
    return mark_of(defense).label


st.subheader("Table II: the thief under two constraints", anchor=False)
bounds = rows[rows["max_defender_increase"].notna()]
all_points = ui.thief_points()
all_points = all_points[all_points["max_defender_increase"].isna()]
left, right = st.columns(2)
with left:
    l1_of = ui.choose_l1("paper_l1_of")
with right:
    what = ui.select(
        "Quantity",
        TABLE2,
        "paper_what",
        help="The error of a weak thief is large with and without a defense. What a defense adds to the error can be "
        "compared between thieves.",
    )


def cells_of(victim_data: str, points: pd.DataFrame) -> pd.DataFrame:
    """Table II for the victims of one data set: the paper's rows and ours, as the chosen quantity."""
    ours = table2(points, (1.0, 2.0, 5.0), 0.9, l1=l1_of).assign(dataset=victim_data)
    both = pd.concat([bounds[bounds["dataset"] == victim_data], ours], ignore_index=True)
    return added(both) if what == ADDED else both


grid, columns = [], {}
for name, published in bounds.groupby("dataset"):
    known = settings(all_points[all_points["dataset"] == name])
    best = strongest(known)
    grid.append(cells_of(name, known[best] if best else all_points[:0]))
    columns[name] = f"{name} ← {published['queries_from'].iloc[0]}"
whole = beside_paper(pd.concat(grid, ignore_index=True))
with st.container(key="table2_wide"):
    ui.chart(
        plots.table2_grid(whole, columns), key="table2_grid", alt=plots.describe_table2_grid(whole), data=whole
    )
st.caption(
    "In each cell: **ours**, above the paper's number. Ours is that of our strongest thief for this data set that was "
    "measured with three seeds and trains on the answers as they are; a thief who uses only the top class can do better "
    "(page Decide). Each "
    f"number is the largest among the strengths that meet both limits: the owner's error, and {l1_limit(0.9, l1_of)}. "
    "A dash: not measured, or no strength meets the limits."
)

st.subheader("One victim's data, and each of our thieves", anchor=False)
dataset = st.segmented_control(
    "Victim's data",
    sorted(bounds["dataset"].unique()),
    default="cifar10",
    required=True,
    key="paper_data",
    **ui.IN_URL,
)
points = all_points[all_points["dataset"] == dataset]
groups = settings(points)
setting = st.selectbox("Our thief", strongest_first(groups), key="paper_setting", **ui.IN_URL) if groups else None
ours = table2(groups[setting] if setting else points, (1.0, 2.0, 5.0), 0.9, l1=l1_of)
cells = cells_of(dataset, groups[setting] if setting else points)
figure = plots.table2_bars(cells, what, l1_limit(0.9, l1_of))
ui.chart(figure, key="table2", alt=plots.describe_table2(cells, what), data=cells)
st.caption(
    "Each number is that of the measured strength with the largest error of the thief's clone, among the strengths "
    "that meet both limits: the owner's error on the test set rises by at most Δ percentage points, and "
    f"{l1_limit(0.9, l1_of)}. The paper does not say for which answers its l1 limit holds; its released code uses the "
    f"thief's queries. Error bars: {ERROR_BARS[what]}. The paper gives none."
)
if points.empty:
    st.info(f"No thief of ours has been measured on {dataset} yet, so the paper's numbers cannot be compared.")
    if f"table2-{dataset}" in names():
        st.code(f"python -m dcp_core reproduce table2-{dataset}", language="bash")
else:
    if gaps := plots.table2_gaps(ours):
        st.caption(f"Not measured or outside the limits: {gaps}")
    st.markdown(
        """
**Why our numbers differ from the paper's.** Each row lists its conditions. These differences change the numbers most:

- Our thieves send fewer queries and train for fewer epochs. A weaker thief has a larger error, with and without a defense.
  The quantity *what the defense adds* removes this effect.
- Victims and clones are other networks.
- Fewer strengths were measured, and the number is the best of them.
- We score the clone after its last epoch, not after the best one.
- DCP and AM change only answers of low confidence. How many these are depends on the victim.
"""
    )

st.subheader("Table III: latency and energy", anchor=False)
costs = rows.dropna(subset=["latency_ms"])
costs = costs[costs["batch"].isna() | ((costs["batch"] == 64) & (costs["implementation"] == "here"))]
costs = ratios(costs)
quantity = ui.select("Cost", TABLE3_COSTS, "paper_quantity")
ui.chart(plots.cost_dots(costs, quantity), key="table3", alt=plots.describe_cost(costs, quantity), data=costs)
st.caption(
    "Ratios to no defense on the same machine, because milliseconds of a Tesla P100 and of a laptop cannot be compared. "
    "The paper measured published implementations. It divided the time of a batch by the number of strengths that were "
    "computed at once. The same answers of MAD and GRAD² can be computed much faster."
)
ui.link("cost", "Compare both implementations on page Cost", "timer")

st.subheader("Table I: what each defense needs", anchor=False)
table1 = paper_table1()
st.dataframe(
    table1.assign(defense=table1["defense"].map(label)).rename(columns=lambda name: name.replace("_", " ")),
    hide_index=True,
    alt="Table I: DCP is fast, needs no auxiliary model and perturbs little; each other defense lacks one of these",
)

st.subheader("Where the paper and its released code differ", anchor=False)
st.markdown(
    """
- **Which answers DCP changes.** Equation 4 as printed changes *confident* answers (y_max > τ). The text of the paper and the
  released code change *uncertain* answers (y_max < τ). This software follows the text and the code; the printed form is an
  option. If τ is equal to β and β is raised above about 1.01, the printed form changes no answer, and the form of the
  code changes every answer, like RS.
- **Limit of the odds.** The released code limits the odds y/(1−y) to 1, so it never lowers a probability above ½ directly.
  Equation 6 has no such limit. This software has the option *Cap the odds*.
- **Networks.** The networks that the released code calls ResNet-18 and ResNet-34 for small pictures are ResNet-20 and
  ResNet-32, with 0.27 and 0.47 million parameters.
- **DFME and MAZE.** In the released scripts, the thief's generator gets undefended answers. Here, every answer is defended.
- **Error of the thief.** The released code of DFME and MAZE reports the epoch with the best test error. This software
  reports the clone after the last epoch.
- **Quantization-aware training (QAT).** The released script neither trains the network nor simulates rounding.
- **Latency.** The released code divides the time of a batch by the number of strengths computed at once. The result is
  smaller than the time of a defended query.
"""
)

st.subheader("All result rows", anchor=False)
left, right = st.columns(2)
source = left.segmented_control(
    "Source", ["all", "paper", "measured"], default="all", required=True, key="paper_source", **ui.IN_URL
)
text = right.text_input(
    "Contains",
    key="paper_contains",
    help="Keeps rows in which a word of any cell begins with this text.",
    **ui.IN_URL,
)
shown = rows if source == "all" else rows[rows["source"] == source]
if text:
    word = rf"(?<![a-z]){re.escape(text)}"
    hit = shown.astype(str).apply(lambda column: column.str.contains(word, case=False)).any(axis=1)
    shown = shown[hit]
st.dataframe(shown.dropna(axis=1, how="all"), hide_index=True, alt=f"{len(shown)} result rows with their origin")
ui.csv(shown, "results", f"CSV of {len(shown)} rows")
