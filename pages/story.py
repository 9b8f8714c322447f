"""Home: what model stealing is and what a defense can do, in six steps with an interactive chart each."""

import pandas as pd
import streamlit as st
import torch

from dcp_core import answers as engine
from dcp_core import plots, ui
from dcp_core.attacks import ATTACKS
from dcp_core.data.sources import SIGNS_TEST, TEXTURES_POOL
from dcp_core.data.synthetic import signs, textures
from dcp_core.data.tensors import sharpness, to_image
from dcp_core.defenses import Deception, NoDefense, ReverseSigmoid
from dcp_core.evaluation.curves import tradeoff_curve
from dcp_core.models import zoo
from dcp_core.results import overview

ui.frame("Story", "If I publish my image classifier behind an API, how well can it be stolen?")

STEPS = (
    "What an API leaks",
    "How a thief uses it",
    "Changing one answer",
    "Which answers to change",
    "The price",
    "What it cannot stop",
)

ASKED = (  # a question for a class about each step, and its answer
    (
        "Two customers get the same top class, one with 99 % and one with 40 %. What do they learn that the class alone "
        "does not tell?",
        "How close the picture is to other classes in the model's view. That is knowledge which the model learned from its "
        "training pictures, and a clone can learn it from the answer.",
    ),
    (
        "The thief's pictures show no road signs. How can a clone learn road signs from the answers?",
        "Each answer says to which signs the victim finds a picture similar. Many such answers pin down the borders between "
        "the classes, wherever the pictures come from. Pictures that resemble the victim's data need fewer queries.",
    ),
    (
        "At which strength would a customer notice, who uses the top class only?",
        "As soon as another class becomes the largest. Until then this customer sees no change, however large the l1 "
        "distance is.",
    ),
    (
        "Move τ to 1.1. Who pays now?",
        "Everyone: all answers are changed, those to customers too. With a low τ hardly any answer is changed, and the "
        "thief is hardly disturbed. A good τ lies where the thief's answers are below it and the customers' above.",
    ),
    (
        "Which cost does a customer feel who multiplies the probabilities with a price?",
        "The l1 distance: such a customer uses the numbers, not only the top class. The owner's error hides this cost.",
    ),
    (
        "Would you rather send the top class only? What would it cost whom?",
        "The thief loses the probabilities and keeps the top class. Honest customers lose them too: they cannot see how "
        "sure the model is.",
    ),
)
EDGE = f"{ui.EMBEDDED}-ptq"


def answer() -> None:
    """The answer to the page's question, from the best measured thief of the embedded victim."""
    case = overview.strongest_case(ui.thief_points(), ui.EMBEDDED)
    if case is None:
        return
    st.subheader(ui.headline(case), anchor=False)
    st.markdown(
        "**An example**, with our classifier of road signs in the place of your model. A thief sends pictures to the API "
        "and trains a copy of the model, the **clone**, on the answers. A **defense** changes the answers, so that the "
        "clone learns less from them."
    )
    measured = overview.strengths(case)
    left, right = st.columns([1, 1.1], gap="large")
    with left:
        strength = measured[0]
        if len(measured) > 1:
            label = f"Strength of the defense DCP (β), measured from {measured[0]:g} to {measured[-1]:g}"
            strength = st.select_slider(label, measured, key="hero", **ui.IN_URL)
        now = measured.index(strength)
        point = overview.point_at(case, strength)
        table = overview.accuracies(case, point)
        ui.live_chart(
            ui.hero_panels(case, measured, now, "hero"),
            {"hero": (now, range(len(measured)))},
            key="answer",
            alt=plots.describe_accuracies(table),
            figure=plots.accuracy_bars(table),
            data=table,
            follow=True,
        )
    with right:
        curves = overview.learning(ui.thief_points(), case, strength)
        if len(set(curves["queries"])) > 1:
            accuracy = float(table.set_index("who")["accuracy"][overview.VICTIM])
            alt = plots.describe_learning(curves, accuracy)
            ui.chart(plots.learning_curves(curves, accuracy), key="learning", alt=alt, data=curves)
        st.caption(
            f"Victim `{ui.EMBEDDED}`, {ATTACKS[point['attack']].title}, {int(point['budget']):,} pictures from "
            f"{point['queries_from']}, means of {int(point['runs'])} seeds, measured by this code; standard deviation of "
            f"the clones' accuracies at most {table['std'].max():.1f} points. Behind the defense: the best thief that was "
            "measured with each number of queries, which is not of the same kind everywhere."
        )


def doors() -> None:
    """Draw the links to the next pages."""
    with st.container(horizontal=True, key="doors"):
        ui.link("own", "Your own model: add it, then attack it", "add_circle")
        ui.link("story", "Teach it: six steps in large type", "school", view="present")
        ui.link("decide", "Read the results: should I deploy a defense?", "gavel")


def _go(step: int) -> None:
    st.session_state["step"] = STEPS[step]


@st.cache_data(show_spinner="Drawing pictures ...")
def gallery() -> tuple[torch.Tensor, torch.Tensor]:
    """256 test pictures of the embedded data set, and 64 pictures of the query pool `textures`."""
    return signs(256, SIGNS_TEST)[0], textures(64, TEXTURES_POOL)


@st.cache_data(show_spinner=False)
def clear() -> torch.Tensor:
    """Indices of the 40 clearest test pictures. Many of the others are too dark or blurred for a person."""
    return sharpness(gallery()[0]).topk(40).indices


@st.cache_data(show_spinner="Measuring ...")
def dcp_curve(name: str) -> pd.DataFrame:
    """DCP's trade-off curve on the whole test set."""
    return tradeoff_curve(Deception(), *ui.test_answers(name))


def bars(card: zoo.Card, clean: torch.Tensor, defended: torch.Tensor | None, key: str) -> None:
    """Draw a clean answer (K,), and beside it a defended one if there is one."""
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
    """Step 1: an answer has a probability for every class."""
    st.markdown(
        "A company trains a classifier at great cost and sells its **answers**. A customer sends a picture and gets a "
        "probability for every class. Together these numbers are the **posterior**. Customers use it to decide how far to "
        "trust an answer. But the posterior also contains much information about the model itself."
    )
    shown = clear()
    sure = logits[shown].softmax(-1).amax(-1)
    order = shown[sure.argsort(descending=True)]
    last = len(order)
    rank = st.slider(
        f"Picture (1: the model is most sure; {last}: least sure)", 1, last, last - 6, key="sure", **ui.IN_URL
    )
    index = int(order[rank - 1])
    left, right = st.columns([1, 2.2])
    with left:
        picture(index, f"true class: {card.classes[labels[index]]}")
    with right:
        bars(card, logits[index].softmax(-1), None, "leak")


def theft(card: zoo.Card) -> None:
    """Step 2: the thief's pictures and the victim's answers to them."""
    st.markdown(
        "A **thief** can be an ordinary customer. The thief sends pictures of any kind and stores the answers. Pictures and "
        "answers together are a training set, the **transfer set**. The thief trains a new network on it, the **clone**."
    )
    left, right = st.columns([1, 1.6], gap="medium")
    with left:
        st.mermaid_chart(
            "graph TB\n  T([Thief]) -- pictures: queries --> A[Victim behind an API]\n"
            "  A -- posteriors --> D[Defense]\n  D -- changed posteriors --> S[(Transfer set)]\n"
            "  T -- the same pictures --> S\n  S -- training --> C[Clone]",
            alt="The thief sends pictures to the victim, gets posteriors through the defense, and trains a clone on them",
        )
    with right:
        asked = st.slider("Pictures that the thief sends", 4, 48, 12, 4, key="asked", **ui.IN_URL)
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
            "The thief's pictures show random shapes, no road signs. The victim answers each of them. 10,000 queries "
            "take minutes."
        )


def disturb(card: zoo.Card, logits: torch.Tensor, labels: torch.Tensor) -> None:
    """Step 3: one answer, changed by Reverse Sigmoid."""
    st.markdown(
        "A defense changes the probabilities before they are sent. It raises the probabilities of unlikely classes, "
        "so that only the top class of the answer is still informative. The **l1 distance** says how much an answer "
        "was changed: 0 means not at all, 2 means that all probability was moved to other classes."
    )
    beta = st.slider("Strength of the noise (β)", 0.0, 1.5, 0.3, 0.05, key="noise", **ui.IN_URL)
    index = int(clear()[engine.examples(logits[clear()], labels[clear()])["nearly sure"]])
    answers = engine.defend(logits[index][None], ReverseSigmoid(beta=beta))
    left, right = st.columns([1, 2.2])
    with left:
        picture(index, f"true class: {card.classes[labels[index]]}")
        st.metric("l1 distance", f"{float((answers.defended - answers.clean).abs().sum()):.3f}")
    with right:
        bars(card, answers.clean[0], answers.defended[0], "disturb")


def detector(card: zoo.Card, logits: torch.Tensor) -> None:
    """Step 4: the detector of DCP, on customers' and on the thief's answers."""
    st.markdown(
        "Changing every answer hurts honest customers. The defense **DCP** changes only *unsure* answers: those "
        "whose largest probability is below a threshold τ. A thief's unusual pictures often get unsure answers. A "
        "customer's pictures get them less often."
    )
    tau = st.slider("Change answers below this probability (τ)", 0.1, 1.1, 0.9, 0.05, key="threshold", **ui.IN_URL)
    defense = Deception(beta=0.9, tau=tau)
    y_max = logits.softmax(-1).amax(-1)
    thiefs = engine.predict(ui.load_victim(card.name).model, gallery()[1]).softmax(-1).amax(-1)
    curve = engine.detector_curve(defense, len(card.classes))
    some = pd.DataFrame({"x": thiefs.numpy(), "y": defense.alpha(thiefs).numpy()})
    left, right = st.columns([2.2, 1])
    with left:
        ui.chart(
            plots.function_plot(
                curve,
                some,
                x="largest probability of the answer (y_max)",
                y="detector (α): 1 changes the answer",
                limit=tau,
            ),
            key="detector",
            alt=f"Answers with a largest probability below τ = {tau:g} are changed, the others are not.",
            data=curve,
        )
        st.caption("Dots: the victim's answers to 64 of the thief's pictures, which show random shapes.")
    with right:
        st.metric("changed answers to customers", f"{100 * float((y_max < tau).double().mean()):.1f} %")
        st.metric("changed answers to the thief", f"{100 * float((thiefs < tau).double().mean()):.1f} %")


def price(card: zoo.Card) -> None:
    """Step 5: owner's error and l1 distance over the strength of DCP."""
    st.markdown(
        "A defense has a price for the owner. The sent answers differ from the model's own answers (l1 distance). With much "
        "noise, some top classes change too, and the owner's error rises. Each point is measured on the whole test "
        "set."
    )
    curve = dcp_curve(card.name)
    beta = st.select_slider(
        "Strength of DCP (β); the threshold τ follows it", list(Deception.grid), 0.9, key="price", **ui.IN_URL
    )
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
        f"At β = {beta:g} the owner's answers are wrong for **{here.defender_error:.2f} %** of {card.test_pictures:,} "
        f"test pictures (undefended {100 - (card.test_accuracy or 0):.2f} %), and the mean l1 is **{here.l1:.2f}**."
    )


def limits(card: zoo.Card) -> None:
    """Step 6: how many answers keep their top class, which is all that a top-1 thief uses."""
    st.markdown(
        "A thief may ignore the probabilities and use only the **top class**. A defense that keeps the top class for "
        "customers keeps it for the thief too. Also, a thief who knows the formula of a deterministic defense can "
        "compute much of the clean answer back."
    )
    beta = st.select_slider(
        "Strength of DCP (β); the threshold τ follows it", list(Deception.grid), 0.9, key="limits", **ui.IN_URL
    )
    curve = dcp_curve(card.name)
    here = curve[curve["strength"] == beta].iloc[0]
    ui.chart(
        plots.strength_curves(curve, "changed", current=beta),
        key="changed",
        alt=plots.describe_strength_curves(curve, "changed"),
        data=curve,
    )
    st.markdown(
        f"At β = {beta:g}, **{100 - here.changed:.2f} %** of the answers still have the same top class, which is enough "
        "for such a thief. A defense makes stealing more expensive, not impossible. Combine it with limits on "
        "queries, terms of use and monitoring of accounts."
    )


with ui.errors_explained():
    known = ui.victims()
    victim = zoo.card(ui.EMBEDDED if ui.EMBEDDED in known else known[0])
    victim_logits, victim_labels = ui.test_answers(victim.name)

answer()
doors()
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

asked_in_class, reply = ASKED[number]
with st.expander(f"Question: {asked_in_class}", icon=":material/help:"):
    st.markdown(reply)
with st.container(horizontal=True):
    st.button(
        "Previous",
        icon=":material/arrow_back:",
        disabled=number == 0,
        key="previous",
        on_click=_go,
        args=(max(number - 1, 0),),
        shortcut="Left",
    )
    st.button(
        "Next",
        icon=":material/arrow_forward:",
        type="primary",
        disabled=number == len(STEPS) - 1,
        key="next",
        on_click=_go,
        args=(min(number + 1, len(STEPS) - 1),),
        shortcut="Right",
    )
ui.scroll_to("step", number)  # the browser stays where it was, which is often below the new step's text

st.divider()
st.markdown("**Try it**")
with st.container(horizontal=True):
    real = ui.victim_state(zoo.card("cifar10-resnet20")) if "cifar10-resnet20" in known else {}
    small = ui.victim_state(zoo.card(EDGE)) if EDGE in known else {}
    ui.link(
        "playground", "The paper's setting on CIFAR-10", "tune", **real, **ui.defense_state(Deception(beta=0.9))
    )
    ui.link(
        "playground",
        "Edge device: the defense with the lowest cost",
        "memory",
        **small,
        **ui.defense_state(ReverseSigmoid(beta=0.08)),
    )
    strict = {"budget": 0.2, **ui.defense_state(Deception(beta=0.4), ui.TRADEOFFS)}
    ui.link("tradeoffs", "Answers that may move little (l1 ≤ 0.2)", "balance", **strict)
    ui.link("playground", "What the threshold τ does", "rule", **ui.defense_state(Deception(beta=0.9, tau=0.6)))
    ui.link("decide", "Should I deploy one, and which?", "gavel")
    ui.link("audit", "A sample audit report, and one of your own model", "fact_check")
