"""An engineer's questions, answered from what was measured: deploy a defense, which, and what it will not stop."""

import json

import pandas as pd
import streamlit as st

from dcp_core import ui
from dcp_core.data.datasets import DATASETS, thief_knowledge
from dcp_core.defenses import IN_ONE_FILE, Defense, LabelOnly, make_defense
from dcp_core.models import zoo
from dcp_core.plots.decision import describe_gains, gains, point_name
from dcp_core.plots.style import mark_of
from dcp_core.results.decision import (
    AS_IS,
    Needs,
    as_good,
    cleverer,
    difference,
    label_only,
    measured_cases,
    operating_points,
    recommended,
    undefended,
)
from dcp_core.results.table3 import measurements
from dcp_core.runs.spec import defense_command

ui.frame("Decide", "Should I deploy a defense, and which?")

THIEVES = {"knowledgeable": "like yours", "limited": "others", "data-free": "none"}
SENT = {"all": "probabilities", "label": "the label"}
PLACES = {"server": "server", "edge": "edge, one file"}


def knowledge(case: pd.DataFrame) -> str:
    """One of `THIEVES`: what the thief of a measured case asks about."""
    dataset, pool = case["dataset"].iloc[0], case["queries_from"].iloc[0]
    return thief_knowledge(dataset, None if pd.isna(pool) else pool)


def choose_case(cases: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The measured case that is nearest to the reader's."""
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
        help="Pictures of the kind that the victim was trained on, pictures of another kind, or none: then he makes "
        "his own (DFME, MAZE).",
        **ui.IN_URL,
    )
    near = by_knowledge[kind]
    name = st.selectbox("Measured case nearest to yours", list(near), key=f"d_case_{kind}", **ui.IN_URL)
    st.caption(f"{name}.")
    return near[name]


def questions() -> tuple[str, Needs]:
    """What is sent, and what its owner can bear."""
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
        "Where does it run?",
        list(PLACES),
        default="server",
        required=True,
        key="d_place",
        format_func=PLACES.__getitem__,
        wrap=True,
        **ui.IN_URL,
    )
    rise = st.slider(
        "Your own error may rise by", 0.0, 10.0, 1.0, 0.25, "%g points", key="d_increase", **ui.IN_URL
    )
    l1 = st.slider(
        "Customers' answers may move by (mean l1)",
        0.0,
        2.0,
        0.9,
        0.05,
        key="d_l1",
        help="0: not at all; 2: all of the probability goes elsewhere. On test pictures, as customers send them.",
        disabled=sent == "label",
        **ui.IN_URL,
    )
    return sent, Needs(rise, l1, place == "edge")


def error_of(point: pd.Series) -> str:
    """A thief's error with what is known of its scatter."""
    spread = point["adversary_error_std"]
    over = f" ± {spread:.1f}" if pd.notna(spread) else ""
    return f"{point['adversary_error']:.1f}{over} %"


def interval(low: float, high: float) -> str:
    """An interval in words; empty if it is not known."""
    return "" if pd.isna(low) else f" (95 % interval over seeds {low:+.1f} to {high:+.1f})"


def answer_for_labels(case: pd.DataFrame) -> None:
    """Customers need the label alone: then nothing else should be sent."""
    labels, bare = label_only(case), undefended(case).iloc[0]
    st.success(
        "**Send the label alone.** What is not sent cannot leak, and customers lose nothing.",
        icon=":material/label:",
    )
    if labels is None:
        st.markdown(
            f"Undefended, this thief errs in {error_of(bare)}. What labels alone leave him is not measured for this "
            "case: on Attack lab, *What the thief does* → top-1 against *No defense* measures it."
        )
    else:
        gain, low, high = difference(labels, bare)
        st.markdown(
            f"Measured: from all probabilities this thief's clone errs in {error_of(bare)}, from labels alone in "
            f"{error_of(labels)}: {gain:+.1f} points{interval(low, high)}."
        )
    st.markdown(
        "**What it does not stop.** The labels themselves: with more queries a thief learns from them too. A defense that "
        "perturbs probabilities adds nothing to an API that sends none."
    )
    if bare["victim"] in zoo.names():
        show_commands(bare["victim"], LabelOnly())


def answer(case: pd.DataFrame, needs: Needs) -> pd.Series | None:
    """The recommendation, and what every defense buys within the limits."""
    table, bare = operating_points(case, needs), undefended(case).iloc[0]
    best = recommended(table)
    gained = table["gain"].notna()
    if best is None and (table.empty or (gained.any() and table["gain_low"].isna().all())):
        st.warning(
            "**One seed is not enough.** Nothing tells what the defenses do here from chance: launch the same runs with "
            "two more seeds in Attack lab.",
            icon=":material/casino:",
        )
    elif best is None:
        st.warning(
            "**No defense pays here.** None that was measured raises this thief's error, within your limits, by more than "
            f"the seeds alone would. Undefended it errs in {error_of(bare)}.",
            icon=":material/do_not_disturb_on:",
        )
    else:
        made = defense_of(best)
        at = f", {made.parameters()[made.strength].symbol} = {best['strength']:g}" if made.strength else ""
        st.success(
            f"**{made.title}{at}.** It takes this thief from {error_of(bare)} to "
            f"{error_of(best)}: **{best['gain']:+.1f} points**{interval(best['gain_low'], best['gain_high'])}. You pay "
            f"{best['increase']:.2f} points of your own error, and customers' answers move by a mean l1 of "
            f"{best['l1']:.2f}.",
            icon=":material/verified_user:",
        )
        if len(rivals := as_good(table, best)):
            names = ", ".join(map(point_name, rivals["defense"], rivals["strength"]))
            st.caption(f"The seeds cannot tell it from {names}: let the costs decide.")
    if gained.any():
        st.markdown("**What each defense buys within your limits**, at its best measured strength")
        ui.chart(gains(table), key="gains", alt=describe_gains(table), data=table)
    left_out = table[~gained]
    if len(left_out):
        reasons = "; ".join(f"{mark_of(row.defense).label}: {row.why_not}" for row in left_out.itertuples())
        st.caption(f"Left out: {reasons}.")
    return best


def defense_of(point: pd.Series) -> Defense:
    """The defense of a measured point."""
    return make_defense(point["defense"], **json.loads(point["parameters"]))


def limits(case: pd.DataFrame, best: pd.Series) -> None:
    """What the chosen point does not stop, with numbers where they were measured."""
    bare = undefended(case).iloc[0]
    lines = [
        f"A thief who does more than trust the answers (*{row['thief']}*) errs in **{error_of(row)}** behind this very "
        "defense."
        for _, row in cleverer(case, best).iterrows()
    ]
    if not lines:
        others = case[(case["thief"] != AS_IS) & (case["defense"] != "none")]
        elsewhere = "; ".join(
            f"*{row['thief']}* behind {point_name(row['defense'], row['strength'])}: {error_of(row)}"
            for _, row in others.iterrows()
        )
        lines.append(
            "A thief who keeps the **top class** of each answer, or knows the defense and inverts it: not measured at this "
            f"point{f', but in this case: {elsewhere}' if elsewhere else ', nor in this case'}."
        )
    if (labels := label_only(case)) is not None:
        lines.append(
            f"Labels alone, undefended, leave this thief at {error_of(labels)} ({error_of(bare)} from all "
            "probabilities): where a defense keeps the top class, that bounds what it can do against whoever knows."
        )
    budget = bare["budget"]
    lines.append(
        f"**More queries.** This thief had {budget:,}. Limits on queries, terms of use and watching accounts belong beside "
        "any defense."
    )
    st.markdown("**What it will not stop**\n\n" + "\n".join(f"- {line}" for line in lines))


def price(victim: str, best: pd.Series) -> None:
    """Latency and second networks, where they were measured."""
    found = measurements(ui.all_results()[0], victim)
    rows = next(iter(found.values()), ui.all_results()[0][:0])
    name = mark_of(best["defense"]).label
    ours = rows[(rows["defense"] == best["defense"]) & (rows["implementation"] == "here")]
    if ours.empty:
        st.markdown(
            f"**What an answer costs** is not measured for {name} on this victim; page Cost does it with a button."
        )
        return
    times = " and ".join(f"×{row.latency_ratio:.2f} (batch {row.batch})" for row in ours.itertuples())
    second = ours["second_network"].dropna()
    beside = f", and a second network ({second.iloc[0]}) beside the victim" if len(second) else ""
    st.markdown(
        f"**What an answer costs:** {name} takes {times} the time of no defense{beside}. {ours['hardware'].iloc[0]}."
    )


def published(dataset: str) -> None:
    """What the paper says of a full-size thief of the same data."""
    rows, _ = ui.all_results()
    bounds = rows[
        (rows["source"] == "paper") & (rows["dataset"] == dataset) & (rows["max_defender_increase"] == 1)
    ]
    errors = bounds.set_index("defense")["adversary_error"].dropna()
    if {"none", "dcp"} <= set(errors.index):
        others = errors.drop(["none", "dcp"])
        best = others.idxmax()
        st.caption(
            f"The paper's full-size thief of {DATASETS[dataset].title} (**paper**, Table II, owner's error up by at most 1 "
            f"point, l1 ≤ 0.9): undefended {errors['none']:.1f} %, behind DCP {errors['dcp']:.1f} %, behind the best other "
            f"({mark_of(best).label}) {others[best]:.1f} %."
        )


def take_it(card: zoo.Card, made: Defense) -> None:
    """From the decision to the thing itself."""
    st.markdown("**Take it**")
    with st.container(horizontal=True):
        lab = {"a_victim": card.title, **ui.defense_state(made, "a_")}
        ui.link("playground", "On one answer", "tune", victim=card.title, **ui.defense_state(made))
        carried = {"t_victim": card.title, **ui.defense_state(made, ui.TRADEOFFS)}
        ui.link("tradeoffs", "Over the whole test set", "balance", **carried)
        ui.link("attack_lab", "Try to steal it", "science", **lab)
        if made.name in IN_ONE_FILE:
            ui.link(
                "quantized", "Export it as one file", "memory", q_victim=card.title, **ui.defense_state(made, "q_")
            )
    show_commands(card.name, made)


def show_commands(victim: str, made: Defense) -> None:
    """What serves it, and what puts it into a file."""
    actions = ["serve", "export"] if made.name in IN_ONE_FILE else ["serve"]
    lines = [defense_command(action, victim, made) for action in actions]
    st.code("\n".join(lines), language="bash", wrap_lines=True)


cases = measured_cases(ui.thief_points())
if not cases:
    st.info(
        "No thief has been measured on this machine, and none came along: run  python -m dcp_core reproduce signs-defenses"
    )
    st.stop()
side, main = st.columns([1, 2.4], gap="medium")
with side:
    case = choose_case(cases)
    sent, needs = questions()
with main, ui.errors_explained():
    if sent == "label":
        answer_for_labels(case)
    else:
        best = answer(case, needs)
        if best is not None:
            limits(case, best)
            price(best["victim"], best)
            if best["victim"] in zoo.names():
                take_it(zoo.card(best["victim"]), defense_of(best))
    published(case["dataset"].iloc[0])
    st.caption(
        "Measured by this code on small victims and thieves (the case's name says which), not on yours: it ranks defenses, "
        "and does not promise errors. A stronger thief errs less, defended or not."
    )
