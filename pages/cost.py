"""Table III: latency, energy and hidden costs of every defense, measured beside the paper's figures."""

import json
import time
from functools import partial

import pandas as pd
import streamlit as st
import torch

from dcp_core import ui
from dcp_core.costs import energy, hidden_costs
from dcp_core.costs.latency import CLOCKS
from dcp_core.models import zoo
from dcp_core.plots import cost as plots
from dcp_core.plots.style import mark_of
from dcp_core.provenance import hardware_words
from dcp_core.results.table3 import PAPER, measurements, table3
from dcp_core.runs import launch, store
from dcp_core.runs.describe import time_words
from dcp_core.runs.journal import add_to_results
from dcp_core.runs.spec import BenchSpec
from dcp_core.runs.store import RunView

ui.frame("Cost", "What does a defense cost per query?")

COST = "c_"  # before the names of this page's widgets
QUANTITIES = {
    "latency": "latency relative to no defense",
    "latency_ms": "latency (ms)",
    "energy": "energy relative to no defense",
}
CLOCK_WORDS = {"wall": "wall time", "processor": "processor time of one thread"}
NUMBER = st.column_config.NumberColumn(format="%.4g")


def choose_measurement(rows: pd.DataFrame, victim: str, views: list[RunView]) -> pd.DataFrame:
    """The rows of one measurement of this victim, by default the user's newest one; no rows if there is none."""
    begun = {f"bench-{view.key}.csv": view.created for view in views}
    found = measurements(rows, victim, begun)
    titles = {}
    for name, each in found.items():
        whose = "included" if name.startswith("precomputed/") else f"yours ({name.rpartition('-')[2][:4]})"
        titles[name] = f"{whose} · {each['date'].iloc[0]} · {hardware_words(each['hardware'].iloc[0])}"
    if not found:
        return rows[:0]
    key = f"c_measurement_{victim}"
    done = st.session_state.pop("c_done", "")
    for name in found:
        if done and name.endswith(f"bench-{done}.csv"):
            st.session_state[key] = name  # show a new measurement as soon as it is done
    return found[ui.select("Measurement", titles, key)]


def chart(card: zoo.Card, measured: pd.DataFrame, cells: pd.DataFrame) -> None:
    """The chart, and how its numbers were measured."""
    drawn = [name for name in QUANTITIES if cells[name].notna().any()]
    quantity = st.segmented_control(
        "Quantity",
        drawn,
        default="latency",
        required=True,
        key="c_quantity",
        format_func=QUANTITIES.__getitem__,
        wrap=True,
        **ui.IN_URL,
    )
    ui.chart(plots.costs(cells, quantity), key="costs", alt=plots.describe_costs(cells, quantity), data=cells)
    theirs = (
        "Open marks: the paper's values, measured on a Tesla P100 with 64 queries at once and divided by the number of "
        "strengths that were computed at once."
    )
    if measured.empty:
        st.info(
            f"The costs on {card.name} have not been measured yet. Use the button *Measure on this machine*, or run "
            f"`python -m dcp_core bench --victim {card.name}`."
        )
        st.caption(theirs)
        return
    first = measured.iloc[0]
    made = json.loads(first["versions"])
    versions = ", ".join(f"{name} {made[name]}" for name in ("python", "torch", "onnxruntime") if name in made)
    how = f"{first['engine']}, {CLOCK_WORDS[first['clock']]}, {hardware_words(first['hardware'])}"
    about = ui.plain(f"{card.title}: {how}; {versions}; {first['date']}; {first['where']}")
    st.caption(f"Filled marks: medians with 95 % intervals, measured on {about}. {theirs}")
    if pd.notna(first["reason"]):
        note = st.warning if first["unreliable"] else st.caption
        note(f"During this measurement, {ui.plain(first['reason'])}.")


def explained(cells: pd.DataFrame) -> str:
    """Explain why MAD and GRAD^2 are shown twice."""
    theirs = cells[cells["who"] == PAPER].set_index("defense")["latency_ms"]
    ratios = [f"{mark_of(name).label} ×{theirs[name] / theirs['dcp']:.3g}" for name in ("mad", "grad2")]
    return (
        "**Why MAD and GRAD² are shown twice.** Their published implementations differentiate automatically in a "
        f"loop over pictures and classes. The paper measured such implementations ({' and '.join(ratios)} of DCP's "
        "latency). The marks *as published* show a loop of this kind, measured here. This software computes the same "
        "answers with less work: MAD from one pass of the second network and a closed formula for the angles, GRAD² "
        "from one forward-mode derivative and a sort. So most of that factor is due to the implementation, not to "
        "the method."
    )


def latencies(cells: pd.DataFrame, batch: int) -> None:
    """A table of ratios to no defense, and of times in milliseconds."""
    st.subheader("Latency", anchor=False)
    table = plots.latency_table(cells)
    meaning = {
        "× no defense": "Time divided by the time without a defense, within one round; the median over the rounds.",
        "×, as published": "The same ratio for the loops of the published implementations, measured here.",
        "×, paper": "Computed from the times in the paper, which have two decimals; 64 queries at once.",
        "ms a query": "Median. With 64 queries at once: the time of the batch divided by 64.",
        "p95, ms": "95th percentile: one query in twenty takes longer.",
    }
    numbers = {
        name: st.column_config.NumberColumn(format="%.4g", help=meaning.get(name))
        for name in table.select_dtypes("number")
    }
    st.dataframe(
        table,
        hide_index=True,
        column_config=numbers,
        height="content",
        placeholder="",
        alt=f"Latency of each defense, {batch} at once: ratio to no defense, milliseconds, repeats",
    )
    ui.csv(cells, "table3", "CSV of all numbers")


def energies(measured: pd.DataFrame, paper: pd.DataFrame) -> None:
    """The energy of a query, or why it was not measured."""
    st.subheader("Energy", anchor=False)
    table = plots.energy_table(table3(measured, paper, 64))
    if len(table):
        numbers = dict.fromkeys(("mJ a query", "× no defense"), NUMBER)
        st.dataframe(
            table, hide_index=True, column_config=numbers, alt="Energy of a query for each defense, 64 at once"
        )
        st.caption(
            f"{measured['energy_method'].dropna().iloc[0]}; 64 queries at once, windows of {energy.WINDOW:g} s in random "
            "order. The energy that the idle machine uses, measured in the same round, is subtracted. The counter also "
            "includes the energy that other programs use on the same chip."
        )
        return
    try:
        gauge = energy.meter("cuda" if torch.cuda.is_available() else "cpu")
        st.info(
            f"The energy has not been measured yet. This machine can measure it while no other program runs "
            f"({gauge.method}): use the button *Measure on this machine*."
        )
    except energy.NoMeter as error:
        st.info(
            f"The energy cannot be measured on this machine: {error}. An estimate (time multiplied by an assumed power) is "
            "not shown, because it would only repeat the latencies."
        )


def hidden(card: zoo.Card, measured: pd.DataFrame) -> None:
    """The second networks of defenses, their training, and the memory of each defense."""
    st.subheader("Second networks, training and memory", anchor=False)
    found = hidden_costs.overview(card.name, measured)
    memory = found.filter(like="MB, ")
    table = pd.DataFrame(
        {
            "defense": found["defense"].map(lambda name: mark_of(name).label),
            "second network": found["kind"],
            "its parameters": found["parameters"],
            "its training": found.apply(training, axis=1),
            **memory,
        }
    ).dropna(axis=1, how="all")
    words = {
        "its training": st.column_config.TextColumn(width=330),
        "defense": st.column_config.TextColumn(width=150),
    }
    st.dataframe(
        table,
        hide_index=True,
        height="content",
        placeholder="",
        column_config=words | dict.fromkeys(memory, NUMBER),
        alt="Second network, its training and peak memory that each defense needs",
    )
    ui.csv(table, "hidden-costs")
    methods = measured["memory_method"].dropna().unique()
    st.caption(
        f"The victim has {card.parameters:,} parameters. "
        + (f"Memory: {methods[0]}." if len(methods) else "Memory has not been measured.")
    )


def training(needs: pd.Series) -> str:
    """Duration and data of the training of a second network, or how to make the network if it is missing."""
    if needs["kind"] == "missing":
        return str(needs["missing"])
    if not needs["seconds"] > 0:
        return ""
    return f"{time_words(needs['seconds'])} on {needs['data']} ({needs['hardware']})"


def start(victim: str, seconds: float, clock: str) -> None:
    """Queue a measurement with a seed that no measurement of this victim has yet."""
    taken = {view.spec.seed for view in measured_views(victim) if view.spec is not None}
    launch.launch([BenchSpec(victim, seconds, clock, min(set(range(len(taken) + 1)) - taken))])


def measured_views(victim: str) -> list[RunView]:
    """Measurements of this victim, the newest first."""
    return [view for view in store.benches() if view.spec is not None and view.spec.victim == victim]


def panel(victim: str, seconds: float, clock: str) -> None:
    """The button, and this victim's measurements. It is redrawn every second while one of them is running."""
    with ui.errors_explained():
        launch.start_workers()  # replaces workers that were killed
    views = measured_views(victim)
    busy = [view.key for view in views if view.active]
    st.button(
        "Measure on this machine",
        key="c_measure",
        type="primary",
        icon=":material/timer:",
        disabled=bool(busy) or not launch.allowed(),
        on_click=ui.attempt,
        args=(partial(start, victim, seconds, clock), COST),
        help="Runs in the background; you can close the page. First close other programs that use much processor time.",
    )
    for view in views:
        show(view)
    before = st.session_state.get("c_were_busy", [])
    if busy != before:
        st.session_state["c_were_busy"] = busy
        st.session_state["c_again"] = True
        for view in views:
            if view.key in before and view.state == "done" and view.spec is not None:
                add_to_results(view.spec, view.folder)  # its worker may not have done it yet
                st.session_state["c_done"] = view.key
    if st.session_state.pop("c_again", False):
        st.rerun()


def show(view: RunView) -> None:
    """One measurement: its state, and the buttons for it."""
    assert view.spec is not None
    with st.container(border=True, key=f"bench-{view.key}"):
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(view.created))
        st.markdown(f"**{view.state}** · {began} · `{view.key[:4]}` · {CLOCK_WORDS[view.spec.clock]}")
        if view.active:
            eta = f" · {time_words(view.eta)} to go" if view.eta is not None else ""
            st.progress(
                min(1.0, max(0.0, view.fraction)), f"{ui.plain(view.phase) or 'waiting in the queue'}{eta}"
            )
        elif view.message:
            st.caption(ui.plain(view.message))
        for name, reason in (view.result or {}).get("missing", {}).items():
            st.caption(f"{ui.plain(mark_of(name).label)} not measured: {ui.plain(reason)}")
        with st.container(horizontal=True, gap="small"):
            ui.run_buttons(view, COST, "Measure again :material/replay:", "this measurement and its rows")


rows, _ = ui.all_results()
paper = rows[(rows["source"] == "paper") & rows["latency_ms"].notna()]
if trouble := st.session_state.get("c_trouble"):
    st.error(ui.plain(trouble), icon=":material/error:")
main, side = st.columns([2.3, 1], gap="medium")
with side:
    ui.say_if_launching_is_off()
    card = ui.choose_victim(COST)
    batch = int(
        st.segmented_control(
            "Queries at once",
            ["1", "64"],
            default="64",
            required=True,
            key="c_batch",
            help="1: the time that one customer waits for one answer. 64: the batch size of Table III of the paper.",
            **ui.IN_URL,
        )
    )
    views = measured_views(card.name)
    measured = choose_measurement(rows, card.name, views)
    published = sorted(paper["dataset"].unique())
    known = card.dataset if card.dataset in published else "cifar10"
    dataset = st.selectbox(
        "Data set of the paper's values", published, published.index(known), key="c_paper", **ui.IN_URL
    )
    seconds, clock = 60.0, "wall"
    if ui.experts():
        seconds = st.slider(
            "Time limit of each measurement (seconds)",
            10,
            300,
            60,
            key="c_seconds",
            help="There are four measurements: 1 query and 64 queries at once, each with this software and as published. "
            "If the machine has an energy counter, measuring the energy takes a few minutes more.",
            **ui.IN_URL,
        )
        clock = st.segmented_control(
            "Clock",
            list(CLOCKS),
            default="wall",
            required=True,
            key="c_clock",
            help="wall: elapsed time. processor: time for which only this program computed, on one CPU thread. Use it if "
            "other programs run on this machine.",
            **ui.IN_URL,
        )
    st.fragment(panel, run_every=1.0 if any(view.active for view in views) else None)(
        card.name, float(seconds), clock
    )
cells = table3(measured, paper[paper["dataset"] == dataset], batch)
with main:
    chart(card, measured, cells)
    st.markdown(explained(cells))
latencies(cells, batch)
energies(measured, paper[paper["dataset"] == dataset])
hidden(card, measured)
with st.expander("How it is measured", icon=":material/help:"):
    st.markdown(
        """
- **Pictures.** Every defense answers the same pictures of random noise, with the default strength. The content of a picture
  does not change the time.
- **What is timed.** The time from pixels to posteriors, both in the memory of the device. It includes the victim's own
  forward pass. On a GPU, the clock is read after the GPU has finished (`torch.utils.benchmark`).
- **Order.** After a warm-up, the defenses and the undefended victim are timed in turns. Each round has a new random order.
  The slow loops *as published* have separate rounds.
- **Ratios.** Each ratio is computed within one round, so that other programs on the machine affect both times equally.
- **End.** A measurement ends when the 95 % interval of the median ratio is within ± 2 %, after 400 rounds, or at the time
  limit. The intervals are based on order statistics and assume no distribution.
- **Engine.** Victims and second networks run in eager torch, so that a ratio compares defenses and not runtimes. A
  quantized victim runs in ONNX Runtime, which is several times as fast, but its second networks run in torch. Therefore
  defenses with a second network have larger ratios on quantized victims.
- **Processor time.** It counts only the computation of this program. Other programs do not add to it, but they can slow it
  down, because they use the same caches and the same memory.
"""
    )
st.session_state.pop("c_trouble", None)  # at the end, because a run that is cut short by a rerun has not shown it
