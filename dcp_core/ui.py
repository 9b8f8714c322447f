"""Functions that all pages share. Besides the pages, only this module imports Streamlit.

`key` and `bind="query-params"` store a widget's value in the URL, so that a view can be shared by copying its URL.
`persist_state="session"` keeps the value when the user changes the page. Two pages must not use the same key: on a change of
the page, Streamlit 1.67 removes the keys of the previous page from the URL, even if the link to the new page sets them.
"""

import dataclasses
import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import pandas as pd
import plotly.graph_objects as go
import streamlit as st
import torch

from dcp_core.attacks import Attack, make_attack
from dcp_core.data.datasets import DataError, available, test_picture
from dcp_core.data.images import sharpness
from dcp_core.data.sources import SIGNS_TEST
from dcp_core.data.synthetic import signs
from dcp_core.defenses import DEFENSES, Defense, make_defense
from dcp_core.defenses.base import Parameter
from dcp_core.defenses.model_based import ModelBased
from dcp_core.defenses.modelguard_s import Learned, StoredAnswers
from dcp_core.evaluation import guides
from dcp_core.files import home
from dcp_core.models import auxiliary, zoo
from dcp_core.results import rows as result_rows
from dcp_core.results.constraints import L1, L1_LIMITS
from dcp_core.results.schema import ResultsError

PAGES = {  # file in pages/ -> title, icon
    "story": ("Story", "auto_stories"),
    "playground": ("Playground", "tune"),
    "tradeoffs": ("Trade-offs", "balance"),
    "attack_lab": ("Attack lab", "science"),
    "quantized": ("Quantized", "memory"),
    "cost": ("Cost", "timer"),
    "decide": ("Decide", "gavel"),
    "paper": ("Paper", "article"),
}
ICON = Path(__file__).with_name("icon.png")  # a symbol of Streamlit's would come from the network
Name = TypeVar("Name", bound=str)
VIEWS = ("full", "class")
EMBEDDED = "signs-resnet8"  # first victim on the pages, because its pictures need no download
DEFENSE = "dcp"  # first defense on the pages
LOOKED = 512  # number of test pictures among which clear ones are searched
TRADEOFFS = "t_"  # prefix of the widget keys of the page Trade-offs, see above
IN_URL: dict[str, Any] = {"bind": "query-params", "persist_state": "session"}


def frame(title: str, question: str = "") -> None:
    """Draw page settings, title and sidebar. Every page must call this first.

    A link to a page right after the start of the server runs the page without `app.py`. Therefore the list of pages is
    drawn here, and not there.
    """
    st.set_page_config(page_title=f"{title} · Model stealing", page_icon=ICON, layout="wide")
    asked = st.query_params.get("view")
    st.session_state["view"] = asked if asked in VIEWS else st.session_state.get("view", VIEWS[0])
    torch.set_num_threads(1)  # pages compute little; the other cores are for background runs
    _spare_the_collector(len(sys.modules))
    with st.sidebar:
        for page, (label, icon) in PAGES.items():
            link(page, label, icon)
        st.divider()
        st.segmented_control(
            "View",
            VIEWS,
            required=True,
            key="view",
            help="'class' hides the expert controls. It is meant for teaching.",
            on_change=_view_to_address,
            persist_state="session",
        )
        # Opening the popover reruns the page, because a rerun of a fragment may have changed the URL.
        with st.popover("Share this view", icon=":material/link:", on_change="rerun"):
            st.caption("The page's address contains all your settings. Copy it from here or from the browser.")
            st.code(_address(), language=None, wrap_lines=True)
    st.title(title, anchor=False)
    if question:
        st.markdown(f"*{question}*")


@lru_cache(maxsize=64)
def _spare_the_collector(modules: int) -> None:
    """Exclude the objects of imported modules from garbage collection, once for each number of imported modules.

    Streamlit collects garbage after every run, before the last charts are sent. Imports leave about 250,000 objects, and
    checking them delays the charts.
    """
    gc.freeze()


def _view_to_address() -> None:
    st.query_params.pop("view", None)
    st.query_params.update(_view_state())


def _view_state() -> dict[str, str]:
    """The URL parameter of the chosen view; none for the default."""
    view = st.session_state.get("view", VIEWS[0])
    return {} if view == VIEWS[0] else {"view": view}


def experts() -> bool:
    """Whether expert controls are shown (`?view=class` hides them)."""
    return st.session_state.get("view") != "class"


@contextmanager
def errors_explained() -> Iterator[None]:
    """Show a ValueError as a message and stop the page. This project's ValueErrors have messages for users."""
    try:
        yield
    except ValueError as error:
        st.error(str(error), icon=":material/error:")
        st.stop()


def attempt(action: Callable[[], object], prefix: str) -> None:
    """Run the action of a button. The message of an error is stored in the session state as `{prefix}trouble`.

    `{prefix}again` is set to True, which asks for a rerun of the whole page: a button in a fragment reruns only the
    fragment.
    """
    try:
        action()
    except (ValueError, OSError) as error:
        st.session_state[f"{prefix}trouble"] = str(error)
    st.session_state[f"{prefix}again"] = True


def chart(figure: go.Figure, *, key: str, alt: str, data: pd.DataFrame | None = None, select: bool = False) -> Any:
    """Draw a figure with downloads: PNG (camera button of the chart), HTML (its camera button saves SVG) and CSV.

    Args:
        key: key of the chart, and name of the downloaded files.
        alt: alt text: one sentence with the conclusion of the figure.
        data: the numbers in the figure, for CSV.
        select: let the user select points.

    Returns:
        The selection if `select`, else None.
    """
    config = {"displaylogo": False, "toImageButtonOptions": {"format": "png", "scale": 2, "filename": key}}
    options: dict[str, Any] = {"on_select": "rerun", "selection_mode": ("points", "box")} if select else {}
    selection = st.plotly_chart(figure, key=key, alt=alt, config=config, **options)
    with st.container(horizontal=True, gap="small"):
        st.download_button(
            "HTML · SVG",
            lambda: _as_html(figure, key),
            file_name=f"{key}.html",
            mime="text/html",
            key=f"{key}-html",
            type="tertiary",
            icon=":material/download:",
            on_click="ignore",
            help="An interactive HTML page that works offline. Its camera button saves the figure as SVG; the camera button "
            "of the chart above saves PNG.",
        )
        if data is not None:
            csv(data, key)
    return selection if select else None


def csv(data: pd.DataFrame, key: str, label: str = "CSV") -> None:
    """Draw a button that downloads a table as CSV."""
    st.download_button(
        label,
        lambda: data.to_csv(index=False),
        file_name=f"{key}.csv",
        mime="text/csv",
        key=f"{key}-csv",
        type="tertiary",
        icon=":material/table:",
        on_click="ignore",
    )


def victims() -> list[str]:
    """The names of the victims. Shows a warning for each victim that cannot be read. Stops the page if there is none."""
    for problem in zoo.problems():
        st.warning(str(problem), icon=":material/report:")
    known = zoo.names()
    if not known:
        st.error(
            "There is no victim on this machine. Train one: python -m dcp_core train --data signs --network resnet8"
        )
        st.stop()
    return known


def choose_victim(prefix: str = "") -> zoo.Card:
    """Draw a select box of victims, and a summary of the chosen one. `torchvision:NAME` can be typed in.

    For a victim that cannot be read, show the error and return the first victim.
    """
    known = victims()
    _take_short_name(f"{prefix}victim", known)
    name = st.selectbox(
        "Victim",
        known,
        known.index(EMBEDDED) if EMBEDDED in known else 0,
        key=f"{prefix}victim",
        format_func=lambda n: zoo.card(n).title if n in known else n,
        accept_new_options=True,
        help="The classifier that is attacked and defended. You can also type "
        f"{zoo.TORCHVISION} and the name of a classification model of torchvision.",
        **IN_URL,
    )
    try:
        card = load_victim(name).card if str(name).startswith(zoo.TORCHVISION) else zoo.card(str(name))
    except ValueError as error:
        card = zoo.card(EMBEDDED if EMBEDDED in known else known[0])
        st.error(f"{error} Shown instead: {card.title}.", icon=":material/error:")
    accuracy = "accuracy unknown" if card.test_accuracy is None else f"**{card.test_accuracy:.2f} %**"
    st.caption(
        f"{card.architecture} · {card.precision} · {len(card.classes)} classes · {accuracy} "
        f"of {card.test_pictures:,} test pictures · {card.parameters:,} parameters"
        + (f" · sha256 `{card.sha256[:10]}`" if card.sha256 else "")
    )
    return card


def _take_short_name(key: str, names: Sequence[str]) -> None:
    """Accept a short name in the URL, for URLs that were written by hand.

    Streamlit stores the title of an option in the URL and ignores other values, so links use titles. The shared URL has the
    title too.
    """
    if st.query_params.get(key) in names:
        st.session_state[key] = st.query_params[key]


def select(
    label: str, titles: Mapping[Name, str], key: str, start: Name | None = None, help: str | None = None
) -> Name:
    """Draw a select box that shows titles, and return the short name of the chosen option.

    Args:
        titles: short name -> title.
        start: short name that is chosen at first. Default: the first.
    """
    names = list(titles)
    _take_short_name(key, names)
    first = 0 if start is None else names.index(start)
    return st.selectbox(label, names, first, key=key, format_func=titles.__getitem__, help=help, **IN_URL)


def choose_l1(key: str) -> L1:
    """Draw a select box for the answers to which the limit on the mean l1 distance applies."""
    return select(
        "The l1 limit holds for",
        L1_LIMITS,
        key,
        help="l1 is the distance between the clean and the defended answer, 0 to 2. A defense may move answers to a thief's "
        "pictures further than answers to customers' pictures. The paper's released code limits the thief's queries.",
    )


def choose_defense(names: Sequence[str] | None = None, prefix: str = "") -> Defense:
    """Draw a select box of defenses, and a control for each declared parameter of the chosen one."""
    titles = {name: DEFENSES[name].title for name in names or DEFENSES}
    return defense_parameters(select("Defense", titles, f"{prefix}defense", DEFENSE), prefix)


def defense_parameters(name: str, prefix: str = "") -> Defense:
    """Draw controls for the declared parameters of a defense. Their keys in the URL are `{prefix}{defense}_{parameter}`."""
    with errors_explained():
        return make_defense(name, **_controls(DEFENSES[name], prefix))


def attack_parameters(start: Attack, prefix: str = "") -> Attack:
    """Draw controls for the declared parameters of an attack. Their keys in the URL are `{prefix}{attack}_{parameter}`.

    Args:
        start: the attack with the first values of the controls.
    """
    with errors_explained():
        return make_attack(start.name, **_controls(start, prefix))


def _controls(kind: type[Defense] | Attack, prefix: str) -> dict[str, Any]:
    declared = kind.parameters()
    values = {key: _control(kind, key, each, prefix) for key, each in declared.items() if not each.expert}
    expert = {key: each for key, each in declared.items() if each.expert}
    if expert and experts():
        with st.expander("More parameters", icon=":material/science:"):
            values |= {key: _control(kind, key, each, prefix) for key, each in expert.items()}
    return values


def _start(kind: type[Defense] | Attack, key: str) -> Any:
    """Where the control of a parameter begins."""
    default = getattr(kind, key)
    return kind.parameters()[key].high * 0.6 if default is None else default


def _control(kind: type[Defense] | Attack, key: str, declared: Parameter, prefix: str) -> Any:
    default, url = _start(kind, key), f"{prefix}{kind.name}_{key}"
    name = declared.label or key.replace("_", " ").capitalize()
    if declared.choices == (True, False):
        return st.toggle(name, default, key=url, help=declared.help, **IN_URL)
    if declared.choices:
        return st.segmented_control(
            name, declared.choices, default=default, required=True, key=url, help=declared.help, **IN_URL
        )
    if declared.optional:
        automatic = getattr(kind, key) is None
        if st.toggle(f"{name} ({declared.symbol}): {declared.optional}", automatic, key=f"{url}_auto", **IN_URL):
            return None
    whole = isinstance(default, int) and not isinstance(default, bool)
    number: Callable[[float], Any] = int if whole else float
    if isinstance(kind, Attack):  # their ranges are too wide for a slider
        return st.number_input(
            f"{name} ({declared.symbol})",
            number(declared.low),
            number(declared.high),
            number(default),
            number(declared.step),
            format="%d" if whole else "%.4g",
            key=url,
            help=declared.help,
            **IN_URL,
        )
    value = st.slider(
        f"{name} ({declared.symbol})",
        number(declared.low),
        number(declared.high),
        number(default),
        number(declared.step),
        format="%d" if whole else "%.4g",
        key=url,
        help=declared.help,
        **IN_URL,
    )
    return round(value, 9)  # dragged by steps of 0.01, a slider gives 0.8999999999999999


def link(page: str, label: str, icon: str, **state: Any) -> None:
    """Draw a link to another page that carries the chosen view.

    Args:
        page: file name in `pages/`, without `.py`.
        state: URL parameters of the link.
    """
    state |= _view_state()
    query = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in state.items()}
    st.page_link(f"pages/{page}.py", label=label, icon=f":material/{icon}:", query_params=query or None)


def victim_state(card: zoo.Card, prefix: str = "") -> dict[str, Any]:
    """The URL parameter that chooses a victim in `choose_victim` with that prefix; none if it is chosen anyway."""
    key = f"{prefix}victim"
    return {key: card.title} if differing({key: card.name}, {key: EMBEDDED}) else {}


def defense_state(defense: Defense, prefix: str = "") -> dict[str, Any]:
    """The URL parameters with which `choose_defense`, with the same prefix, shows this defense; defaults are left out.

    The defense is given by its title, because Streamlit stores the titles of options in the URL.
    """
    key = f"{prefix}defense"
    wanted = {key: defense.name} | parameter_state(defense, prefix)
    defaults = {f"{prefix}{defense.name}_{name}": _start(type(defense), name) for name in defense.parameters()}
    state = differing(wanted, defaults | {key: DEFENSE} | parameter_state(type(defense)(), prefix))
    return state | ({key: defense.title} if key in state else {})


def differing(wanted: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """What an address must say: all that is not the default, and defaults where this session holds another value.

    Streamlit removes a default from an opened address, each as a step of the browser's history: with one there, the
    Back button would return to the address that has it, from which it would be removed again.
    """
    return {
        key: value
        for key, value in wanted.items()
        if key not in defaults or value != defaults[key] or st.session_state.get(key, value) != value
    }


def parameter_state(made: Defense | Attack, prefix: str = "") -> dict[str, Any]:
    """The values of the controls of a defense's or an attack's parameters, by the controls' names."""
    state: dict[str, Any] = {}
    for key, declared in made.parameters().items():
        value, name = getattr(made, key), f"{prefix}{made.name}_{key}"
        if declared.optional:
            state[f"{name}_auto"] = value is None
        if value is not None:
            state[name] = value
    return state


def armed(defense: Defense, victim: str) -> Defense:
    """A defense with the second network or the stored answers that it needs. All sessions share the network.

    Raises:
        ValueError: if they are missing. The message has the command that trains the network.
    """
    if not isinstance(defense, ModelBased) or defense.needs is None:
        return learned(defense, victim)
    return dataclasses.replace(defense, network=_second_network(victim, defense.needs, defense.name, defense))


@st.cache_resource(max_entries=8, show_spinner="Loading the second network ...")
def _second_network(victim: str, needs: str, defense: str, _defense: ModelBased) -> torch.nn.Module | None:
    made = auxiliary.arm(_defense, victim)
    assert isinstance(made, ModelBased)
    return made.network


def learned(defense: Defense, victim: str) -> Defense:
    """A defense with the stored answers that it is learned on; as it is if it is not learned.

    Raises:
        ValueError: for a victim without stored answers.
    """
    return defense.armed(_stored_answers(victim)) if isinstance(defense, Learned) else defense


@st.cache_resource(max_entries=8, show_spinner=False)
def _stored_answers(victim: str) -> StoredAnswers:
    return auxiliary.stored_answers(victim)


def guide_of(defense: Defense, victim: str, seed: int = 0) -> torch.Tensor | None:
    """The guide (N, K) of a model-based defense for the victim's test set; None for other defenses. Shows the progress.

    Raises:
        ValueError: as `evaluation.guides.guide_of_test_set`.
    """
    if not isinstance(defense, ModelBased):
        return None
    cancelled = f"cancelled-{victim}-{defense.name}"
    place = st.empty()
    if st.session_state.get(cancelled):
        with place.container():
            st.info(f"Cancelled: {defense.title} needs the guide of every test picture.", icon=":material/cancel:")
            st.button("Compute it", key=f"again-{defense.name}", on_click=_set, args=(cancelled, False))
        st.stop()
    with place.container():
        bar = st.empty()
        button = st.empty()

    def tell(done: float) -> None:
        if not done_before:  # a stored guide needs no button
            button.button("Cancel", key=f"cancel-{defense.name}", on_click=_set, args=(cancelled, True))
        done_before.append(done)
        bar.progress(done, f"{defense.title} computes its guide for every test picture, once; {done:.0%} done ...")

    done_before: list[float] = []
    guide = guides.guide_of_test_set(victim, defense, seed=seed, progress=tell)
    place.empty()
    return guide


def _set(key: str, value: object) -> None:
    st.session_state[key] = value


@st.cache_resource(max_entries=4, show_spinner="Loading the victim ...")
def load_victim(name: str) -> zoo.Victim:
    """A victim. All sessions share it, so it must not be changed."""
    return zoo.load(name)


@st.cache_resource(max_entries=8, show_spinner="Reading the victim's answers ...")
def test_answers(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Clean logits (N, K) and labels (N,) of a victim's test set. All sessions share them."""
    return zoo.test_answers(name)


@st.cache_resource(max_entries=8, show_spinner="Looking for clear pictures ...")
def clear_pictures(dataset: str, size: int) -> torch.Tensor | None:
    """Which of a data set's `size` test pictures a person recognises best: bool (N,), true for an eighth of the first
    ones. None where the pictures cannot be read on this machine."""
    looked = min(size, LOOKED)
    try:
        if dataset == "signs":  # drawn one by one they take minutes
            pictures = signs(looked, SIGNS_TEST)[0]
        elif available(dataset):
            pictures = torch.stack([test_picture(dataset, number) for number in range(looked)])
        else:
            return None
    except DataError:
        return None
    clear = torch.zeros(size, dtype=torch.bool)
    clear[sharpness(pictures).topk(max(1, looked // 8)).indices] = True
    return clear


def all_results() -> tuple[pd.DataFrame, list[ResultsError]]:
    """All result rows, and the problems of their files. Files are read again if they change.

    All sessions share the rows, so they must not be changed.
    """
    return _results(_result_files())


def thief_points() -> pd.DataFrame:
    """Result rows with a thief's error, averaged over seeds. All sessions share them, so they must not be changed."""
    return _thief_points(_result_files())


def _result_files() -> tuple[tuple[str, int], ...]:
    files = [path for folder in (result_rows.SHIPPED, home() / "results") for path in sorted(folder.glob("*"))]
    return tuple((str(path), path.stat().st_mtime_ns) for path in files)


@st.cache_resource(max_entries=2, show_spinner=False)
def _results(files: tuple[tuple[str, int], ...]) -> tuple[pd.DataFrame, list[ResultsError]]:
    return result_rows.load_results()


@st.cache_resource(max_entries=2, show_spinner=False)
def _thief_points(files: tuple[tuple[str, int], ...]) -> pd.DataFrame:
    return result_rows.thief_points(_results(files)[0])


def _address() -> str:
    query = urlencode(st.query_params.to_dict())
    return f"{st.context.url}?{query}" if query else f"{st.context.url}"


def _as_html(figure: go.Figure, name: str) -> str:
    return figure.to_html(
        config={"toImageButtonOptions": {"format": "svg", "filename": name}, "displaylogo": False}
    )
