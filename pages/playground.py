"""What a defense does to the answer for one picture."""

import json
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st
import torch

from dcp_core import answers as engine
from dcp_core import plots, ui
from dcp_core.api.pictures import predictions
from dcp_core.costs.hidden_costs import second_network_words
from dcp_core.data.datasets import available, test_picture
from dcp_core.data.images import MAX_BYTES, ImageError, read_image
from dcp_core.data.tensors import to_image, to_tensor, to_url
from dcp_core.defenses import DEFENSES, Defense
from dcp_core.defenses.base import Answer
from dcp_core.defenses.model_based import ModelBased
from dcp_core.evaluation.sentences import about_answer
from dcp_core.models import zoo
from dcp_core.models.zoo import TORCHVISION, Card
from dcp_core.runs.spec import defense_command

ui.frame("Playground", "What does the defense do to one answer?")

MEGABYTE = 2**20


@dataclass(frozen=True)
class Question:
    """The chosen picture, and the victim's answer to it.

    Args:
        logits: clean logits (K,).
        pixels: (3, H, W) in [0, 1]; None if the picture is not on this machine.
        number: its number in the test set; None for a picture of the user's own.
    """

    logits: torch.Tensor
    pixels: torch.Tensor | None
    number: int | None = None

    def seen_by(self, defense: Defense, victim: str, seed: int) -> dict[str, Any]:
        """What a defense needs besides the posterior, as arguments of `answers.defend`.

        A defense with a second network needs the picture, or the guide that is stored for this test picture. Others need
        nothing.
        """
        if not isinstance(defense, ModelBased):
            return {}
        if self.pixels is not None:
            return {"inputs": self.pixels[None]}
        guide = ui.guide_of(defense, victim, seed)
        assert guide is not None
        assert self.number is not None
        return {"guide": guide[self.number, None]}


def armed(defense: Defense, seen: dict[str, Any], victim: str) -> Defense:
    """The defense with what it needs for this victim. With a stored guide in `seen`, the second network is not loaded."""
    return ui.learned(defense, victim) if "guide" in seen else ui.armed(defense, victim)


def choose_picture(card: Card) -> Question:
    """Let a person choose a picture, and show it."""
    stored = not card.name.startswith(TORCHVISION)
    source = st.segmented_control(
        "Picture",
        ["test set", "upload", "camera"] if stored else ["upload", "camera"],
        default="test set" if stored else "upload",
        required=True,
        key="source" if stored else "own_source",
        wrap=True,
        **ui.IN_URL,
    )
    if source == "test set":
        return from_test_set(card)
    if source == "upload":
        st.file_uploader(
            "A picture of your own",
            key="upload",
            max_upload_size=MAX_BYTES // MEGABYTE,
            on_change=ui.keep,
            args=("upload",),
            help="JPEG, PNG, WebP, BMP, GIF or TIFF. It is kept in this server's memory only, until this tab is closed.",
        )
    else:
        st.camera_input(
            "A photograph", key="camera", on_change=ui.keep, args=("camera",), label_visibility="collapsed"
        )
    files = ui.kept(source)
    if not files and not stored:
        st.info(
            "Choose a picture: the answers to this victim's test set do not come with it.", icon=":material/image:"
        )
        st.stop()
    if not files:
        st.info("No picture yet. Shown instead: one of the test set.", icon=":material/image:")
        return from_test_set(card)
    try:
        pixels = to_tensor(read_image(files[0]), card.size)
    except ImageError as error:
        st.error(ui.plain(f"{error} Choose another file."), icon=":material/broken_image:")
        if not stored:
            st.stop()
        return from_test_set(card)
    with ui.errors_explained():
        logits = engine.predict(ui.load_victim(card.name).model, pixels[None])[0]
    show_picture(pixels, f"your picture as the victim sees it: {card.size} x {card.size} pixels")
    return Question(logits, pixels)


def from_test_set(card: Card) -> Question:
    """A picture of the victim's test set by its number; its answer was stored with the victim."""
    place = st.container()
    logits, labels = ui.test_answers(card.name)
    base = card.of or card.name  # an eight-bit version begins with the picture of the victim that it was made from
    start = first_picture(base)
    telling = engine.examples(logits, labels, ui.clear_pictures(card.dataset, len(labels)))
    last = len(labels) - 1
    if st.session_state.setdefault("picture_of", base) != base:
        st.session_state.update(picture_of=base, picture=start)  # a number means another picture of another victim
    # Another victim may have fewer test pictures than the number that the URL or the session carries.
    if st.session_state.get("picture", 0) > last:
        st.session_state["picture"] = last
    number = st.number_input(
        f"Picture number in the test set (0 to {last:,})",
        0,
        last,
        start,
        key="picture",
        **ui.IN_URL,
    )
    with examples:
        for name, index in telling.items():
            st.button(name, key=f"example-{name}", on_click=_go_to, args=(index,))
        anywhere = int(torch.randint(last + 1, ()))
        st.button("random", key="random", icon=":material/casino:", on_click=_go_to, args=(anywhere,))
    label = f"true class: {ui.plain(card.classes[labels[number]])}"
    pixels = None
    with place:
        if available(card.dataset):
            with ui.errors_explained():
                pixels = test_picture(card.dataset, number).float() / 255
                show_picture(pixels, label)
        else:
            st.info(
                f"{label}. The answer shown is the victim's own, stored with it; to see the picture, run  "
                f"`python -m dcp_core data download {card.dataset}`",
                icon=":material/image_not_supported:",
            )
    return Question(logits[number], pixels, number)


def first_picture(victim: str) -> int:
    """Number of the test picture that a victim's page begins with: a clear one with a nearly sure answer."""
    logits, labels = ui.test_answers(victim)
    clear = ui.clear_pictures(zoo.card(victim).dataset, len(labels))
    return engine.examples(logits, labels, clear)["nearly sure"]


def show_picture(pixels: torch.Tensor, caption: str) -> None:
    """A small picture, enlarged without smoothing."""
    st.image(to_image(pixels).resize((200, 200), resample=0), caption=caption, alt=caption)


def _go_to(index: int) -> None:
    st.session_state["picture"] = index
    st.session_state["source"] = "test set"


def show_answer(live: ui.LiveAnswer, follow: bool) -> None:
    """Draw the effect of the defense: a sentence, numbers, and bars of the clean and the defended answer."""
    if not follow:
        row = engine.describe(live.answers, live.classes).iloc[0]
        st.markdown(ui.plain(about_answer(live.defense, live.clean, live.defended, live.classes)))
        with st.container(horizontal=True):
            st.metric("l1 distance, 0 to 2", f"{row.l1:.3f}")
            st.metric(
                "Largest probability", f"{row.defended_y_max:.3f}", f"{row.defended_y_max - row.clean_y_max:.3f}"
            )
            st.metric("Entropy in nats", f"{row.defended_entropy_nats:.2f}", f"clean {row.clean_entropy_nats:.2f}")
    ui.live_chart(
        ui.answer_panels(live) if follow else [],
        live.sliders,
        key="answer",
        alt=plots.describe_answer(live.classes, live.clean, live.defended),
        figure=plots.answer_bars(live.classes, live.clean, live.defended),
        data=plots.answer_table(live.classes, live.clean, live.defended, len(live.classes)),
        follow=follow,
    )


def show_guide(defense: ModelBased, guide: torch.Tensor, classes: tuple[str, ...]) -> None:
    """The output of the second network for this picture."""
    st.markdown(f"**{defense.guide_title}**")
    values = guide[0].numpy()
    ui.chart(
        plots.class_values(classes, values, defense.guide_unit),
        key="guide",
        alt=f"{classes[int(values.argmax())]} has the largest value.",
        data=pd.DataFrame({"class": classes, defense.guide_unit: values}),
    )


def show_functions(live: ui.LiveAnswer, guide: torch.Tensor | None, follow: bool) -> None:
    """alpha(y_max), r(y) or what the second network says, and y -> y', with this answer's points."""
    defense, classes, clean, defended = live.defense, live.classes, live.clean, live.defended
    first, second, third = st.columns(3)
    alpha = defense.alpha(live.answers.clean.max())
    if alpha is not None:
        curve = engine.detector_curve(defense, len(clean))
        here = pd.DataFrame({"x": [clean.max()], "y": [float(alpha)]})
        alt = f"At y_max {clean.max():.3f} the detector gives α = {float(alpha):.3f}."
        with first:
            st.markdown("**Detector** α(y_max), Eq. 4")
            ui.live_chart(
                [ui.detector_panel(live, alt)],
                live.sliders,
                key="detector",
                alt=alt,
                figure=plots.function_plot(
                    curve, here, x="largest probability y_max", y="α", limit=defense.threshold
                ),
                data=curve,
                follow=follow,
            )
    noise = defense.noise(Answer(live.answers.clean, live.answers.logits))
    if noise is not None:
        alt = "Unlikely classes get the most negative noise, which the defense subtracts: they are raised."
        curve = engine.noise_curve(defense)
        points = pd.DataFrame({"x": clean, "y": noise[0].numpy()})
        with second:
            st.markdown("**Noise** r(y), Eq. 6")
            ui.live_chart(
                [ui.noise_panel(live, alt)],
                live.sliders,
                key="noise",
                alt=alt,
                figure=plots.function_plot(curve, points, x="clean probability y", y="r(y)", labels=classes),
                data=curve,
                follow=follow,
            )
    elif isinstance(defense, ModelBased) and guide is not None:
        with second:
            show_guide(defense, guide, classes)
    elif alpha is None:
        first.info("This defense has no detector and no noise function.")
    with third:
        alt = "Classes above the dotted line gain probability, those below lose it."
        st.markdown("**Every class** y → y′")
        ui.live_chart(
            [ui.class_panel(live, alt)],
            live.sliders,
            key="classes",
            alt=alt,
            figure=plots.class_map(classes, clean, defended),
            data=pd.DataFrame({"class": classes, "clean": clean, "defended": defended}),
            follow=follow,
        )


def show_steps(defense: Defense, logits: torch.Tensor, card: Card) -> None:
    """The defense's formula term by term."""
    steps = engine.every_step(defense, logits, card.classes)
    if len(steps.columns) == 1:
        shown = ", ".join(kind.short for kind in DEFENSES.values() if kind.steps is not Defense.steps)
        st.info(f"{defense.title} shows no terms of its formula. These do: {shown}.")
        return
    if defense.formula:
        st.latex(defense.formula)
    steps = steps.sort_values(steps.columns[1], ascending=False)
    numbers = {c: st.column_config.NumberColumn(format="%.6f") for c in steps.columns[1:]}
    st.dataframe(steps, hide_index=True, column_config=numbers, alt="Every term of the formula for every class")
    ui.csv(steps, "every-step")


def show_all_defenses(defense: Defense, question: Question, card: Card, seed: int) -> None:
    """Every defense on this picture."""
    shown, guides, missing = [], {}, []
    for name, kind in DEFENSES.items():
        each = defense if name == defense.name else kind()
        try:
            seen = question.seen_by(each, card.name, seed)
            shown.append(armed(each, seen, card.name))
        except ValueError as error:
            missing.append(ui.plain(error))
            continue
        if "guide" in seen:
            guides[name] = seen["guide"]
    pixels = None if question.pixels is None else question.pixels[None]
    table = engine.compare_defenses(question.logits, shown, seed, inputs=pixels, guides=guides)
    ui.chart(
        plots.all_defenses(card.classes, table),
        key="all-defenses",
        alt="; ".join(f"{row.defense}: l1 {row.l1:.2f}" for row in table.itertuples()),
        data=table.assign(posterior=[json.dumps([round(float(v), 6) for v in p]) for p in table["posterior"]]),
    )
    st.caption(
        f"**{defense.title}** with your parameters, the others with their defaults. ★ marks the top class. A time is "
        "the median of 9 measurements for one answer on this machine: the defense with its second network, if it has one, "
        "without the victim."
    )
    for reason in missing:
        st.info(ui.plain(reason), icon=":material/visibility_off:")


def show_thief(defense: Defense, answers: engine.Answers, card: Card) -> None:
    """The answer as the API sends it."""
    st.markdown("This is everything that a thief or a customer receives for this picture:")
    (prediction,) = predictions(answers.defended.numpy(), card.classes)
    lines = ",\n  ".join(json.dumps(entry, ensure_ascii=False) for entry in prediction)
    st.code(f'{{"predictions": [[\n  {lines}\n]]}}', language="json", height=330)
    st.caption("This command starts the API:")
    st.code(defense_command("serve", card.name, defense), language="bash", wrap_lines=True)


def show_batch(defense: Defense, card: Card, seed: int) -> None:
    """Many pictures at once: a table and a CSV."""
    st.file_uploader(
        "Pictures, or a zip file of pictures (at most 500 pictures)",
        accept_multiple_files=True,
        key="batch",
        max_upload_size=200,
        on_change=ui.keep,
        args=("batch",),
    )
    files = ui.kept("batch")
    if not files:
        st.caption(
            "The table has one row per picture: clean and defended top class, l1 distance, largest probability, entropy. "
            "The CSV "
            "file also has all probabilities."
        )
        return
    named: list[str] = []
    tensors: list[torch.Tensor] = []
    progress = st.progress(0.0, "Reading pictures ...")
    for position, file in enumerate(files):
        progress.progress(position / len(files), f"Reading {ui.plain(file.name)} ...")
        for name, picture in ui.pictures_in(file):
            if isinstance(picture, ImageError):
                st.warning(f"**{ui.plain(name)}**: {ui.plain(picture)}", icon=":material/broken_image:")
            else:
                named.append(name)
                tensors.append(to_tensor(picture, card.size))
    progress.empty()
    if not tensors:
        return
    answers = engine.answer(ui.load_victim(card.name), torch.stack(tensors), defense, seed)
    table = engine.describe(answers, card.classes)
    table.insert(0, "picture", named)
    st.dataframe(
        table.assign(seen=[to_url(each) for each in tensors])[["seen", *table]],
        hide_index=True,
        column_config={"seen": st.column_config.ImageColumn("as the victim sees it", width=150)},
        alt=f"{len(table)} pictures, clean and defended",
    )
    ui.csv(engine.with_posteriors(table, answers, card.classes), "answers", f"CSV of {len(table)} answers")


examples = st.container(horizontal=True, gap="small")
left, middle, right = st.columns([1.05, 2.6, 1.25], gap="medium")
with left:
    victim = ui.choose_victim()
    question = choose_picture(victim)
with right:
    defense = ui.choose_defense()
    seed = st.number_input("Random seed", 0, 10_000, 0, key="seed", **ui.IN_URL) if defense.randomised else 0
    follow = ui.live_switch() if ui.experts() else True
    for remark in defense.remarks():
        st.caption(remark)
    if words := second_network_words(defense, victim.name):
        st.caption(ui.plain(words))
with middle, ui.errors_explained():
    seen = question.seen_by(defense, victim.name, seed)
    defense = armed(defense, seen, victim.name)
    answers = engine.defend(question.logits[None], defense, seed, **seen)
    guide = seen.get("guide")
    if "inputs" in seen:
        guide = defense.guide(answers.clean, seen["inputs"], torch.Generator().manual_seed(seed))
    live = ui.live_answer(defense, answers, victim.classes, guide=guide, seed=seed)
    show_answer(live, follow)

views = {
    "Functions": lambda: show_functions(live, guide, follow),
    "Every step": lambda: show_steps(defense, question.logits, victim),
    "All defenses": lambda: show_all_defenses(defense, question, victim, seed),
    "What the thief sees": lambda: show_thief(defense, answers, victim),
    "Many pictures": lambda: show_batch(defense, victim, seed),
}
names = list(views) if ui.experts() else [name for name in views if name not in ("Every step", "Many pictures")]
tab = st.segmented_control(
    "Look closer",
    names,
    default="Functions",
    required=True,
    key="closer",
    label_visibility="collapsed",
    **ui.IN_URL,
)
views[tab if tab in names else "Functions"]()
with st.container(horizontal=True):
    carried = {**ui.victim_state(victim, ui.TRADEOFFS), **ui.defense_state(defense, ui.TRADEOFFS)}
    ui.link("tradeoffs", "Use this setting on the whole test set", "balance", **carried)
