"""Table III: latency, energy and hidden costs of every defense, measured beside the paper's figures."""

import json
import time
from collections.abc import Callable
from functools import partial

import pandas as pd
import streamlit as st
import torch

from dcp_core import ui
from dcp_core.defenses import DEFENSES, make_defense
from dcp_core.evaluation import energy
from dcp_core.evaluation.hidden_costs import second_network
from dcp_core.evaluation.table3 import PAPER, measurements, table3
from dcp_core.models import zoo
from dcp_core.plots import cost as plots
from dcp_core.plots.style import mark_of
from dcp_core.runs import launch, store
from dcp_core.runs.describe import time_words
from dcp_core.runs.spec import BenchSpec

ui.frame("Cost", "What does it cost per query?")

PREFIX = "c_"
TITLES = {
    "latency": "latency, ratio",
    "latency_ms": "latency, ms",
    "energy": "energy, ratio",
}
CLOCKS = {
    "wall": "wall time",
    "processor": "processor time of one thread (what a machine with nothing else to do takes)",
}
AGAIN = "c_drawn_again"


def title_of(name: str, found: dict[str, pd.DataFrame]) -> str:
    """A measurement for the picker."""
    first = found[name].iloc[0]
    whose = "shipped with this repository" if name.startswith("precomputed/") else f"yours ({name.split('-')[-1]})"
    return f"{whose} · {first['date']} · {first['hardware']}"


def picture(card: zoo.Card, measured: pd.DataFrame, paper: pd.DataFrame, batch: int) -> pd.DataFrame:
    """The chart and the numbers drawn."""
    cells = table3(measured, paper, batch)
    drawn = [name for name in TITLES if cells[name].notna().any()]
    quantity = st.segmented_control(
        "Quantity", drawn, default="latency", required=True, key="c_quantity", format_func=TITLES.get, **ui.IN_URL
    )
    ui.chart(plots.costs(cells, quantity), key="costs", alt=plots.describe_costs(cells, quantity), data=cells)
    if len(measured):
        first = measured.iloc[0]
        st.caption(
            f"Measured: {card.title}, {first['engine']}, {CLOCKS[first['clock']]}, on {first['hardware']}; "
            f"{versions_of(first)}; {first['date']}; "
            f"`{first['where']}`. Filled marks are medians with 95 % intervals; the paper's (open) are of a Tesla P100, "
            "batch 64, each divided by the number of strengths computed at once."
        )
        if first["unreliable"]:
            st.warning(f"Taken on a busy machine: {first['reason']}", icon=":material/report:")
    else:
        st.info(f"Nothing has been measured on {card.name} yet: the button does, or  {command(card.name)}")
    return cells


def explained(cells: pd.DataFrame) -> str:
    """Why MAD and GRAD^2 are there twice."""
    slow = cells[(cells["who"] == PAPER) & cells["defense"].isin(["mad", "grad2"])]
    ratios = [f"{mark_of(row.defense).label} ×{row.latency:.3g}" for row in slow.itertuples()]
    return (
        f"MAD and GRAD² were published, and timed in the paper ({' and '.join(ratios)}), as loops of automatic "
        "differentiation over pictures and classes; *as published* is such a loop, run here. The same answers follow "
        "exactly from one pass of the second network (MAD, angles in closed form) or one forward derivative and a sort "
        "(GRAD²), which is what runs here, so most of that factor is the implementation's and not the method's."
    )


def versions_of(row: pd.Series) -> str:
    """'python 3.12.1, torch 2.13.0'."""
    found = json.loads(row["versions"])
    return ", ".join(f"{name} {found[name]}" for name in ("python", "torch", "onnxruntime") if name in found)


def command(victim: str) -> str:
    """The command line that measures."""
    return f"python -m dcp_core bench --victim {victim}"


def numbers(cells: pd.DataFrame, batch: int) -> None:
    """Ratios first, absolute figures beside them."""
    st.subheader("Latency", anchor=False)
    shown = pd.DataFrame(
        {
            "defense": [mark_of(name).label for name in cells["defense"]],
            "source": cells["who"],
            "× no defense": cells["latency"],
            "95 % interval": [
                _span(*pair) for pair in zip(cells["latency_low"], cells["latency_high"], strict=True)
            ],
            "ms a query": cells["latency_ms"],
            "interval of ms": [
                _span(*pair) for pair in zip(cells["latency_low_ms"], cells["latency_high_ms"], strict=True)
            ],
            "p95 ms": cells["latency_p95_ms"],
            "repeats": cells["repeats"],
        }
    )
    number = st.column_config.NumberColumn
    st.dataframe(
        shown.dropna(axis=1, how="all"),
        hide_index=True,
        column_config={
            "× no defense": number(format="%.4g", help="Median of the ratios within a round of turns."),
            "ms a query": number(format="%.4g", help="Median (p50); of 64 at once, a 64th of the batch's time."),
            "p95 ms": number(format="%.4g", help="One query in twenty takes longer; of one query at a time."),
        },
        height="content",
        alt=f"Latency of each defense, {batch} at once: ratio to no defense, milliseconds, repeats",
    )
    ui.csv(cells, "table3", "CSV of all numbers")


def _span(low: float, high: float) -> str:
    return f"{low:.4g} to {high:.4g}" if pd.notna(low) else ""


def energy_of(measured: pd.DataFrame) -> None:
    """Energy where a counter was read; else the reason."""
    st.subheader("Energy", anchor=False)
    known = measured.dropna(subset=["energy_mj"])
    if len(known):
        literal = known["implementation"] == "literal"
        base = known.loc[known["defense"] == "none", "energy_mj"].iloc[0]
        table = pd.DataFrame(
            {
                "defense": known["defense"].map(lambda n: mark_of(n).label)
                + literal.map({True: ", as published", False: ""}),
                "mJ a query": known["energy_mj"],
                "lowest to highest window": [
                    _span(*pair) for pair in zip(known["energy_low_mj"], known["energy_high_mj"], strict=True)
                ],
                "× no defense": known["energy_mj"] / base,
            }
        )
        st.dataframe(table, hide_index=True, alt="Energy of a query for each defense, 64 at once")
        st.caption(
            f"{known['energy_method'].iloc[0]}; 64 at once, windows of {energy.WINDOW:g} s in random order, the machine's "
            "idle draw in the same round subtracted. The counter sees everything that its chip does."
        )
        return
    try:
        gauge = energy.meter("cuda" if torch.cuda.is_available() else "cpu")
        st.info(f"Not measured yet; this machine can ({gauge.method}): measure it with the button.")
    except energy.NoMeter as error:
        st.info(
            f"No number is shown, because none can be measured on this machine: {error}. Time multiplied by a guessed "
            "power would only repeat the latencies."
        )


def hidden(card: zoo.Card, measured: pd.DataFrame) -> None:
    """Second networks, their training, memory."""
    st.subheader("Hidden costs", anchor=False)
    rows = []
    for name in DEFENSES:
        row: dict[str, object] = {"defense": mark_of(name).label, "second network": "none", "training": "none"}
        try:
            second = second_network(make_defense(name), card.name)
        except zoo.VictimError as error:
            second, row = None, row | {"second network": "missing", "training": str(error)}
        if second is not None:
            row |= {"second network": second.kind, "its parameters": f"{second.parameters:,}"}
            if second.seconds:
                row["training"] = f"{time_words(second.seconds)} on {second.data} ({second.hardware})"
        for part, words in (("here", ""), ("literal", ", as published")):
            of = measured[(measured["defense"] == name) & (measured["implementation"] == part)]
            for count, memory in zip(of["batch"], of["memory_mb"], strict=True):
                row[f"MB, {count} at once{words}"] = memory
        rows.append(row)
    table = pd.DataFrame(rows)
    first = ["defense", "second network", *(["its parameters"] if "its parameters" in table else [])]
    wide = [*first, *(name for name in table if name not in [*first, "training"])]
    number = st.column_config.NumberColumn(format="%.4g")
    st.dataframe(
        table[[*wide, "training"]],
        hide_index=True,
        height="content",
        column_config={name: number for name in wide if str(name).startswith("MB")},
        alt="Second network, its training and peak memory that each defense needs",
    )
    ui.csv(table, "hidden-costs")
    methods = measured["memory_method"].dropna().unique()
    st.caption(
        f"The victim has {card.parameters:,} parameters. "
        + (f"Memory: {methods[0]}." if len(methods) else "Memory has not been measured.")
    )


def told(action: Callable[[], object]) -> None:
    """Do something for a button; what goes wrong is shown as a sentence."""
    try:
        action()
    except (ValueError, OSError) as error:
        st.session_state["c_trouble"] = str(error)
    st.session_state[AGAIN] = True


def start(victim: str, seconds: float, clock: str) -> None:
    """Queue a measurement with a seed that none of this victim's has."""
    taken = {view.bench.seed for view in store.benches() if view.bench is not None and view.bench.victim == victim}
    seed = next(number for number in range(len(taken) + 1) if number not in taken)
    launch.launch([BenchSpec(victim, seconds, clock, seed)])


def panel(victim: str, seconds: float, clock: str) -> None:
    """Measurements of this victim, under way and done; drawn again every second while one works."""
    launch.start_workers()  # should one have been killed, its queue goes on
    views = [view for view in store.benches() if view.bench is not None and view.bench.victim == victim]
    busy = [view.key for view in views if view.active]
    st.button(
        "Measure on this machine",
        key="c_measure",
        type="primary",
        icon=":material/timer:",
        disabled=bool(busy),
        on_click=told,
        args=(partial(start, victim, seconds, clock),),
        help="In the background: the page may be closed. Quit other heavy programs first.",
    )
    for view in views:
        with st.container(border=True, key=f"bench-{view.key}"):
            began = time.strftime("%Y-%m-%d %H:%M", time.localtime(view.created))
            st.markdown(f"**{view.state}** · begun {began} · `{view.key}`")
            if view.active:
                eta = f" · {time_words(view.eta)} to go" if view.eta is not None else ""
                st.progress(min(1.0, max(0.0, view.fraction)), f"{view.phase or 'waits'}{eta}")
            elif view.message:
                st.caption(view.message)
            for name, reason in (view.result or {}).get("missing", {}).items():
                st.caption(f"{mark_of(name).label} not measured: {reason}")
            with st.container(horizontal=True, gap="small"):
                if view.active:
                    stop = partial(launch.stop, view.folder)
                    st.button(
                        "Stop", key=f"c_stop-{view.key}", icon=":material/stop:", on_click=told, args=(stop,)
                    )
                if view.resumable and view.bench is not None:
                    anew = partial(launch.launch, [view.bench])
                    st.button("Measure again", key=f"c_again-{view.key}", on_click=told, args=(anew,))
                if not view.active:
                    remove = partial(store.delete, view.folder)
                    st.button(
                        "Delete",
                        key=f"c_delete-{view.key}",
                        icon=":material/delete:",
                        on_click=told,
                        args=(remove,),
                    )
    if busy != st.session_state.get("c_were_busy", []):
        st.session_state["c_were_busy"] = busy
        st.session_state[AGAIN] = True
    if st.session_state.pop(AGAIN, False):
        st.rerun()


rows, _ = ui.all_results()
paper = rows[(rows["source"] == "paper") & rows["latency_ms"].notna()]
if trouble := st.session_state.pop("c_trouble", None):
    st.error(trouble, icon=":material/error:")
main, side = st.columns([2.3, 1], gap="medium")
with side:
    card = ui.choose_victim(PREFIX)
    batch = int(
        st.segmented_control(
            "Queries at once",
            ["1", "64"],
            default="64",
            required=True,
            key="c_batch",
            help="1 is what a customer waits for; 64 is what Table III is about.",
            **ui.IN_URL,
        )
    )
    found = measurements(rows, card.name)
    chosen = (
        st.selectbox("Measurement", list(found), key="c_measurement", format_func=lambda n: title_of(n, found))
        if found
        else None
    )
    published = sorted(paper["dataset"].unique())
    dataset = st.selectbox(
        "Paper's figures for",
        published,
        published.index(card.dataset if card.dataset in published else "cifar10"),
        key="c_paper",
        **ui.IN_URL,
    )
    seconds, clock = 60.0, "wall"
    if ui.experts():
        seconds = float(
            st.slider(
                "Seconds a session",
                10,
                300,
                60,
                key="c_seconds",
                help="There are four: one query and 64 at once, ours and as published. Where the machine has an energy "
                "counter, that takes a few minutes more.",
                **ui.IN_URL,
            )
        )
        clock = st.segmented_control(
            "Clock",
            list(CLOCKS),
            default="wall",
            required=True,
            key="c_clock",
            help="Processor time leaves out what other programs take; for one CPU thread (no GPU).",
            **ui.IN_URL,
        )
    busy = any(
        view.active and view.bench is not None and view.bench.victim == card.name for view in store.benches()
    )
    with ui.errors_explained():
        st.fragment(panel, run_every=1.0 if busy else None)(card.name, seconds, clock)
measured = found[chosen] if chosen else rows[:0]
with main:
    cells = picture(card, measured, paper[paper["dataset"] == dataset], batch)
    st.markdown(explained(cells))
numbers(cells, batch)
energy_of(measured)
hidden(card, measured)
with st.expander("How it is measured", icon=":material/help:"):
    st.markdown(
        "Every defense answers the same noise pictures, each query with one strength, the default. All defenses and the "
        "undefended victim take turns, in an order drawn anew for each round, after a warm-up; GPUs are waited for before "
        "the clock is read (`torch.utils.benchmark`). Ratios are taken within a round. It goes on until the 95 % interval "
        "of the median ratio (order statistics, no distribution assumed) is within ± 2 % or the time is over. Time counts "
        "from pixels on the device to posteriors on the device, the victim's own pass included. Victim and second networks "
        "both run in eager torch, so that ratios compare methods; quantized victims run in ONNX Runtime."
    )
