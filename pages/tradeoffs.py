"""A whole test set: what a defense costs its owner, and what it does to the thief."""

import json

import pandas as pd
import streamlit as st
import torch

from dcp_core import plots, results, ui
from dcp_core.defenses import DEFENSES, Defense
from dcp_core.evaluation.constraints import pareto_front, table2
from dcp_core.evaluation.curves import tradeoff_curve
from dcp_core.evaluation.metrics import TOUCHED, per_answer
from dcp_core.models.zoo import Card
from dcp_core.plots.tradeoffs import CURVES, THIEF_AXES

ui.frame("Trade-offs", "What does protection cost over a whole test set?")

SWEPT = [name for name, kind in DEFENSES.items() if kind.strength and not kind.needs_inputs]


@st.cache_data(max_entries=256, show_spinner="Measuring ...")
def curve_of(victim: str, description: str, _defense: Defense, seed: int) -> pd.DataFrame:
    """One defense's curve; `description` is all that the result depends on."""
    logits, labels = ui.test_answers(victim)
    generator = torch.Generator().manual_seed(seed)
    return tradeoff_curve(
        _defense, logits, labels, sorted({*_defense.grid, _strength(_defense)}), generator=generator
    )


@st.cache_data(max_entries=64, show_spinner=False)
def l1_of(victim: str, description: str, _defense: Defense, seed: int):
    """l1 of every answer of the test set, (N,)."""
    logits, _ = ui.test_answers(victim)
    answers = _defense(logits=logits, generator=torch.Generator().manual_seed(seed))
    return per_answer(answers, logits.softmax(-1)).l1.numpy()


def _strength(defense: Defense) -> float:
    assert defense.strength is not None
    return float(getattr(defense, defense.strength))


def owners_side(card: Card, defense: Defense, others: list[str]) -> None:
    """Live curves over the victim's stored answers, the chosen defense against others."""
    shown = [defense, *(DEFENSES[name]() for name in others if name != defense.name)]
    curves = pd.concat([curve_of(card.name, repr(each), each, 0) for each in shown], ignore_index=True)
    now = curves[(curves["defense"] == defense.name) & (curves["strength"] == _strength(defense))].iloc[0]
    clean = 100 - (card.test_accuracy or 0)
    st.markdown(
        f"**{defense.title}** at {defense.parameters()[defense.strength or ''].symbol} = {_strength(defense):g}: "
        f"owner's error **{now.defender_error:.2f} %** ({now.defender_error_low:.2f} to "
        f"{now.defender_error_high:.2f}; undefended {clean:.2f} %) · mean l1 **{now.l1:.3f}** · "
        f"answers touched **{now.touched:.1f} %** · top classes changed **{now.changed:.2f} %** · "
        f"ECE **{now.ece:.1f}** points",
        help="95 % intervals come from the number of test pictures alone (Wilson).",
    )
    left, right = st.columns(2)
    with left:
        y = st.selectbox("What it costs", list(CURVES), key="cost", format_func=CURVES.__getitem__, **ui.IN_URL)
        over = st.segmented_control(
            "against",
            ["strength", "l1"],
            default="strength",
            required=True,
            key="against",
            format_func={"strength": "strength", "l1": "mean l1"}.__getitem__,
            **ui.IN_URL,
        )
        x = over if over != y else "strength"
        ui.chart(
            plots.strength_curves(curves, y, x=x, current=_strength(defense) if x == "strength" else None),
            key="curves",
            alt=plots.describe_strength_curves(curves, y),
            data=curves,
        )
    with right:
        st.markdown("**Few answers lie near the mean:** how far each answer moves, at each defense's setting")
        moved = {each.name: l1_of(card.name, repr(each), each, 0) for each in shown}
        ui.chart(
            plots.l1_distribution(moved, TOUCHED),
            key="l1",
            alt=plots.describe_l1_distribution(moved, TOUCHED),
            data=pd.DataFrame(moved),
        )
    st.caption(
        f"Measured now on {card.title}'s {card.test_pictures:,} stored test answers; bands are 95 % intervals from "
        "the size of the test set. Defenses drawn beside the chosen one have their default parameters."
    )


def thiefs_side(card: Card) -> None:
    """Measured thieves, and the paper's, under the reader's own constraints."""
    st.subheader("What it does to the thief", anchor=False)
    rows, problems = ui.all_results()
    for problem in problems:
        st.warning(str(problem), icon=":material/report:")
    rows = rows.dropna(subset=["adversary_error"])
    known = sorted(rows["dataset"].unique())
    first, second, third, fourth = st.columns(4)
    with first:
        start = known.index(card.dataset) if card.dataset in known else known.index("cifar10")
        dataset = st.selectbox("Victim's data", known, start, key="t_data", **ui.IN_URL)
    with second:
        axis = st.selectbox("Thief against", list(THIEF_AXES), key="axis", format_func=THIEF_AXES.get, **ui.IN_URL)
    with third:
        allowed = st.slider(
            "owner's error may rise by (points)", 0.0, 10.0, 1.0, 0.25, key="increase", **ui.IN_URL
        )
    with fourth:
        l1 = st.slider("l1 budget", 0.0, 2.0, 0.9, 0.05, key="budget", **ui.IN_URL)
    here = rows[rows["dataset"] == dataset]
    measured = here[here["source"] == "measured"]
    if measured.empty:
        st.info(
            f"No thief of ours has been measured on **{dataset}** yet: the open marks are the paper's Table II, which "
            "gives the best point under each constraint and not where it lies. To measure one, run  "
            f"`python -m dcp_core attack --help`; results appear here by themselves.",
            icon=":material/pending:",
        )
    points = results.over_seeds(here)
    exact = points[points["max_defender_increase"].isna()]
    front = pareto_front(exact.assign(increase=exact["defender_error"] - exact["victim_error"]), ["increase"])
    limit = {"increase": allowed, "l1": l1, "l1_queries": l1}.get(axis)
    selection = ui.chart(
        plots.thief_scatter(points, axis, limit=limit, front=front if axis == "increase" and len(front) else None),
        key="thief",
        alt=plots.describe_thief_scatter(points, axis),
        data=points,
        select=True,
    )
    chosen = _selected(points, selection)
    st.caption("Filled: measured by this code (mean ± one standard deviation over seeds). Open: the paper's.")
    with st.expander(
        f"{'Selected' if len(chosen) < len(points) else 'All'} points ({len(chosen)})", expanded=True
    ):
        st.dataframe(
            chosen.dropna(axis=1, how="all"), hide_index=True, alt=f"{len(chosen)} result rows with their origin"
        )
        ui.csv(chosen, "points", "CSV of these points")
        if len(chosen) == 1:
            _use(chosen.iloc[0])

    st.markdown(
        f"**Best attainable thief error** with the owner's error up by at most Δ points and mean l1 ≤ {l1:g}"
    )
    mode = "discrete"
    if ui.experts():
        mode = st.segmented_control(
            "between measured points",
            ["discrete", "piecewise"],
            default="discrete",
            required=True,
            key="mode",
            help="'discrete' takes measured points only; 'piecewise' also the straight line between neighbours.",
            **ui.IN_URL,
        )
    paper = here[here["max_defender_increase"].notna() & (l1 == here["max_l1"])]
    groups = results.settings(exact)
    setting = st.selectbox("Thief", list(groups), key="setting", **ui.IN_URL) if len(groups) > 1 else None
    compared = groups[setting] if setting else exact
    ours = table2(compared, sorted({1.0, 2.0, 5.0, allowed}), l1, mode=mode)
    cells = pd.concat([paper, ours], ignore_index=True)
    if cells.empty:
        st.caption("Nothing measured here, and the paper gives its table for an l1 budget of 0.9 alone.")
    else:
        ui.chart(plots.table2_bars(cells), key="table2", alt=plots.describe_table2(cells), data=cells)


def _selected(points: pd.DataFrame, selection) -> pd.DataFrame:
    """The rows behind the marks that were box-selected; all of them without a selection."""
    picked = selection["selection"]["points"] if selection else []
    ids = {_id(point.get("customdata")) for point in picked}
    return points[points["id"].isin(ids)] if ids else points


def _id(custom) -> str:
    if isinstance(custom, dict):
        custom = list(custom.values())
    return str(custom[0]) if custom else ""


def _use(row: pd.Series) -> None:
    """A link that opens the Playground at a measured point's parameters."""
    kind = DEFENSES.get(row["defense"])
    if kind is None or pd.isna(row.get("parameters")):
        return
    defense = kind(**json.loads(row["parameters"]))
    ui.link("playground", "Use this operating point", "tune", **ui.defense_state(defense))


side, main = st.columns([1, 3.4], gap="medium")
with side:
    victim = ui.choose_victim(ui.TRADEOFFS)
    chosen_defense = ui.choose_defense(SWEPT, ui.TRADEOFFS)
    beside = st.multiselect(
        "Beside it",
        SWEPT,
        ["rs", "random"],
        key="beside",
        format_func=lambda n: DEFENSES[n].title,
        **ui.IN_URL,
    )
    ui.link(
        "playground",
        "On one answer",
        "tune",
        victim=victim.name,
        **ui.defense_state(chosen_defense),
    )
with main, ui.errors_explained():
    owners_side(victim, chosen_defense, beside)
thiefs_side(victim)
