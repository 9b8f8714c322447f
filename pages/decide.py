"""Recommends a defense from measured results: whether to deploy one, which one, and what it does not stop."""

import pandas as pd
import streamlit as st

from dcp_core import ui
from dcp_core.data.datasets import DATASETS, thief_knowledge
from dcp_core.defenses import Defense
from dcp_core.models import zoo
from dcp_core.plots.decision import describe_gains, gains
from dcp_core.plots.style import mark_of
from dcp_core.results.constraints import limits
from dcp_core.results.decision import Needs, label_only, measured_cases, undefended
from dcp_core.results.pairing import difference
from dcp_core.results.table3 import measurements
from dcp_core.results.verdict import KEPT, SCALE, Verdict, decide
from dcp_core.runs.spec import defense_command

ui.frame("Decide", "Should I deploy a defense, and which?")

THIEVES = {"knowledgeable": "like yours", "limited": "other", "data-free": "none"}
SENT = {"all": "probabilities", "label": "the label only"}
PLACES = {"server": "server", "edge": "edge device, one file"}
ICONS = {
    "yes": ":material/verified_user:",
    "no": ":material/do_not_disturb_on:",
    "cannot tell": ":material/help:",
}


def knowledge(case: pd.DataFrame) -> str:
    """One of `THIEVES`: the kind of pictures that the thief of a measured case sends."""
    dataset, pool = case["dataset"].iloc[0], case["queries_from"].iloc[0]
    return thief_knowledge(dataset, None if pd.isna(pool) else pool)


def choose_case(cases: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Let the user choose the measured case that is most similar to the user's own."""
    by_knowledge: dict[str, dict[str, pd.DataFrame]] = {}
    for name, case in cases.items():
        by_knowledge.setdefault(knowledge(case), {})[name] = case
    kinds = [kind for kind in THIEVES if kind in by_knowledge]
    kind = st.segmented_control(
        "The thief's pictures",
        kinds,
        default=kinds[0],
        required=True,
        key="d_thief",
        format_func=THIEVES.__getitem__,
        wrap=True,
        help="The pictures that the thief sends. like yours: of the kind that the victim was trained on. other: "
        "of another kind. none: the thief has no pictures and generates them (DFME, MAZE, DisGUIDE).",
        **ui.IN_URL,
    )
    near = by_knowledge[kind]
    name = st.selectbox("Measured case most similar to yours", list(near), key=f"d_case_{kind}", **ui.IN_URL)
    st.caption(f"{ui.plain(name)}.")
    return near[name]


def questions() -> Needs:
    """The requirements and limits of the owner."""
    sent = st.segmented_control(
        "What do your customers need?",
        list(SENT),
        default="all",
        required=True,
        key="d_sent",
        format_func=SENT.__getitem__,
        wrap=True,
        **ui.IN_URL,
    )
    place = st.segmented_control(
        "Where does the model run?",
        list(PLACES),
        default="server",
        required=True,
        key="d_place",
        format_func=PLACES.__getitem__,
        wrap=True,
        **ui.IN_URL,
    )
    rise = st.slider(
        "Your own error may rise by at most (percentage points)",
        0.0,
        10.0,
        1.0,
        0.25,
        "%g",
        key="d_increase",
        **ui.IN_URL,
    )
    l1_of = ui.choose_l1("d_l1_of")
    l1 = st.slider(
        "The mean l1 may be at most",
        0.0,
        2.0,
        0.9,
        0.05,
        key="d_l1",
        help="The l1 distance says how far an answer moves. 0: not at all; 2: all probability goes to other classes.",
        disabled=sent == "label",
        **ui.IN_URL,
    )
    return Needs(rise, l1, place == "edge", l1_of, sent == "label")


def answer(verdict: Verdict) -> None:
    """The headline of the verdict, its level on the scale, and the reasons."""
    box = {"yes": st.success, "no": st.warning, "cannot tell": st.info}[verdict.answer]
    box(f"**{ui.plain(verdict.headline)}**", icon=ICONS[verdict.answer])
    if verdict.level:
        steps = (f":blue-badge[**{each}**]" if each == verdict.level else f":gray-badge[{each}]" for each in SCALE)
        st.markdown(" ".join(steps), help="; ".join(f"{level}: {meaning}" for level, meaning in SCALE.items()))
    st.markdown("\n".join(f"- {ui.plain(line)}" for line in verdict.why))


def every_defense(case: pd.DataFrame, verdict: Verdict, needs: Needs) -> None:
    """What each defense adds to the thief's error within the limits."""
    known = verdict.table["gain"].notna()
    if known.any():
        labels = label_only(case)
        above = None if labels is None else difference(labels, undefended(case).iloc[0]).mean
        st.markdown(
            "**What each defense adds to the thief's error within your limits**, at its best measured strength"
        )
        figure = gains(verdict.table, above, limits([needs.increase], needs.l1, needs.l1_of))
        ui.chart(figure, key="gains", alt=describe_gains(verdict.table, above), data=verdict.table)
        st.caption(
            "Filled marks: the thief who trusts the answers, with the 95 % interval of the differences, paired by "
            "seed. Open marks: the best measured thief against the same defense, if it is another one. Dotted lines: "
            f"0, and what an API adds that sends labels only. {KEPT}"
        )
    left_out = verdict.table[~known]
    if len(left_out):
        reasons = "; ".join(f"{mark_of(row.defense).label}: {row.why_not}" for row in left_out.itertuples())
        st.caption(f"Left out: {reasons}.")


def price(victim: str, defense: str) -> None:
    """Latency and second network of the recommended defense, if they were measured."""
    found = measurements(ui.all_results()[0], victim)
    rows = next(iter(found.values()), ui.all_results()[0][:0])
    name = mark_of(defense).label
    ours = rows[(rows["defense"] == defense) & (rows["implementation"] == "here")]
    if ours.empty:
        st.markdown(f"**Cost of an answer:** not measured for {name} on this victim. The page Cost measures it.")
        return
    times = " and ".join(f"×{row.latency_ratio:.2f} (batch {row.batch})" for row in ours.itertuples())
    second = ours["second_network"].dropna()
    beside = f", and needs a second network ({second.iloc[0]})" if len(second) else ""
    st.markdown(
        f"**Cost of an answer:** with {name}, an answer takes {times} the time without a defense{beside}. Measured on "
        f"{ours['hardware'].iloc[0]}."
    )


def published(dataset: str) -> None:
    """The paper's numbers for the same data set."""
    rows, _ = ui.all_results()
    bounds = rows[
        (rows["source"] == "paper") & (rows["dataset"] == dataset) & (rows["max_defender_increase"] == 1)
    ]
    errors = bounds.set_index("defense")["adversary_error"].dropna()
    if {"none", "dcp"} <= set(errors.index):
        others = errors.drop(["none", "dcp"])
        best = others.idxmax()
        st.caption(
            f"For comparison, the error of the thief in the **paper** on {DATASETS[dataset].title} (Table II; owner's "
            f"error up by at most 1 point, l1 ≤ 0.9): {errors['none']:.1f} % without a defense, {errors['dcp']:.1f} % "
            f"with DCP, {others[best]:.1f} % with the best other defense ({mark_of(best).label})."
        )


def take_it(card: zoo.Card, made: Defense) -> None:
    """Links and commands that use the recommended defense."""
    st.markdown("**Use this defense**")
    with st.container(horizontal=True):
        lab = {**ui.victim_state(card, "a_"), **ui.defense_state(made, "a_")}
        ui.link("playground", "On one picture", "tune", **ui.victim_state(card), **ui.defense_state(made))
        if made.strength:
            carried = {**ui.victim_state(card, ui.TRADEOFFS), **ui.defense_state(made, ui.TRADEOFFS)}
            ui.link("tradeoffs", "Over the whole test set", "balance", **carried)
        ui.link("attack_lab", "Try to steal it", "science", **lab)
        if made.in_one_file():
            file = {**ui.victim_state(card, "q_"), **ui.defense_state(made, "q_")}
            ui.link("quantized", "Export it as one file", "memory", **file)
    actions = ["serve", "export"] if made.in_one_file() else ["serve"]
    st.code(
        "\n".join(defense_command(action, card.name, made) for action in actions), language="bash", wrap_lines=True
    )


cases = measured_cases(ui.thief_points())
if not cases:
    st.info(
        "There are no results of attacks on this machine. To measure some, run `python -m dcp_core reproduce "
        "signs-defenses`."
    )
    st.stop()
side, main = st.columns([1, 2.4], gap="medium")
with side:
    case = choose_case(cases)
    needs = questions()
with main, ui.errors_explained():
    verdict = decide(case, needs)
    answer(verdict)
    if len(verdict.table):
        every_defense(case, verdict, needs)
    if verdict.not_stopped:
        st.markdown(
            "**What it will not stop**\n\n" + "\n".join(f"- {ui.plain(line)}" for line in verdict.not_stopped)
        )
    victim = case["victim"].iloc[0]
    if verdict.defense:
        if not needs.label_only:
            price(victim, verdict.defense.name)
        if victim in zoo.names():
            take_it(zoo.card(victim), verdict.defense)
    published(case["dataset"].iloc[0])
    st.caption(
        "These numbers were measured with this software on small victims and clones, not on your model. The name of "
        "the case lists its conditions. On your model, the errors will differ, and the order of the defenses may "
        "differ. A stronger thief has a smaller error, with and without a defense."
    )
