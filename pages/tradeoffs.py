"""What a defense costs its owner on a whole test set, and how it changes the thief's error."""

import dataclasses
import json

import numpy as np
import pandas as pd
import streamlit as st
import torch

from dcp_core import plots, ui
from dcp_core.costs.hidden_costs import second_network_words
from dcp_core.defenses import DEFENSES, Defense, make_defense
from dcp_core.evaluation.curves import tradeoff_curve
from dcp_core.evaluation.metrics import TOUCHED, per_answer
from dcp_core.evaluation.sentences import about_tradeoff
from dcp_core.models import zoo
from dcp_core.plots.curves import CURVES
from dcp_core.plots.tables import ADDED, ERROR_BARS, TABLE2
from dcp_core.plots.thief import THIEF, THIEF_AXES, placed
from dcp_core.results.constraints import L1, L1_DEFAULT, added, l1_limit, limits, pareto_front, table2
from dcp_core.results.facts import about_thief, what_defenses_add
from dcp_core.results.overview import along, best_along, best_thieves, least_behind, levels, strongest_case

ui.frame("Trade-offs", "What does protection cost over a whole test set?")

RISE, MOVE = (0.0, 10.0, 0.25), (0.0, 2.0, 0.05)  # sliders of the two limits: lowest, highest, step
SWEPT = [name for name, kind in DEFENSES.items() if kind.strength]
FIRST = ["source", "defense", "strength", "adversary_error", "adversary_error_std", "runs", "defender_error", "l1"]


@st.cache_resource(max_entries=256, show_spinner="Measuring ...")
def grid_curve(victim: str, description: str, _defense: Defense, _guide: torch.Tensor | None) -> pd.DataFrame:
    """One defense's curve over its grid; `description` is all that the result depends on."""
    return _curve(victim, _defense, _defense.grid, _guide)


@st.cache_resource(max_entries=64, show_spinner=False)
def l1_of(victim: str, description: str, _defense: Defense, _guide: torch.Tensor | None) -> np.ndarray:
    """l1 of every answer of the test set, (N,)."""
    logits, _ = ui.test_answers(victim)
    answers = _defense(logits=logits, guide=_guide, generator=torch.Generator().manual_seed(0))
    return per_answer(answers, logits.softmax(-1)).l1.numpy()


def _curve(
    victim: str, defense: Defense, strengths: tuple[float, ...], guide: torch.Tensor | None
) -> pd.DataFrame:
    logits, labels = ui.test_answers(victim)
    generator = torch.Generator().manual_seed(0)
    return tradeoff_curve(defense, logits, labels, strengths, guide=guide, generator=generator)


def curve_of(victim: str, defense: Defense, guide: torch.Tensor | None) -> pd.DataFrame:
    """A defense's curve over its grid, and at its present strength. Only the last point depends on the slider."""
    assert defense.strength is not None
    settings = repr(dataclasses.replace(defense, **{defense.strength: defense.grid[-1]}))
    curve = grid_curve(victim, settings, defense, guide)
    if _strength(defense) in curve["strength"].to_numpy():
        return curve
    return pd.concat([curve, _curve(victim, defense, (_strength(defense),), guide)]).sort_values("strength")


def _strength(defense: Defense) -> float:
    assert defense.strength is not None
    return float(getattr(defense, defense.strength))


@st.fragment
def owners_side(card: zoo.Card) -> None:
    """Live curves over the victim's stored answers and along measured thieves, the chosen defense against others."""
    side, main = st.columns([1, 3.6], gap="medium")
    with side:
        defense = ui.choose_defense(SWEPT, ui.TRADEOFFS)
        others = st.multiselect(
            "Compare with", SWEPT, ["rs"], key="beside", format_func=lambda n: DEFENSES[n].title, **ui.IN_URL
        )
        y = ui.select("What it costs", CURVES, "cost")
        over = st.segmented_control(
            "Horizontal axis of the cost",
            ["strength", "l1"],
            default="strength",
            required=True,
            key="against",
            format_func={"strength": "strength", "l1": "mean l1"}.__getitem__,
            **ui.IN_URL,
        )
        follow = ui.live_switch(ui.TRADEOFFS) if ui.experts() else True
        if words := second_network_words(defense, card.name):
            st.caption(words)
        ui.link(
            "playground",
            "Use this setting on one picture",
            "tune",
            **ui.victim_state(card),
            **ui.defense_state(defense),
        )
    with main, ui.errors_explained():
        defense = ui.learned(defense, card.name)
        shown = {defense: ui.guide_of(defense, card.name)}
        for name in others:
            shown |= {} if name == defense.name else _guided(DEFENSES[name](), card)
        curves = pd.concat([curve_of(card.name, *each) for each in shown.items()], ignore_index=True)
        case = strongest_case(ui.thief_points(), card.name, defense.name)
        _cost(card, defense, curves, case, follow)
        left, right = st.columns(2)
        with left:
            _cost_curves(defense, curves, over if over != y else "strength", y, follow)
        with right:
            _thiefs_curves(defense, list(shown), case, follow)
        st.caption(
            f"Left: measured now on {card.title}'s {card.test_pictures:,} stored test answers; bands are 95 % "
            "intervals from the size of the test set. Right: clones of the best attack that was measured against this "
            "defense. If a thief who knows the defense, or who uses labels only, was measured and did better than the one "
            "who trusts the answers (trains on them as they are), the best one has its own line. Between two measured "
            "clones, the point is on the straight line; a hollow point is outside the measured range. The other defenses "
            "have their default parameters."
        )
        with st.expander("How far each answer moves", icon=":material/bar_chart:"):
            moved = {each.name: l1_of(card.name, repr(each), each, guide) for each, guide in shown.items()}
            ui.chart(
                plots.l1_distribution(moved, TOUCHED),
                key="l1",
                alt=plots.describe_l1_distribution(moved, TOUCHED),
                data=pd.DataFrame(moved),
            )


def _guided(defense: Defense, card: zoo.Card) -> dict[Defense, torch.Tensor | None]:
    """A defense to draw beside the chosen one, with its guide. If it cannot be drawn, only the reason is shown."""
    try:
        return {ui.learned(defense, card.name): ui.guide_of(defense, card.name)}
    except ValueError as error:
        st.info(ui.plain(error), icon=":material/visibility_off:")
        return {}


def _cost(card: zoo.Card, defense: Defense, curves: pd.DataFrame, case: pd.DataFrame | None, follow: bool) -> None:
    """The chosen operating point: a sentence and numbers."""
    own = curves[curves["defense"] == defense.name]
    undefended, measured = 100 - (card.test_accuracy or 0), ui.thief_points()[:0] if case is None else case
    now = own[own["strength"] == _strength(defense)].iloc[0]
    effect = about_tradeoff(defense, now, undefended, least_behind(measured, defense))
    if not follow:
        st.markdown(ui.plain(effect))
        with st.container(horizontal=True):
            st.metric("mean l1, 0 to 2", f"{now.l1:.3f}")
            st.metric("Owner's error", f"{now.defender_error:.2f} %", f"undefended {undefended:.2f} %")
            st.metric("Answers changed", f"{now.touched:.1f} %")
            st.metric("Top classes changed", f"{now.changed:.2f} %")
        return
    sliders = ui.strength_slider(defense, own["strength"].tolist(), ui.TRADEOFFS)
    panels = ui.cost_panels(defense, own, undefended, measured, next(iter(sliders)))
    ui.live(panels, sliders, key="t_cost", announcement=effect)


def _cost_curves(defense: Defense, curves: pd.DataFrame, x: str, y: str, follow: bool) -> None:
    """Draw the owner's costs against the strength."""
    own = curves[curves["defense"] == defense.name]
    sliders = ui.strength_slider(defense, own["strength"].tolist(), ui.TRADEOFFS)
    alt = plots.describe_strength_curves(curves, y)
    ui.live_chart(
        [ui.curve_panel(defense, curves, x, y, next(iter(sliders)), alt)],
        sliders,
        key="curves",
        alt=alt,
        figure=plots.strength_curves(curves, y, x=x, current=_strength(defense) if x == "strength" else None),
        data=curves,
        follow=follow,
    )


def _thiefs_curves(defense: Defense, shown: list[Defense], case: pd.DataFrame | None, follow: bool) -> None:
    """Draw the clone's error at each strength, for the best measured attack."""
    lines = {} if case is None else {each: line for each in shown if len(line := along(case, each))}
    if case is None or defense not in lines:
        st.info(
            f"No thief was measured against {defense.title} with these parameters on this victim.",
            icon=":material/pending:",
        )
        return
    best = best_along(case, lines[defense])
    points = pd.concat([*lines.values(), best]).drop_duplicates("id")
    sliders = ui.strength_slider(defense, lines[defense]["strength"].tolist(), ui.TRADEOFFS)
    alt = plots.describe_thief_scatter(points, "l1")
    ui.live_chart(
        [ui.thief_panel(defense, lines, best, levels(case), next(iter(sliders)), alt)],
        sliders,
        key="clone",
        alt=alt,
        figure=plots.thief_scatter(points, "l1", levels=levels(case)),
        data=points,
        follow=follow,
    )


@st.fragment
def thiefs_side(card: zoo.Card) -> None:
    """One measured thief, and the paper's, under the reader's own constraints."""
    st.subheader("Effect on the thief", anchor=False)
    for problem in ui.all_results()[1]:
        st.warning(ui.plain(problem), icon=":material/report:")
    everything = ui.thief_points()
    known = sorted(everything["dataset"].unique())
    first, second, third = st.columns(3)
    with first:
        dataset = _choose_data(known, card)
    with second:
        axis = ui.select("Horizontal axis", THIEF_AXES, "axis", L1_DEFAULT)
    with third:
        what = ui.select("Vertical axis", TABLE2, "attainable", THIEF)
    here = everything[everything["dataset"] == dataset]
    measured = here[here["source"] == "measured"]
    of_victim = measured[measured["victim"] == card.name]
    if measured.empty:
        _say_what_is_missing(card, dataset)
    shown = measured if of_victim.empty else of_victim
    thief = ui.choose_thief(shown, axis)
    first, second, third = st.columns(3)
    with first:
        allowed = st.slider(
            "Owner's error may rise by at most (percentage points)",
            RISE[0],
            RISE[1],
            1.0,
            RISE[2],
            "%g",
            key="increase",
            **ui.IN_URL,
        )
    with second:
        l1 = st.slider("The mean l1 may be at most", MOVE[0], MOVE[1], 0.9, MOVE[2], key="budget", **ui.IN_URL)
    with third:
        l1_of = ui.choose_l1("l1_of")
    if not thief.empty and axis != "budget":
        st.markdown(f"**{ui.plain(about_thief(thief, allowed, l1, l1_of))}**")
    bounds = here[here["max_defender_increase"].notna()]
    if axis == "increase":
        ui.limit_on_plot("thief", "increase", *RISE)
    elif axis == l1_of:
        ui.limit_on_plot("thief", "budget", *MOVE)
    scatter(
        thief,
        bounds,
        axis,
        what,
        {"increase": allowed, l1_of: l1}.get(axis),
        best_thieves(shown),
    )
    best_attainable(bounds, thief, what, allowed, l1, l1_of)


def _choose_data(known: list[str], card: zoo.Card) -> str:
    """Let the user choose the data set whose results are shown. At first it is that of the chosen victim."""
    if st.session_state.setdefault("t_data_follows", card.dataset) != card.dataset:
        st.session_state["t_data_follows"] = card.dataset
        if card.dataset in known:
            st.session_state["t_data"] = card.dataset
    start = card.dataset if card.dataset in known else known[0]
    return st.selectbox("Victim's data", known, known.index(start), key="t_data", **ui.IN_URL)


def _say_what_is_missing(card: zoo.Card, dataset: str) -> None:
    steps = f"python -m dcp_core attack --victim {card.name} --pool textures --defense dcp --beta 0.9 --seed 0"
    if dataset != card.dataset:
        steps = (
            f"python -m dcp_core data download {dataset}\npython -m dcp_core train --data {dataset} --network "
            f"resnet20\n{steps.replace(card.name, f'{dataset}-resnet20')}"
        )
    st.info(
        f"No thief of ours has been measured on **{dataset}** yet. The open marks are the paper's Table II: the best "
        "point under each constraint, not where it lies. This measures one; its result appears here by itself:",
        icon=":material/pending:",
    )
    st.code(steps, language="bash", wrap_lines=True)


def scatter(
    thief: pd.DataFrame,
    bounds: pd.DataFrame,
    axis: str,
    what: str,
    limit: float | None,
    references: dict[str, float],
) -> None:
    """The thief's error or its rise, and the table of the points that are selected in the chart."""
    if what == ADDED:
        thief, bounds, references = what_defenses_add(thief), added(bounds), {"no defense": 0.0}
    points = pd.concat([thief, bounds], ignore_index=True)
    trusted = placed(thief[~thief["unreliable"].astype(bool)], axis)
    front = (
        pareto_front(trusted, ["x"]) if axis != "budget" else None
    )  # a front over several thieves has no meaning
    selection = ui.chart(
        plots.thief_scatter(points, axis, limit=limit, y=what, front=front, levels=references),
        key="thief",
        alt=plots.describe_thief_scatter(points, axis, what),
        data=points,
        select=True,
    )
    st.caption(
        "Higher and further left is better for the owner. Filled marks: measured by this code, mean over seeds; error bars: "
        f"{ERROR_BARS[what]}. Open marks: from the paper. Faint marks: unreliable; the hover text says why. Click a "
        "mark to select it, with Shift for several, or take the box of the chart's toolbar; a double click selects all. "
        "Drag the number on the blue line to change the limit."
    )
    selected = _selected(points, selection)
    some = len(selected) < len(points)
    with st.expander(f"{'Selected' if some else 'All'} points ({len(selected)})", expanded=some):
        table = selected[[*FIRST, *(name for name in selected if name not in FIRST)]].dropna(axis=1, how="all")
        st.dataframe(table.round(3), hide_index=True, alt=f"{len(selected)} result rows with their origin")
        ui.csv(selected, "points", "CSV of these points")
        if len(selected) == 1:
            _use(selected.iloc[0])
        elif some:
            st.caption("Select a single point to use it in the Playground.")


def _selected(points: pd.DataFrame, selection) -> pd.DataFrame:
    """The rows behind the marks that were selected; all of them without a selection."""
    picked = selection["selection"]["points"] if selection else []
    ids = {_id(point.get("customdata")) for point in picked}
    found = points["id"].isin(ids)
    return points[found] if found.any() else points


def _id(custom) -> str:
    if isinstance(custom, dict):
        custom = list(custom.values())
    return str(custom[0]) if custom else ""


def _use(row: pd.Series) -> None:
    """A link that opens the Playground at a measured point's parameters."""
    if row["source"] != "measured":
        st.caption("The paper does not give the parameters of this point, so the Playground cannot show it.")
        return
    try:
        defense = make_defense(row["defense"], **json.loads(row["parameters"]))
    except ValueError as error:
        st.caption(f"This point cannot be tried here: {ui.plain(error)}.")
        return
    victim = ui.victim_state(zoo.card(row["victim"])) if row["victim"] in zoo.names() else {}
    ui.link("playground", "Use this point in the Playground", "tune", **victim, **ui.defense_state(defense))


def best_attainable(
    bounds: pd.DataFrame, thief: pd.DataFrame, what: str, allowed: float, l1: float, l1_of: L1
) -> None:
    """Table II under the reader's constraints."""
    increases = sorted({1.0, 2.0, 5.0, allowed})
    st.markdown(f"**Best attainable thief error**: {limits(increases, l1, l1_of)}")
    mode = "discrete"
    if len(thief) and ui.experts():
        mode = st.segmented_control(
            "Between measured points",
            ["discrete", "piecewise"],
            default="discrete",
            required=True,
            key="mode",
            help="'discrete' takes measured points only; 'piecewise' also the straight line between neighbours.",
            **ui.IN_URL,
        )
    paper = bounds[np.isclose(bounds["max_l1"].astype(float), l1)]
    ours = table2(thief, increases, l1, mode, l1=l1_of) if len(thief) else bounds[:0]
    cells = pd.concat([paper, ours], ignore_index=True)
    if cells.empty:
        st.caption(
            "No reliable point lies within these limits. The paper's table is for its own data and l1 ≤ 0.9."
        )
        return
    cells = added(cells) if what == ADDED else cells
    figure = plots.table2_bars(cells, what, l1_limit(l1, l1_of))
    ui.chart(figure, key="table2", alt=plots.describe_table2(cells, what), data=cells)
    st.caption(f"Error bars: {ERROR_BARS[what]}.")
    if reasons := plots.table2_gaps(ours):
        st.caption(f"No bar: {reasons}")


with st.container(horizontal=True, vertical_alignment="bottom"):
    victim = ui.choose_victim(ui.TRADEOFFS)
owners_side(victim)
thiefs_side(victim)
