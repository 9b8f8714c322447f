"""Home: what model stealing is and what a defense can do, in six steps with a live picture each."""

import pandas as pd
import streamlit as st
import torch

from dcp_core import answers as engine
from dcp_core import plots, ui
from dcp_core.attacks import ATTACKS
from dcp_core.data.images import to_image
from dcp_core.data.sources import SIGNS_TEST, TEXTURES_POOL
from dcp_core.data.synthetic import signs, textures
from dcp_core.defenses import Deception, NoDefense, ReverseSigmoid
from dcp_core.evaluation.curves import tradeoff_curve
from dcp_core.models import zoo
from dcp_core.plots.thief import THIEF_AXES
from dcp_core.results import overview
from dcp_core.results.decision import kept, undefended
from dcp_core.results.verdict import FAILED, OWNED

ui.frame("Story", "If I publish my image classifier behind an API, how well can it be stolen?")

STEPS = (
    "What an API leaks",
    "How a thief uses it",
    "Disturbing one answer",
    "Whom to disturb",
    "The price",
    "What it cannot stop",
)

EDGE = f"{ui.EMBEDDED}-ptq"


def answer() -> None:
    """The question of the page, answered by the best measured thief of the embedded victim."""
    case = overview.strongest_case(ui.thief_points(), ui.EMBEDDED)
    if case is None:
        return
    measured = overview.strengths(case)
    left, right = st.columns([1, 1.6], gap="medium")
    with left:
        strength = measured[0]
        if len(measured) > 1:
            strength = st.select_slider("Strength of the defense DCP (β)", measured, key="hero", **ui.IN_URL)
    point = overview.point_at(case, strength)
    table = overview.accuracies(case, point)
    by = table.set_index("who")["accuracy"]
    queries = f"{int(point['budget']):,}"
    share = kept(undefended(case).iloc[0])
    how_well = "Very well" if share >= OWNED else "In part" if share > FAILED else "Badly"
    rise = round(float(point["defender_error"] - point["victim_error"]), 2)
    with left:
        st.markdown(
            f"**{how_well}.** After {queries} queries, the clone answers {by[overview.CLONE]:.0f} of 100 pictures "
            f"correctly; the stolen model {by[overview.VICTIM]:.0f}. Behind the defense, the best thief's clone answers "
            f"{by[overview.DEFENDED]:.0f}."
        )
        first, second = st.columns(2)
        first.metric(
            "your own error", f"{point['defender_error']:.1f} %", f"{rise:+.2f} points" if rise else None,
            delta_color="inverse", help="Of the defended answers, on the test set.",
        )  # fmt: skip
        second.metric(
            "your answers move", f"l1 {point['l1']:.2f}", help="Mean l1 distance on the test set, 0 to 2."
        )
    with right:
        ui.chart(plots.accuracy_bars(table), key="answer", alt=plots.describe_accuracies(table), data=table)
        st.caption(
            f"Victim `{ui.EMBEDDED}`, {ATTACKS[point['attack']].title}, {queries} pictures from {point['queries_from']}, "
            f"{int(point['runs'])} seeds, measured by this code."
        )


def _go(step: int) -> None:
    st.session_state["step"] = STEPS[step]


@st.cache_data(show_spinner="Drawing pictures ...")
def gallery() -> tuple[torch.Tensor, torch.Tensor]:
    """A few hundred test pictures of the embedded data, and as many textures."""
    return signs(256, SIGNS_TEST)[0], textures(64, TEXTURES_POOL)


@st.cache_data(show_spinner=False)
def legible() -> torch.Tensor:
    """Numbers of the test pictures with most contrast: many of the others are too dark for a person."""
    contrast = gallery()[0].float().std((1, 2, 3))
    return contrast.argsort(descending=True)[:40]


@st.cache_data(show_spinner="Measuring ...")
def dcp_curve(name: str) -> pd.DataFrame:
    """DCP's trade-off curve on the whole test set."""
    return tradeoff_curve(Deception(), *ui.test_answers(name))


def bars(card: zoo.Card, clean: torch.Tensor, defended: torch.Tensor | None, key: str) -> None:
    """A clean answer, beside it a defended one."""
    before = clean.numpy()
    after = before if defended is None else defended.numpy()
    ui.chart(
        plots.answer_bars(card.classes, before, None if defended is None else after, top=6),
        key=key,
        alt=plots.describe_answer(card.classes, before, after),
        data=plots.answer_table(card.classes, before, after, len(before)),
    )


def picture(index: int, caption: str) -> None:
    """One test picture, enlarged."""
    pixels = gallery()[0][index].float() / 255
    st.image(to_image(pixels).resize((224, 224), resample=0), caption=caption, alt=caption)


def leak(card: zoo.Card, logits: torch.Tensor, labels: torch.Tensor) -> None:
    """Step 1."""
    st.markdown(
        "A company trains a classifier at great cost and sells its **answers**. You send a picture; you get back not "
        "only *what* it is but *how sure* the model is about every class: its **posterior**. Customers like that: a car "
        "brakes only when it is sure. But the small numbers also tell how the model *thinks*."
    )
    shown = legible()
    sure = logits[shown].softmax(-1).amax(-1)
    order = shown[sure.argsort(descending=True)]
    last = len(order)
    rank = st.slider(
        f"Picture 1: the model is surest; {last}: least sure", 1, last, last - 6, key="sure", **ui.IN_URL
    )
    index = int(order[rank - 1])
    left, right = st.columns([1, 2.2])
    with left:
        picture(index, f"true class: {card.classes[labels[index]]}")
    with right:
        bars(card, logits[index].softmax(-1), None, "leak")


def theft(card: zoo.Card) -> None:
    """Step 2."""
    st.markdown(
        "A **thief** needs no break-in. He is a customer: he sends pictures, any pictures, and keeps the answers. "
        "Pictures and answers together are a free training set, the **transfer set**. On it he trains his own network, "
        "the **clone**."
    )
    left, right = st.columns([1, 1.6], gap="medium")
    with left:
        st.mermaid_chart(
            "graph TB\n  T([Thief]) -- pictures: queries --> A[Victim behind an API]\n"
            "  A -- posteriors --> D[Defense]\n  D -- disturbed posteriors --> S[(Transfer set)]\n"
            "  T -- the same pictures --> S\n  S -- training --> C[Clone]",
            alt="The thief sends pictures to the victim, gets posteriors through the defense, and trains a clone on them",
        )
    with right:
        asked = st.slider("Pictures that the thief asks about", 4, 48, 12, 4, key="asked", **ui.IN_URL)
        pool = gallery()[1][:asked]
        answers = engine.defend(engine.predict(ui.load_victim(card.name).model, pool), NoDefense())
        confidence, top = answers.clean.max(-1)
        st.image(
            [to_image(p.float() / 255).resize((104, 104), resample=0) for p in pool],
            caption=[f"{card.classes[k]} {c:.0%}" for k, c in zip(top.tolist(), confidence.tolist(), strict=True)],
            alt=["a picture of random shapes"] * asked,
            width=104,
        )
        st.caption(
            "The thief's pictures are mere shapes, yet the victim answers each of them. 10,000 take minutes."
        )


def disturb(card: zoo.Card, logits: torch.Tensor, labels: torch.Tensor) -> None:
    """Step 3."""
    st.markdown(
        "The defender changes the numbers before they leave: what is unlikely is raised, until the answer says little "
        "but its top class. The distance between honest and disturbed answer is called **l1**: 0 is the same answer, 2 "
        "a completely different one."
    )
    beta = st.slider("β, the strength of the noise", 0.0, 1.5, 0.3, 0.05, key="noise", **ui.IN_URL)
    index = engine.examples(logits[:256], labels[:256])["nearly sure"]
    answers = engine.defend(logits[index][None], ReverseSigmoid(beta=beta))
    left, right = st.columns([1, 2.2])
    with left:
        picture(index, f"true class: {card.classes[labels[index]]}")
        st.metric("l1 distance", f"{float((answers.defended - answers.clean).abs().sum()):.3f}")
    with right:
        bars(card, answers.clean[0], answers.defended[0], "disturb")


def detector(card: zoo.Card, logits: torch.Tensor) -> None:
    """Step 4."""
    st.markdown(
        "Disturbing every answer hurts honest customers. **DCP** disturbs only answers that the model is *unsure* of: "
        "those whose top posterior y_max is below a threshold τ. A thief's strange pictures get unsure answers often, a "
        "customer's good pictures rarely; but not never."
    )
    tau = st.slider("τ, the threshold", 0.1, 1.1, 0.9, 0.05, key="threshold", **ui.IN_URL)
    defense = Deception(beta=0.9, tau=tau)
    y_max = logits.softmax(-1).amax(-1)
    thiefs = engine.predict(ui.load_victim(card.name).model, gallery()[1]).softmax(-1).amax(-1)
    curve = engine.detector_curve(defense, len(card.classes))
    some = pd.DataFrame({"x": thiefs.numpy(), "y": defense.alpha(thiefs).numpy()})
    left, right = st.columns([2.2, 1])
    with left:
        ui.chart(
            plots.function_plot(curve, some, x="top posterior y_max", y="detector α", limit=tau),
            key="detector",
            alt=f"Answers below τ = {tau:g} are disturbed, those above are left alone.",
            data=curve,
        )
        st.caption("Dots: the victim's answers to 64 pictures of mere shapes, the thief's of the step before.")
    with right:
        st.metric("of customers' answers disturbed", f"{100 * float((y_max < tau).double().mean()):.1f} %")
        st.metric("of the thief's", f"{100 * float((thiefs < tau).double().mean()):.1f} %")


def price(card: zoo.Card) -> None:
    """Step 5."""
    st.markdown(
        "Protection costs the owner: his answers get less honest (l1), and with much noise some decisions change "
        "(owner's error). Where would *you* stop? Each point is measured on the whole test set."
    )
    curve = dcp_curve(card.name)
    beta = st.select_slider("β of DCP (τ follows)", list(Deception.grid), 0.9, key="price", **ui.IN_URL)
    here = curve[curve["strength"] == beta].iloc[0]
    left, right = st.columns(2)
    for column, y in ((left, "defender_error"), (right, "l1")):
        with column:
            ui.chart(
                plots.strength_curves(curve, y, current=beta),
                key=f"price-{y}",
                alt=plots.describe_strength_curves(curve, y),
                data=curve,
            )
    st.markdown(
        f"At β = {beta:g} the owner errs on **{here.defender_error:.2f} %** of {card.test_pictures:,} test pictures "
        f"(undefended {100 - (card.test_accuracy or 0):.2f} %), and the mean l1 is **{here.l1:.2f}**."
    )


def limits(card: zoo.Card) -> None:
    """Step 6."""
    st.markdown(
        "A thief may throw the numbers away and keep only the **top class**. A defense that leaves the decision right for "
        "customers leaves it right for him too. Nor does noise that is always the same hide for long from a thief who "
        "knows the formula: he can compute much of it back."
    )
    beta = st.select_slider("β of DCP (τ follows)", list(Deception.grid), 0.9, key="limits", **ui.IN_URL)
    curve = dcp_curve(card.name)
    here = curve[curve["strength"] == beta].iloc[0]
    ui.chart(
        plots.strength_curves(curve, "changed", current=beta),
        key="changed",
        alt=plots.describe_strength_curves(curve, "changed"),
        data=curve,
    )
    st.markdown(
        f"At β = {beta:g}, **{100 - here.changed:.2f} %** of the answers still name the same class: all that a top-1 "
        "thief needs. A defense raises the price of stealing; it does not make it impossible. Limits on queries, terms of "
        "use and watching accounts belong beside it."
    )


with ui.errors_explained():
    known = ui.victims()
    victim = zoo.card(ui.EMBEDDED if ui.EMBEDDED in known else known[0])
    victim_logits, victim_labels = ui.test_answers(victim.name)

answer()
chosen = st.segmented_control(
    "How it works, in six steps", STEPS, default=STEPS[0], required=True, key="step", **ui.IN_URL
)
number = STEPS.index(chosen)
st.subheader(f"{number + 1}. {chosen}", anchor=False)
(
    lambda: leak(victim, victim_logits, victim_labels),
    lambda: theft(victim),
    lambda: disturb(victim, victim_logits, victim_labels),
    lambda: detector(victim, victim_logits),
    lambda: price(victim),
    lambda: limits(victim),
)[number]()

with st.container(horizontal=True):
    st.button(
        "Previous",
        icon=":material/arrow_back:",
        disabled=number == 0,
        on_click=_go,
        args=(max(number - 1, 0),),
        shortcut="Left",
    )
    st.button(
        "Next",
        icon=":material/arrow_forward:",
        type="primary",
        disabled=number == len(STEPS) - 1,
        on_click=_go,
        args=(min(number + 1, len(STEPS) - 1),),
        shortcut="Right",
    )

st.divider()
st.markdown("**Go and try**")
with st.container(horizontal=True):
    real = ui.victim_state(zoo.card("cifar10-resnet20")) if "cifar10-resnet20" in known else {}
    small = ui.victim_state(zoo.card(EDGE)) if EDGE in known else {}
    ui.link(
        "playground", "The paper's setting on CIFAR-10", "tune", **real, **ui.defense_state(Deception(beta=0.9))
    )
    ui.link(
        "playground",
        "Edge device: the cheapest noise",
        "memory",
        **small,
        **ui.defense_state(ReverseSigmoid(beta=0.08)),
    )
    strict = {"budget": 0.2, "axis": THIEF_AXES["l1"], **ui.defense_state(Deception(beta=0.4), ui.TRADEOFFS)}
    ui.link("tradeoffs", "Strict l1 budget", "balance", **strict)
    ui.link("playground", "Why τ matters", "rule", **ui.defense_state(Deception(beta=0.9, tau=0.6)))
    ui.link("decide", "Should I deploy one, and which?", "gavel")
