"""Recommends a defense from measured results: whether to deploy one, which one, and what it does not stop."""

import pandas as pd
import streamlit as st

from dcp_core import ui
from dcp_core.data.datasets import DATASETS, thief_knowledge
from dcp_core.defenses import Defense
from dcp_core.models import zoo
from dcp_core.plots.decision import (
    describe_gains,
    describe_thief_against_owner,
    gains,
    point_name,
    thief_against_owner,
)
from dcp_core.plots.style import CLEAN, HIGHLIGHT, mark_of
from dcp_core.results.constraints import limits
from dcp_core.results.decision import Needs, kept, label_only, measured_cases, undefended
from dcp_core.results.pairing import difference
from dcp_core.results.table3 import measurements
from dcp_core.results.verdict import KEPT, SCALE, Verdict, decide, zones
from dcp_core.runs.spec import defense_command

ui.frame("Decide", "Should I deploy a defense, and which?")

THIEVES = {"knowledgeable": "like yours", "limited": "other", "data-free": "none"}
SENT = {"all": "probabilities", "label": "the label only"}
PLACES = {"server": "server", "edge": "edge device, one file"}
COLORS = {"yes": "green", "no": "red", "cannot tell": "orange"}


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
        "Which pictures could a thief send?",
        kinds,
        default=kinds[0],
        required=True,
        key="d_thief",
        format_func=THIEVES.__getitem__,
        wrap=True,
        help="like yours: of the kind that the model was trained on. other: of another kind. none: the thief has no "
        "pictures and generates them (DFME, MAZE, DisGUIDE).",
        **ui.IN_URL,
    )
    near = by_knowledge[kind]
    name = st.selectbox("Which measured attack is most like it?", list(near), key=f"d_case_{kind}", **ui.IN_URL)
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
        "How many more wrong answers in 100 can you accept?",
        0.0,
        10.0,
        1.0,
        0.25,
        "%g",
        key="d_increase",
        **ui.IN_URL,
    )
    l1 = st.slider(
        "How far may the probabilities move? (mean l1)",
        0.0,
        2.0,
        0.9,
        0.05,
        key="d_l1",
        help="The l1 distance says how far an answer moves. 0: not at all; 2: all probability goes to other classes.",
        disabled=sent == "label",
        **ui.IN_URL,
    )
    l1_of = ui.choose_l1("d_l1_of")
    return Needs(rise, l1, place == "edge", l1_of, sent == "label")


def answer(verdict: Verdict) -> None:
    """The answer in large type, and what it means for the thief and for the owner, in a sentence."""
    word, rest = verdict.headline.split(": ", 1)
    st.markdown(f"## :{COLORS[verdict.answer]}[{word}:] {ui.plain(rest)}")
    if verdict.summary:
        st.markdown(ui.plain(verdict.summary))


def thief_against_you(case: pd.DataFrame, verdict: Verdict) -> None:
    """Draw the share of the model that the best thief keeps, without a defense and with it, over the levels."""
    if verdict.undefended is None:
        return
    shares = [("your model", 1.0, CLEAN), ("best thief, no defense", verdict.undefended, HIGHLIGHT)]
    row, labels = verdict.about, label_only(case)
    if row is not None:
        name = point_name(row["defense"], row["strength"])
        shares.append((f"best thief, behind {name}", row["share"], mark_of(row["defense"]).color))
    if labels is not None:
        shares.append(("thief who gets labels only", kept(labels), CLEAN))
    ui.chart(
        thief_against_owner(shares, zones(verdict.undefended)),
        key="thief-against-you",
        alt=describe_thief_against_owner(shares, verdict.level),
        data=pd.DataFrame([(name, share) for name, share, _ in shares], columns=["who", "share"]),
    )
    with st.expander("How the scale is made", icon=":material/straighten:"):
        st.caption(KEPT)
        st.caption("\n".join(f"- **{level}**: {meaning}" for level, meaning in SCALE.items()))


def reasons(verdict: Verdict) -> None:
    """The reasons for the answer."""
    st.markdown("**Why**\n\n" + "\n".join(f"- {ui.plain(line)}" for line in verdict.why))


def every_defense(case: pd.DataFrame, verdict: Verdict, needs: Needs) -> None:
    """Draw what each defense adds to the thief's error within the limits."""
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
            "Filled marks: the thief who trusts the answers (trains on them as they are), with the 95 % interval of the "
            "differences, paired by seed. Open marks: the best measured thief against the same defense, if it is another "
            "one. Dotted lines: "
            f"0, and what an API that sends labels only adds. {KEPT}"
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
main, side = st.columns([2.4, 1], gap="medium")  # on a phone, the answer comes first
with side:
    case = choose_case(cases)
    needs = questions()
with main, ui.errors_explained():
    verdict = decide(case, needs)
    answer(verdict)
    thief_against_you(case, verdict)
    reasons(verdict)
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
    if victim in zoo.names() and zoo.card(victim).source:
        about = f"These numbers were measured with this software on {ui.plain(victim)}, which was added by you."
    else:
        about = (
            "These numbers were measured with this software on small victims and clones, not on your model. On your model, "
            "the errors will differ, and the order of the defenses may differ."
        )
    st.caption(
        f"{about} The name of the case lists its conditions. A stronger thief has a smaller error, with and without a "
        "defense."
    )
