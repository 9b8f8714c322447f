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
from dcp_core.results.table3 import PAPER, measurements, table3
from dcp_core.runs import launch, store
from dcp_core.runs.describe import time_words
from dcp_core.runs.journal import add_to_results
from dcp_core.runs.spec import BenchSpec
from dcp_core.runs.store import RunView

ui.frame("Cost", "What does it cost per query?")

COST = "c_"  # before the names of this page's widgets
QUANTITIES = {
    "latency": "latency relative to no defense",
    "latency_ms": "latency (ms)",
    "energy": "energy relative to no defense",
}
CLOCK_WORDS = {"wall": "wall time", "processor": "processor time of one thread"}
NUMBER = st.column_config.NumberColumn(format="%.4g")


def choose_measurement(rows: pd.DataFrame, victim: str, views: list[RunView]) -> pd.DataFrame:
    """One measurement of this victim, the newest of the user's own at first; no rows where there is none."""
    begun = {f"bench-{view.key}.csv": view.created for view in views}
    found = measurements(rows, victim, begun)
    titles = {}
    for name, each in found.items():
        whose = "shipped" if name.startswith("precomputed/") else f"yours ({name.rpartition('-')[2][:4]})"
        titles[name] = f"{whose} · {each['date'].iloc[0]} · {each['hardware'].iloc[0]}"
    if not found:
        return rows[:0]
    key = f"c_measurement_{victim}"
    done = st.session_state.pop("c_done", "")
    for name in found:
        if done and name.endswith(f"bench-{done}.csv"):
            st.session_state[key] = name  # a new one is shown when it is there
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
        **ui.IN_URL,
    )
    ui.chart(plots.costs(cells, quantity), key="costs", alt=plots.describe_costs(cells, quantity), data=cells)
    theirs = "The paper's marks (open) are of a Tesla P100, batch 64, divided by the number of strengths computed at once."
    if measured.empty:
        st.info(
            f"Nothing has been measured on {card.name} yet: the button does it, or  "
            f"`python -m dcp_core bench --victim {card.name}`"
        )
        st.caption(theirs)
        return
    first = measured.iloc[0]
    made = json.loads(first["versions"])
    versions = ", ".join(f"{name} {made[name]}" for name in ("python", "torch", "onnxruntime") if name in made)
    how = f"{first['engine']}, {CLOCK_WORDS[first['clock']]}, {first['hardware']}"
    about = ui.plain(f"{card.title}: {how}; {versions}; {first['date']}; {first['where']}")
    st.caption(f"Measured (filled; medians with 95 % intervals) on {about}. {theirs}")
    if pd.notna(first["reason"]):
        note = st.warning if first["unreliable"] else st.caption
        note(f"While it was measured, {ui.plain(first['reason'])}.")


def explained(cells: pd.DataFrame) -> str:
    """Why MAD and GRAD^2 are there twice."""
    theirs = cells[cells["who"] == PAPER].set_index("defense")["latency_ms"]
    ratios = [f"{mark_of(name).label} ×{theirs[name] / theirs['dcp']:.3g}" for name in ("mad", "grad2")]
    return (
        f"MAD and GRAD² were published, and timed in the paper ({' and '.join(ratios)} of DCP's latency), as loops of "
        "automatic differentiation over pictures and classes; *as published* is such a loop, run here. The same answers "
        "follow exactly from one pass of the second network (MAD, angles in closed form) or one forward derivative and a "
        "sort (GRAD²), which is what runs here, so most of that factor is the implementation's and not the method's."
    )


def latencies(cells: pd.DataFrame, batch: int) -> None:
    """Ratios first, absolute figures beside them."""
    st.subheader("Latency", anchor=False)
    table = plots.latency_table(cells)
    meaning = {
        "× no defense": "Median of the ratios within a round of turns.",
        "×, as published": "The loops of published implementations, run here.",
        "×, paper": "Of times that the paper gives with two decimals, 64 at once.",
        "ms a query": "Median (p50); of 64 at once, a 64th of the batch's time.",
        "p95, ms": "One query in twenty takes longer.",
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
    """Energy where a counter was read; else the reason."""
    st.subheader("Energy", anchor=False)
    table = plots.energy_table(table3(measured, paper, 64))
    if len(table):
        numbers = dict.fromkeys(("mJ a query", "× no defense"), NUMBER)
        st.dataframe(
            table, hide_index=True, column_config=numbers, alt="Energy of a query for each defense, 64 at once"
        )
        st.caption(
            f"{measured['energy_method'].dropna().iloc[0]}; 64 at once, windows of {energy.WINDOW:g} s in random order, the "
            "machine's idle draw in the same round subtracted. The counter sees everything that its chip does."
        )
        return
    try:
        gauge = energy.meter("cuda" if torch.cuda.is_available() else "cpu")
        st.info(
            f"Not measured. This machine can, while nothing else runs on it ({gauge.method}): the button does it."
        )
    except energy.NoMeter as error:
        st.info(
            f"No number is shown, because none can be measured on this machine: {error}. Time multiplied by a guessed "
            "power would only repeat the latencies."
        )


def hidden(card: zoo.Card, measured: pd.DataFrame) -> None:
    """Second networks, their training, memory."""
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
    words = {"its training": st.column_config.TextColumn(width="medium")}
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
    """What the training of a second network took, or how to get the network."""
    if needs["kind"] == "missing":
        return str(needs["missing"])
    if not needs["seconds"] > 0:
        return ""
    return f"{time_words(needs['seconds'])} on {needs['data']} ({needs['hardware']})"


def start(victim: str, seconds: float, clock: str) -> None:
    """Queue a measurement with a seed that none of this victim's has."""
    taken = {view.spec.seed for view in measured_views(victim) if view.spec is not None}
    launch.launch([BenchSpec(victim, seconds, clock, min(set(range(len(taken) + 1)) - taken))])


def measured_views(victim: str) -> list[RunView]:
    """Measurements of this victim, the newest first."""
    return [view for view in store.benches() if view.spec is not None and view.spec.victim == victim]


def panel(victim: str, seconds: float, clock: str) -> None:
    """The button, and this victim's measurements; drawn again every second while one of them works."""
    with ui.errors_explained():
        launch.start_workers()  # should one have been killed, its queue goes on
    views = measured_views(victim)
    busy = [view.key for view in views if view.active]
    st.button(
        "Measure on this machine",
        key="c_measure",
        type="primary",
        icon=":material/timer:",
        disabled=bool(busy),
        on_click=ui.attempt,
        args=(partial(start, victim, seconds, clock), COST),
        help="Runs in the background; you can close the page. First quit other programs that use much processor time.",
    )
    for view in views:
        show(view)
    before = st.session_state.get("c_were_busy", [])
    if busy != before:
        st.session_state["c_were_busy"] = busy
        st.session_state["c_again"] = True
        for view in views:
            if view.key in before and view.state == "done" and view.spec is not None:
                add_to_results(view.spec, view.folder)  # its worker is about to
                st.session_state["c_done"] = view.key
    if st.session_state.pop("c_again", False):
        st.rerun()


def show(view: RunView) -> None:
    """One measurement: where it is, what can be done with it."""
    assert view.spec is not None
    with st.container(border=True, key=f"bench-{view.key}"):
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(view.created))
        st.markdown(f"**{view.state}** · {began} · `{view.key[:4]}` · {CLOCK_WORDS[view.spec.clock]}")
        if view.active:
            eta = f" · {time_words(view.eta)} to go" if view.eta is not None else ""
            st.progress(min(1.0, max(0.0, view.fraction)), f"{ui.plain(view.phase) or 'waits for its turn'}{eta}")
        elif view.message:
            st.caption(ui.plain(view.message))
        for name, reason in (view.result or {}).get("missing", {}).items():
            st.caption(f"{ui.plain(mark_of(name).label)} not measured: {ui.plain(reason)}")
        actions = []
        if view.active:
            actions.append(("Stop", "stop", partial(launch.stop, view.folder)))
        if view.resumable:
            actions.append(("Measure again", "replay", partial(launch.launch, [view.spec])))
        with st.container(horizontal=True, gap="small"):
            for label, icon, action in actions:
                key = f"c_{icon}-{view.key}"
                st.button(label, key=key, icon=f":material/{icon}:", on_click=ui.attempt, args=(action, COST))
            if not view.active:
                with st.popover("Delete", icon=":material/delete:"):
                    st.markdown("Delete this measurement and its rows? It cannot be undone.")
                    remove = partial(store.delete, view.folder)
                    st.button(
                        "Yes, delete it",
                        key=f"c_delete-{view.key}",
                        type="primary",
                        on_click=ui.attempt,
                        args=(remove, COST),
                    )


rows, _ = ui.all_results()
paper = rows[(rows["source"] == "paper") & rows["latency_ms"].notna()]
if trouble := st.session_state.get("c_trouble"):
    st.error(ui.plain(trouble), icon=":material/error:")
main, side = st.columns([2.3, 1], gap="medium")
with side:
    card = ui.choose_victim(COST)
    batch = int(
        st.segmented_control(
            "Queries at once",
            ["1", "64"],
            default="64",
            required=True,
            key="c_batch",
            help="1: the time that a single customer waits. 64: the setting of Table III of the paper.",
            **ui.IN_URL,
        )
    )
    views = measured_views(card.name)
    measured = choose_measurement(rows, card.name, views)
    published = sorted(paper["dataset"].unique())
    known = card.dataset if card.dataset in published else "cifar10"
    dataset = st.selectbox("Paper's figures for", published, published.index(known), key="c_paper", **ui.IN_URL)
    seconds, clock = 60.0, "wall"
    if ui.experts():
        seconds = st.slider(
            "Time limit of each measurement (seconds)",
            10,
            300,
            60,
            key="c_seconds",
            help="There are four measurements: 1 query and 64 queries at once, each with our code and as published. "
            "Energy takes a few "
            "minutes more, if the machine has an energy counter.",
            **ui.IN_URL,
        )
        clock = st.segmented_control(
            "Clock",
            list(CLOCKS),
            default="wall",
            required=True,
            key="c_clock",
            help="Processor time does not count other programs. It is measured on the CPU with one thread.",
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
        "Every defense answers the same noise pictures, each query with one strength, the default. All defenses and the "
        "undefended victim take turns, in a new random order in each round, after a warm-up; the slow loops *as "
        "published* in rounds of their own. GPUs are waited for before the clock is read (`torch.utils.benchmark`). "
        "Ratios are taken within a round. It goes on until the 95 % interval of the median ratio (order statistics, no "
        "distribution assumed) is within ± 2 %, 400 rounds are made, or the time is over. Time counts from pixels on the "
        "device to posteriors on the device, the victim's own pass included. Victim and second networks both run in eager "
        "torch, so that ratios compare methods; a quantized victim runs in ONNX Runtime, several times as fast, and beside "
        "it a second network in torch looks the dearer. Processor time is what this process computed: other programs "
        "cannot add to it, but they take caches and memory bandwidth."
    )
st.session_state.pop("c_trouble", None)  # only here: a run that is broken off to be drawn again shows it then
