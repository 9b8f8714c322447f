"""Victims in eight bits: their accuracy and speed, defenses on them, and the file for the device."""

import dataclasses
import json

import pandas as pd
import streamlit as st

from dcp_core import ui
from dcp_core.costs import quantized as measure
from dcp_core.data import synthetic
from dcp_core.data.sources import SIGNS_TEST
from dcp_core.defenses import DEFENSES, Defense, exportable
from dcp_core.evaluation.curves import tradeoff_curve
from dcp_core.evaluation.metrics import wilson
from dcp_core.files import explained
from dcp_core.making import finish, make_quantized
from dcp_core.models import zoo
from dcp_core.plots import quantized as plots
from dcp_core.plots.thief import THIEF_AXES, describe_thief_scatter, thief_scatter
from dcp_core.provenance import hardware_words
from dcp_core.results.rows import settings
from dcp_core.runs import launch

ui.frame("Quantized", "Does a defense still work on an edge device, where the victim runs in eight bits?")

PREFIX = "q_"
COMPARED = ("dcp", "rs")
MADE = "q_made"
COLUMNS = {
    "precision": "version",
    "engine": "engine",
    "accuracy": "accuracy (%)",
    "agreement": "same top class as fp32 (%)",
    "l1": "mean l1 to fp32",
    "bytes": "size (kB)",
    "ms_1": "1 picture (ms)",
    "ms_64": "64 pictures (ms)",
}


@st.cache_resource(max_entries=32, show_spinner="Measuring ...")
def curves_of(names: tuple[str, ...]) -> pd.DataFrame:
    """Trade-off curves of `COMPARED` on every version, from the stored answers."""
    parts = []
    for name in names:
        precision = zoo.card(name).precision
        for defense in COMPARED:
            curve = tradeoff_curve(DEFENSES[defense](), *ui.test_answers(name))
            parts.append(curve.assign(precision=precision, victim=name))
    return pd.concat(parts, ignore_index=True)


@st.cache_resource(max_entries=4, show_spinner="Writing the file and checking it against the engine ...")
def checked_file(name: str, description: str, baked: bool, _defense: Defense) -> tuple[bytes, object]:
    """An exported file and the report of its check. It is cached by `description`, which names all that it depends on."""
    from dcp_core.models.export import export  # the onnx package: on request only

    return export(name, _defense, baked=baked)


def measured_rows(base: str) -> pd.DataFrame:
    """Rows of `side_by_side` for a victim: those measured in this session, or else the stored ones."""
    now = st.session_state.get("q_rows")
    if now is not None and now["victim"].iloc[0] == base:
        return now
    rows = measure.load_measured()
    return rows[rows["victim"] == base]


def measure_now(base: str) -> None:
    """Measure latencies on this machine; compute everything else from the stored answers of each version."""
    bar = st.progress(0.0, "Measuring all versions in turns on this machine ...")
    ways = measure.victim_versions(base)
    stored = [ui.test_answers(way.name) for way in ways]
    pictures = synthetic.signs(64, SIGNS_TEST)[0]
    side = zoo.card(base).size
    if side != pictures.shape[-1]:
        pictures = pictures.repeat(1, 1, -(-side // 32), -(-side // 32))[..., :side, :side]
    st.session_state["q_rows"] = measure.side_by_side(
        ways,
        pictures,
        stored[0][1],
        logits=[logits for logits, _ in stored],
        seconds=8,
        progress=lambda done: bar.progress(min(done, 1.0)),
    )
    bar.empty()


def accuracies(family: dict[str, str]) -> pd.DataFrame:
    """Test accuracy of every version, and of the fp32 victim after the same further training as QAT, with 95 % intervals."""
    rows = []
    for precision, name in family.items():
        card, mark = zoo.card(name), plots.WAYS[precision, measure.RUNTIME]
        rows.append((zoo.PRECISIONS[precision], card.test_accuracy, card.test_pictures, mark.symbol, mark.color))
        control = card.recipe.get("fp32_control")
        if control:
            accuracy = control["test_accuracy"]
            rows.append(("fp32, trained<br>further", accuracy, card.test_pictures, "square-open", "#8a8f98"))
    table = pd.DataFrame(rows, columns=["label", "accuracy", "pictures", "symbol", "color"])
    bounds = [wilson(row.accuracy, row.pictures) for row in table.itertuples()]
    return table.assign(low=[float(b[0]) for b in bounds], high=[float(b[1]) for b in bounds])


def first_look(family: dict[str, str]) -> None:
    """Size, latency, accuracy and drift, and the origin of the numbers."""
    base, rows = family["fp32"], measured_rows(family["fp32"])
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("**Size and latency**")
        if rows.empty:
            st.info("Not measured yet: use the button below. It takes a few seconds.", icon=":material/timer:")
        else:
            ui.chart(plots.edge_costs(rows), key="edge-costs", alt=plots.describe_edge_costs(rows), data=rows)
    with right:
        st.markdown("**Accuracy**")
        table = accuracies(family)
        ui.chart(
            plots.edge_accuracy(table), key="edge-accuracy", alt=plots.describe_edge_accuracy(table), data=table
        )
    if not rows.empty:
        about = rows.iloc[0]
        software = ", ".join(f"{name} {number}" for name, number in json.loads(about.versions).items())
        st.caption(
            "Measured by this software: medians, all versions in turns. "
            f"{ui.plain(hardware_words(about.hardware))}, {about.date}; {ui.plain(software)}."
        )
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Measure on this machine", icon=":material/timer:", key="q_measure"):
            with ui.errors_explained():
                measure_now(base)
            st.rerun()
        st.caption("Measured with one thread. It takes about ten seconds.")
    drift(family, rows)


def drift(family: dict[str, str], rows: pd.DataFrame) -> None:
    """Draw how far posteriors move, how QAT was made, and a table of all measured numbers."""
    moved = {precision: l1.numpy() for precision, l1 in measure.stored_drift(family["fp32"]).items()}
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("**Posterior drift**: the l1 distance of each test answer to that of fp32")
        ui.chart(
            plots.drift_histogram(moved),
            key="edge-drift",
            alt=plots.describe_drift(moved),
            data=pd.DataFrame(moved),
        )
    with right:
        st.markdown("**How the versions were made**")
        recipe = zoo.card(family["qat"]).recipe if "qat" in family else {}
        if control := recipe.get("fp32_control"):
            st.markdown(
                f"QAT trained for {recipe['epochs']} epoch{'s' * (recipe['epochs'] != 1)} on "
                f"{recipe['pictures']:,} training pictures. As a "
                "control, the fp32 victim was trained further, with the same steps on the same batches. The control "
                f"has an accuracy of {control['test_accuracy']:.2f} %. It names the same class as the original fp32 "
                f"victim for {control['agreement']:.2f} % of the test pictures, and its answers have a mean l1 "
                f"distance of {control['l1']:.3f} to the original ones. Only what differs between QAT and the control "
                "is an effect of eight bits."
            )
        st.markdown(
            "Weights use 7 of their 8 bits, so that CPUs without VNNI instructions compute them exactly. Batch "
            "normalisation is folded into the convolutions."
        )
    if not rows.empty:
        st.markdown("**Measured numbers**")
        shown = rows[list(COLUMNS)].assign(bytes=rows["bytes"] / 1000).rename(columns=COLUMNS)
        st.dataframe(shown.round(3), hide_index=True, alt="Every version with its measured numbers")


def defended(family: dict[str, str]) -> None:
    """Defenses on each version: the cost for the owner, and the effect on the thief (Fig. 7 of the paper)."""
    st.subheader("Defenses on each version", anchor=False)
    left, right = st.columns(2, gap="medium")
    curves = curves_of(tuple(family.values()))
    with left:
        st.markdown("**Cost for the owner** (computed now, from stored answers)")
        ui.chart(
            plots.defenses_on_each(curves),
            key="edge-defenses",
            alt=plots.describe_defenses_on_each(curves),
            data=curves,
        )
    with right:
        st.markdown("**Effect on the thief** (as in Fig. 7 of the paper)")
        everything = ui.thief_points()
        everything = everything[everything["victim"].isin(list(family.values()))]
        axis = ui.select("Horizontal axis", THIEF_AXES, "q_axis", "l1")
        besides = ["victim", "precision", *(["budget"] if axis == "budget" else [])]
        thieves = settings(everything[everything["defense"].isin(["none", *COMPARED])], besides)
        points = everything[:0]
        if thieves:
            points = thieves[str(st.selectbox("Thief", list(thieves), key="q_thief", **ui.IN_URL))]
            ui.chart(
                thief_scatter(points.drop(columns="victim"), axis),  # its name repeats the precision
                key="edge-thief",
                alt=describe_thief_scatter(points.drop(columns="victim"), axis),  # its name repeats the precision
                data=points,
            )
        missing = [name for name in family.values() if not (points["victim"] == name).any()]
        if missing:
            st.caption("This thief has not been measured on these versions. Commands like these measure it:")
            pool = "signs_pool" if zoo.card(family["fp32"]).dataset == "signs" else "textures"
            lines = [
                f"python -m dcp_core attack --victim {name} --pool {pool} --defense dcp --beta 0.9 --seed 0"
                for name in missing
            ]
            st.code("\n".join(lines), language="bash", wrap_lines=True)


@st.fragment
def export_form(family: dict[str, str]) -> None:
    """One ONNX file with victim and defense: made and checked on request, then offered for download."""
    st.subheader("Export: one file with victim and defense", anchor=False)
    side, main = st.columns([1, 2.2], gap="medium")
    with side:
        known = [name for name in family.values() if zoo.card(name).has_onnx]
        name = st.selectbox("Version", known, key="q_export", format_func=lambda n: zoo.card(n).title, **ui.IN_URL)
        defense = ui.choose_defense(exportable(), PREFIX)
        baked = False
        with ui.errors_explained():
            nodes = ui.learned(defense, name).nodes(len(zoo.card(name).classes))
        if nodes.inputs:
            baked = st.toggle(
                "Fix the parameters in the file",
                key="q_baked",
                help="Otherwise the parameters are inputs of the file, with these values as defaults.",
                **ui.IN_URL,
            )
        wanted = (name, defense, baked)
        if st.button("Make and check the file", type="primary", key="q_make", icon=":material/build:"):
            st.session_state[MADE] = wanted
    with main:
        from dcp_core.models.export import script

        file = f"{name}-{defense.name}.onnx"
        if st.session_state.get(MADE) == wanted:
            with ui.errors_explained():
                content, report = checked_file(name, repr(defense), baked, defense)
            st.success(report.words(), icon=":material/verified:")
            st.download_button(
                f"{file} · {report.bytes / 1000:.0f} kB, of which {report.added_bytes / 1000:.1f} kB are the defense",
                content,
                file_name=file,
                mime="application/octet-stream",
                key="q_download",
                on_click="ignore",
                icon=":material/download:",
            )
            st.download_button(
                "Report of the check (JSON)",
                pd.Series(dataclasses.asdict(report)).to_json(indent=2),
                file_name=f"{name}-{defense.name}-check.json",
                mime="application/json",
                key="q_report",
                on_click="ignore",
                type="tertiary",
                icon=":material/fact_check:",
            )
        else:
            st.info(
                "The file can be downloaded after a check: its answers to 500 pictures must equal those of this software.",
                icon=":material/rule:",
            )
        st.caption("This script gives pictures to the file, with ONNX Runtime, NumPy and Pillow:")
        st.code(script(zoo.card(name), file, defense, baked=baked), language="python", wrap_lines=True)


def say_what_is_missing(base: str) -> None:
    """The button that makes an eight-bit version, and the commands for all versions which this page shows."""
    st.info(f"**{ui.plain(base)}** has no eight-bit version yet.", icon=":material/memory:")
    ui.say_if_launching_is_off()
    if st.button(
        "Make one by rounding its weights (PTQ)", key="q_ptq", type="primary", disabled=not launch.allowed()
    ):
        bar = st.progress(0.0, "preparing")
        with ui.errors_explained():
            try:
                finish(make_quantized(base), lambda step: bar.progress(min(1.0, step.fraction), step.words))
            except OSError as error:
                raise ValueError(explained(error, "try again")) from error
        st.rerun()
    st.caption("Or with commands:")
    methods = ("ptq",) if zoo.card(base).source else ("fp32", "ptq", "qat")  # a file cannot be trained further
    commands = [f"python -m dcp_core quantize --victim {base} --method {method}" for method in methods]
    st.code("\n".join(commands), language="bash", wrap_lines=True)


chosen = ui.choose_victim(PREFIX)
if chosen.name.startswith(zoo.TORCHVISION):
    st.info(
        "Victims of torchvision cannot be quantized here: calibration needs the training pictures, which do not come "
        "with them."
    )
    st.stop()
if chosen.source == zoo.SERVICE:
    st.info("This victim is a service: its network is not on this machine, so it cannot be quantized.")
    st.stop()
if chosen.source and chosen.precision != "fp32" and not chosen.of:
    st.info("This classifier was given in eight bits: there is no fp32 version to compare it with.")
    st.stop()
with ui.errors_explained():
    family = measure.family(chosen.name)
if len(family) == 1:
    say_what_is_missing(family["fp32"])
    if zoo.card(family["fp32"]).has_onnx:
        export_form(family)
    st.stop()
with ui.errors_explained():
    first_look(family)
defended(family)
export_form(family)
