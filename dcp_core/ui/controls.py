"""Select boxes for victims and defenses, a control for each declared parameter, and the state that links carry."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import streamlit as st

from dcp_core.attacks import Attack, make_attack
from dcp_core.defenses import DEFENSES, Defense, make_defense
from dcp_core.defenses.base import Parameter
from dcp_core.models import zoo
from dcp_core.results.constraints import L1, L1_LIMITS
from dcp_core.ui.page import errors_explained, experts, link, plain
from dcp_core.ui.stored import load_victim

Name = TypeVar("Name", bound=str)
EMBEDDED = "signs-resnet8"  # first victim on the pages, because its pictures need no download
DEFENSE = "dcp"  # first defense on the pages
TRADEOFFS = "t_"  # prefix of the widget keys of the page Trade-offs; links to it use the prefix too
IN_URL: dict[str, Any] = {"bind": "query-params", "persist_state": "session"}


def victims() -> list[str]:
    """The names of the victims. Shows a warning for each victim that cannot be read. Stops the page if there is none."""
    for problem in zoo.problems():
        st.warning(plain(problem), icon=":material/report:")
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
        help=f"The classifier that is attacked and defended. You can also type {zoo.TORCHVISION} and the name of a "
        "classification model of torchvision.",
        **IN_URL,
    )
    try:
        card = load_victim(name).card if str(name).startswith(zoo.TORCHVISION) else zoo.card(str(name))
    except ValueError as error:
        card = zoo.card(EMBEDDED if EMBEDDED in known else known[0])
        st.error(plain(f"{str(error).rstrip('.')}. Shown instead: {card.title}."), icon=":material/error:")
    accuracy = "accuracy unknown" if card.test_accuracy is None else f"**{card.test_accuracy:.2f} %**"
    facts = [f"{len(card.classes)} classes", f"{accuracy} of {card.test_pictures:,} test pictures"]
    if experts():
        link("own", "Add your own classifier", "add_circle")
        facts = [plain(card.architecture), plain(card.precision), f"{card.size} px", *facts]
        facts += [f"{card.parameters:,} parameters", *([f"sha256 `{card.sha256[:10]}`"] if card.sha256 else [])]
    st.caption(" · ".join(facts))
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
    values: dict[str, Any] = {}
    for key, each in declared.items():
        if each.expert:
            continue
        dragged = not isinstance(kind, Attack) and key == kind.strength  # `frame.css` keeps it in sight on a phone
        with st.container(key=f"{prefix}strength") if dragged else nullcontext():
            values[key] = _control(kind, key, each, prefix)
    expert = {key: each for key, each in declared.items() if each.expert}
    if expert and experts():
        with st.expander("More parameters", icon=":material/science:"):
            values |= {key: _control(kind, key, each, prefix) for key, each in expert.items()}
    return values


def _start(kind: type[Defense] | Attack, key: str) -> Any:
    """The first value of a parameter's control: the default, or 60 % of the upper limit if the default is None."""
    default = getattr(kind, key)
    return kind.parameters()[key].high * 0.6 if default is None else default


def _control(kind: type[Defense] | Attack, key: str, declared: Parameter, prefix: str) -> Any:
    default, url = _start(kind, key), f"{prefix}{kind.name}_{key}"
    name = declared.label or key.replace("_", " ").capitalize()
    if declared.choices == (True, False):
        return st.toggle(name, default, key=url, help=declared.help, wrap=True, **IN_URL)
    if declared.choices:
        return st.segmented_control(
            name,
            declared.choices,
            default=default,
            required=True,
            key=url,
            help=declared.help,
            wrap=True,
            **IN_URL,
        )
    if declared.optional:
        automatic = getattr(kind, key) is None
        label = f"{name} ({declared.symbol}): {declared.optional}"
        if st.toggle(label, automatic, key=f"{url}_auto", wrap=True, **IN_URL):
            return None
    whole = isinstance(default, int) and not isinstance(default, bool)
    number: Callable[[float], Any] = int if whole else float
    if isinstance(kind, Attack):  # their ranges are too wide for a slider
        typed = st.number_input(
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
        return number(round(typed, 9))  # stepped by 0.1, a field gives 0.8999999999999999
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
    """The URL parameters that a link needs: values that are not the default, and defaults if this session has other values.

    A link must not contain other defaults: Streamlit removes each default from the URL in a new step of the browser's
    history. The Back button would then return to the URL with the default, which would be removed again.
    """
    return {
        key: value
        for key, value in wanted.items()
        if key not in defaults or value != defaults[key] or st.session_state.get(key, value) != value
    }


def parameter_state(made: Defense | Attack, prefix: str = "") -> dict[str, Any]:
    """The values of the controls for the parameters of a defense or an attack, by the names of the controls."""
    state: dict[str, Any] = {}
    for key, declared in made.parameters().items():
        value, name = getattr(made, key), f"{prefix}{made.name}_{key}"
        if declared.optional:
            state[f"{name}_auto"] = value is None
        if value is not None:
            state[name] = value
    return state
